// TopK, running sums and scatters as kernels, against the CPU.
#include <limits>

#include "special_check.h"

namespace kn::cuda::test {
namespace {

using kn::test::all_strides;

/// Few different values, so that many are equal, with NaN and both zeros.
Tensor with_ties(DType dtype, const Ints& shape, unsigned seed) {
    Tensor x = random(DType::F64, shape, seed, -4, 4);
    std::size_t i = 0;
    for (double& v : x.mutable_data<double>()) {
        v = std::round(v);
        if (is_float(dtype) && i % 17 == 3) v = std::numeric_limits<double>::quiet_NaN();
        if (is_float(dtype) && i % 13 == 5) v = -0.0;
        if (is_float(dtype) && i % 29 == 7) v = -std::numeric_limits<double>::infinity();
        ++i;
    }
    return x.cast(dtype);
}

TEST(Sort, EveryTypeBothWaysWithTies) {
    for (const DType dtype : {DType::F32, DType::F16, DType::BF16, DType::F64, DType::I8, DType::U8,
                              DType::I32, DType::U32, DType::I64, DType::U64})
        for (const bool largest : {true, false}) {
            SCOPED_TRACE(std::string(name_of(dtype)) + (largest ? " largest" : " smallest"));
            Case c;
            const Var x = c.input(with_ties(dtype, {3, 37}, 1));
            const TopKResult y = top_k(x, 20, 1, largest);
            expect_as_cpu(c, {y.values, y.indices}, "sort", 0);
        }
}

TEST(Sort, AxesAndStrides) {
    for (const Strides strides : all_strides)
        for (const std::int64_t axis : {0, 1, 2}) {
            SCOPED_TRACE("axis " + std::to_string(axis) + ", strides " +
                         std::to_string(static_cast<int>(strides)));
            Case c;
            const Var x = c.operand(random(DType::F32, {4, 5, 6}, 2), strides);
            const TopKResult y = top_k(x, 3, axis);
            expect_as_cpu(c, {y.values, y.indices}, "sort", 0);
        }
}

TEST(Sort, OneResultOnly) {
    Case c;
    const TopKResult y = top_k(c.input(random(DType::F32, {2, 50}, 3)), 50, 1);
    expect_as_cpu(c, {y.indices}, "sort", 0);
}

TEST(Sort, LongRowsAreMerged) {
    for (const DType dtype : {DType::F32, DType::I64})
        for (const std::int64_t k : {1, 100, 9001}) {
            SCOPED_TRACE(std::string(name_of(dtype)) + " k " + std::to_string(k));
            Case c;
            const TopKResult y = top_k(c.input(random(dtype, {2, 9001}, 4, -1000, 1000)), k, 1);
            expect_as_cpu(c, {y.values, y.indices}, "sort_merge", 0);
        }
}

TEST(Cumulative, EveryWay) {
    for (const DType dtype : {DType::F32, DType::F16, DType::F64, DType::I32, DType::U8})
        for (const ReduceOp reduce : {ReduceOp::Sum, ReduceOp::Prod})
            for (const std::int64_t length : {7, 1500})
                for (const int way : {0, 1, 2, 3}) {
                    if (dtype != DType::F32 && way != static_cast<int>(length % 4)) continue;
                    SCOPED_TRACE(std::string(name_of(dtype)) + " length " + std::to_string(length) +
                                 " way " + std::to_string(way));
                    Case c;
                    const bool sum = reduce == ReduceOp::Sum;
                    const Var x = c.operand(random(dtype, {2, length, 3}, 5, sum ? -1 : 0.5, 1.5),
                                            Strides::Transposed);
                    const Value y = c.graph.add(op::Cumulative{
                        reduce, x, 1, /*exclusive=*/way % 2 == 1, /*reverse=*/way / 2 == 1});
                    expect_as_cpu(c, {c.graph.var(y)}, "scan", 10 * kn::test::tolerance(dtype));
                }
}

Tensor indices_below(std::int64_t n, const Ints& shape, unsigned seed, DType dtype = DType::I64) {
    return random(dtype, shape, seed, static_cast<double>(-n), static_cast<double>(n));
}

TEST(Scatter, ElementsEveryReduction) {
    for (const DType dtype : {DType::F32, DType::F16, DType::I64, DType::U8})
        for (const auto reduction :
             {ScatterReduction::None, ScatterReduction::Add, ScatterReduction::Mul,
              ScatterReduction::Max, ScatterReduction::Min})
            for (const std::int64_t axis : {0, 1}) {
                if (dtype != DType::F32 && axis == 0) continue;
                SCOPED_TRACE(std::string(name_of(dtype)) + " reduction " +
                             std::to_string(static_cast<int>(reduction)) + " axis " +
                             std::to_string(axis));
                Case c;
                const Var x = c.operand(random(dtype, {5, 6}, 6, 0, 4), Strides::Transposed);
                const Var i = c.input(indices_below(5, {4, 5}, 7));
                const Var u = c.operand(random(dtype, {4, 5}, 8, 0, 4), Strides::Sliced);
                const Value y = c.graph.add(op::ScatterElements{x, i, u, axis, reduction});
                expect_as_cpu(c, {c.graph.var(y)}, "scatter", 0);
            }
}

TEST(Scatter, NdEveryReduction) {
    for (const DType dtype : {DType::F32, DType::BF16, DType::I32})
        for (const auto reduction : {ScatterReduction::None, ScatterReduction::Add,
                                     ScatterReduction::Mul, ScatterReduction::Max})
            for (const std::int64_t length : {1, 2, 3}) {
                if (dtype != DType::F32 && length != 2) continue;
                SCOPED_TRACE(std::string(name_of(dtype)) + " reduction " +
                             std::to_string(static_cast<int>(reduction)) + " coordinates of " +
                             std::to_string(length));
                Case c;
                const Ints shape = {3, 4, 5};
                const Var x = c.input(random(dtype, shape, 9, 0, 4));
                const Var i = c.input(indices_below(3, {2, 7, length}, 10, DType::I32));
                Ints updates = {2, 7};
                updates.insert(updates.end(), shape.begin() + length, shape.end());
                const Var u = c.input(random(dtype, updates, 11, 0, 4));
                const Value y = c.graph.add(op::ScatterNd{x, i, u, reduction});
                expect_as_cpu(c, {c.graph.var(y)}, "scatter", 0);
            }
}

TEST(Scatter, LastOfManyWins) {
    Case c;
    const Var x = c.input(random(DType::F32, {50, 3}, 20));
    const Var i = c.input(indices_below(50, {400, 1}, 21));
    const Var u = c.input(random(DType::F32, {400, 3}, 22));
    const Value nd = c.graph.add(op::ScatterNd{x, i, u, ScatterReduction::None});
    const Var flat = c.input(indices_below(50, {60, 3}, 23));
    const Var updates = c.input(random(DType::F32, {60, 3}, 24));
    const Value elements =
        c.graph.add(op::ScatterElements{x, flat, updates, 0, ScatterReduction::None});
    expect_as_cpu(c, {c.graph.var(nd), c.graph.var(elements)}, "clear", 0);
}

TEST(Scatter, FewUpdatesTakeOneStep) {
    Case c;
    const Var x = c.input(random(DType::F16, {2, 3, 40, 4}, 25));
    const Var i = c.input(indices_below(40, {2, 3, 2, 4}, 26));
    const Var u = c.input(random(DType::F16, {2, 3, 2, 4}, 27));
    const Value y = c.graph.add(op::ScatterElements{x, i, u, 2, ScatterReduction::None});
    const Plan made = expect_as_cpu(c, {c.graph.var(y)}, "scatter", 0);
    EXPECT_EQ(made.steps.size(), 1u) << made.to_string();
    expect_compiles(made);
}

TEST(Scatter, ManyUpdatesAtOnce) {
    for (const DType dtype : {DType::I32, DType::U8, DType::I64})
        for (const auto reduction : {ScatterReduction::Add, ScatterReduction::Max}) {
            SCOPED_TRACE(name_of(dtype));
            Case c;
            const Var x = c.input(random(dtype, {10}, 12, 0, 4));
            const Var i = c.input(indices_below(10, {3000}, 13));
            const Var u = c.input(random(dtype, {3000}, 14, 0, 100));
            const Value y = c.graph.add(op::ScatterElements{x, i, u, 0, reduction});
            expect_as_cpu(c, {c.graph.var(y)}, "scatter", 0);
        }
}

}  // namespace
}  // namespace kn::cuda::test
