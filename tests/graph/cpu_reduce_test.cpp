// Reductions, softmax and normalisation against sums written out in double; long sums keep their
// digits.
#include <fmt/core.h>

#include "cpu_support.h"

namespace kn::test {
namespace {

/// The elements of x that a reduction over `axes` folds into result `o`.
std::vector<double> elements(const Tensor& x, const Ints& axes, const Ints& o) {
    std::vector<double> out;
    Ints counts;
    for (std::int64_t a : axes) counts.push_back(x.shape()[static_cast<std::size_t>(a)]);
    each_index(counts, [&](const Ints& r) {
        Ints index;
        std::size_t from_o = 0, from_r = 0;
        for (std::size_t a = 0; a < x.rank(); ++a)
            index.push_back(from_r < axes.size() && axes[from_r] == static_cast<std::int64_t>(a)
                                ? r[from_r++]
                                : o[from_o++]);
        out.push_back(at(x, index));
    });
    return out;
}

Ints without(const Ints& shape, const Ints& axes) {
    Ints out;
    for (std::size_t a = 0; a < shape.size(); ++a)
        if (std::find(axes.begin(), axes.end(), static_cast<std::int64_t>(a)) == axes.end())
            out.push_back(shape[a]);
    return out;
}

double fold(ReduceOp op, const std::vector<double>& x) {
    double sum = 0, product = 1, most = -INFINITY, least = INFINITY;
    for (double v : x) {
        sum += v;
        product *= v;
        most = std::isnan(v) ? v : v <= most ? most : std::isnan(most) ? most : v;
        least = std::isnan(v) ? v : v >= least ? least : std::isnan(least) ? least : v;
    }
    switch (op) {
        case ReduceOp::Sum: return sum;
        case ReduceOp::Mean: return sum / static_cast<double>(x.size());
        case ReduceOp::Prod: return product;
        case ReduceOp::Max: return most;
        case ReduceOp::Min: return least;
    }
    return 0;
}

constexpr ReduceOp all_ops[] = {ReduceOp::Sum, ReduceOp::Mean, ReduceOp::Prod, ReduceOp::Max,
                                ReduceOp::Min};

TEST(CpuReduce, AllAxesAndStrides) {
    for (DType dtype : {DType::F32, DType::F64, DType::F16, DType::BF16, DType::I8, DType::U16,
                        DType::I32, DType::I64, DType::Bool})
        for (ReduceOp op : all_ops)
            for (const Ints& axes : std::vector<Ints>{{}, {0}, {1}, {2}, {0, 2}, {1, 2}, {0, 1, 2}})
                for (Strides strides : all_strides) {
                    if (op == ReduceOp::Mean && !is_float(dtype)) continue;
                    if (dtype == DType::Bool && op != ReduceOp::Max && op != ReduceOp::Min)
                        continue;
                    if (op == ReduceOp::Prod && !is_float(dtype)) continue;
                    SCOPED_TRACE(fmt::format("{} op {} axes {}", name_of(dtype),
                                             static_cast<int>(op), Shape::of(axes).to_string()));
                    const bool product = op == ReduceOp::Prod;
                    const Tensor x = random(dtype, {3, 11, 37}, 5,
                                            is_unsigned_int(dtype) || dtype == DType::Bool ? 0
                                            : product                                      ? 0.99
                                                                                           : -1,
                                            dtype == DType::Bool ? 2
                                            : product            ? 1.01
                                                                 : 1.2);
                    Case c;
                    const Tensor y = c.run(reduce(op, c.operand(x, strides), axes));
                    expect_each(y, without(x.shape(), axes), tolerance(dtype), [&](const Ints& o) {
                        const double result = fold(op, elements(x, axes, o));
                        return dtype == DType::I8
                                   ? static_cast<std::int8_t>(static_cast<int>(result))
                                   : result;
                    });
                }
}

TEST(CpuReduce, OverNothing) {
    const Tensor x(DType::F32, {3, 0});
    const double expected[] = {0, NAN, 1, -INFINITY, INFINITY};
    for (ReduceOp op : all_ops) {
        Case c;
        const Tensor y = c.run(reduce(op, c.input(x), {1}));
        expect_each(y, {3}, 0, [&](const Ints&) { return expected[static_cast<int>(op)]; });
    }
    Case c;
    EXPECT_EQ(c.run(reduce(ReduceOp::Max, c.input(Tensor(DType::I16, {0})), {0})).at(0), -32768);
}

TEST(CpuReduce, NanWins) {
    for (ReduceOp op : {ReduceOp::Max, ReduceOp::Min})
        for (std::int64_t place : {0, 5, 63, 64, 99}) {
            const Tensor x = make(DType::F32, {2, 100}, [&](const Ints& i) {
                return i[0] == 1 && i[1] == place ? NAN : 1.0 * i[1];
            });
            for (Strides strides : {Strides::Plain, Strides::Transposed}) {
                Case c;
                const Tensor y = c.run(reduce(op, c.operand(x, strides), {1}));
                EXPECT_FALSE(std::isnan(y.at(0)));
                EXPECT_TRUE(std::isnan(y.at(1))) << place;
            }
        }
}

TEST(CpuReduce, LongSumsKeepTheirDigits) {
    const std::int64_t n = 1 << 20;
    const Tensor x = make(DType::F32, {n}, [](const Ints& i) { return i[0] % 2 == 0 ? 0.1 : 0.3; });
    const double expected = (static_cast<double>(0.1F) + static_cast<double>(0.3F)) * n / 2;
    for (const Ints& shape : std::vector<Ints>{{n, 1}, {1, n}, {n / 32, 32}}) {
        Case c;
        const Var v = reshape(c.input(x), Shape::of(shape));
        const Tensor y = c.run(sum(sum(v, {0}), {0}));
        EXPECT_NEAR(y.at(0) / expected, 1, 3e-7);
    }
}

TEST(CpuReduce, PoolsAreWindowsReduced) {
    const Tensor x = random(DType::F32, {2, 3, 17, 19}, 1);
    Case c;
    const Tensor y = c.run(max_pool(c.input(x), {3, 2}, {.strides = {2, 3}, .dilations = {1, 2}}));
    expect_each(y, {2, 3, 8, 6}, 0, [&](const Ints& o) {
        double most = -INFINITY;
        each_index({3, 2}, [&](const Ints& k) {
            most = std::max(most, at(x, {o[0], o[1], o[2] * 2 + k[0], o[3] * 3 + k[1] * 2}));
        });
        return most;
    });
}

TEST(CpuArgReduce, FirstOrLastOfEqualOnes) {
    for (DType dtype : {DType::F32, DType::F16, DType::I32, DType::U8})
        for (const bool largest : {true, false})
            for (const bool last : {true, false})
                for (std::int64_t axis : {0, 1, 2}) {
                    const Tensor x = random(dtype, {4, 9, 7}, 3, 0, 4).cast(DType::I32).cast(dtype);
                    Case c;
                    const Tensor y = c.run(c.graph.var(c.graph.add(
                        op::ArgReduce{largest, last, c.operand(x, Strides::Transposed), axis})));
                    expect_each(y, without(x.shape(), {axis}), 0, [&](const Ints& o) {
                        const auto row = elements(x, {axis}, o);
                        std::size_t best = 0;
                        for (std::size_t i = 0; i < row.size(); ++i)
                            if (largest ? row[i] > row[best] : row[i] < row[best])
                                best = i;
                            else if (last && row[i] == row[best])
                                best = i;
                        return static_cast<double>(best);
                    });
                }
}

TEST(CpuSoftmax, EveryAxisAndDtype) {
    for (DType dtype : all_floats)
        for (const bool log : {false, true})
            for (std::int64_t axis : {0, 1, 2})
                for (Strides strides : all_strides) {
                    SCOPED_TRACE(fmt::format("{} axis {} log {}", name_of(dtype), axis, log));
                    const Tensor x = random(dtype, {3, 6, 700}, 2, -4, 4);
                    Case c;
                    const Var v = c.operand(x, strides);
                    const Tensor y = c.run(log ? log_softmax(v, axis) : softmax(v, axis));
                    std::vector<double> totals;
                    each_index(without(x.shape(), {axis}), [&](const Ints& o) {
                        totals.push_back(0);
                        for (double e : elements(x, {axis}, o)) totals.back() += std::exp(e);
                    });
                    expect_each(y, x.shape(), tolerance(dtype), [&](const Ints& i) {
                        Ints o = i;
                        o.erase(o.begin() + axis);
                        const double total =
                            totals[static_cast<std::size_t>(flat(without(x.shape(), {axis}), o))];
                        return log ? at(x, i) - std::log(total) : std::exp(at(x, i)) / total;
                    });
                }
}

TEST(CpuSoftmax, LargeNumbersDoNotOverflow) {
    Case c;
    const Tensor y = c.run(
        softmax(c.input(Tensor::from_span<float>({3}, std::vector<float>{1000, 1000, -1000}))));
    expect_each(y, {3}, 1e-7, [](const Ints& i) { return i[0] < 2 ? 0.5 : 0.0; });
}

TEST(CpuNorm, KindsAxesAndStrides) {
    for (DType dtype : all_floats)
        for (NormKind kind : {NormKind::MeanVariance, NormKind::MeanSquare})
            for (const Ints& axes : std::vector<Ints>{{2}, {1, 2}, {0}, {0, 2}})
                for (Strides strides : all_strides) {
                    SCOPED_TRACE(fmt::format("{} kind {} axes {}", name_of(dtype),
                                             static_cast<int>(kind), Shape::of(axes).to_string()));
                    const Tensor x = random(dtype, {4, 5, 33}, 8, -1, 3);
                    Case c;
                    const Tensor y = c.run(normalize(kind, c.operand(x, strides), axes, 1e-3));
                    expect_each(y, x.shape(), tolerance(dtype), [&](const Ints& i) {
                        const auto row = elements(x, axes, without(i, axes));
                        const double mean =
                            kind == NormKind::MeanVariance ? fold(ReduceOp::Mean, row) : 0;
                        double squares = 0;
                        for (double v : row) squares += (v - mean) * (v - mean);
                        return (at(x, i) - mean) /
                               std::sqrt(squares / static_cast<double>(row.size()) + 1e-3);
                    });
                }
}

TEST(CpuNorm, ALargeMeanCostsNoDigits) {
    const Tensor x = make(DType::F32, {1, 4096}, [](const Ints& i) {
        return 3000 + 0.25 * static_cast<double>(i[1] % 7);
    });
    Case c;
    const Tensor y = c.run(normalize(NormKind::MeanVariance, c.input(x), {1}, 0));
    double mean = 0, squares = 0;
    for (int i = 0; i < 4096; ++i) mean += x.at(i) / 4096;
    for (int i = 0; i < 4096; ++i) squares += (x.at(i) - mean) * (x.at(i) - mean) / 4096;
    expect_each(y, x.shape(), 1e-6,
                [&](const Ints& i) { return (at(x, i) - mean) / std::sqrt(squares); });
}

}  // namespace
}  // namespace kn::test
