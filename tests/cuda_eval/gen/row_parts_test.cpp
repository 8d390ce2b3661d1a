// Few long rows, on the host: parts of rows reduced by many blocks and put together.
#include <algorithm>
#include <cmath>

#include "check.h"

namespace kn::test {

namespace {

std::size_t count_steps(const cuda::Plan& plan, const std::string& name) {
    return static_cast<std::size_t>(std::ranges::count(plan.steps, name, &cuda::Step::name));
}

/// Groups of channels as ONNX exports them, with what follows in diffusion networks. `last`: the
/// image's channels are innermost in memory.
Graph group_norm(const Ints& shape, std::int64_t groups, DType dtype, bool last) {
    Graph g;
    Ints stored = shape;
    if (last) {
        std::rotate(stored.begin() + 1, stored.begin() + 2, stored.end());
    }
    Var x = g.input("x", dtype, Shape::of(stored));
    const std::int64_t rest = x.shape().size().value() / shape[0] / groups;
    Ints to_first{0, static_cast<std::int64_t>(shape.size()) - 1}, to_last{0};
    for (std::size_t i = 1; i + 1 < shape.size(); ++i)
        to_first.push_back(static_cast<std::int64_t>(i));
    for (std::size_t i = 2; i < shape.size(); ++i) to_last.push_back(static_cast<std::int64_t>(i));
    to_last.push_back(1);
    if (last) x = permute(x, to_first);
    const Var rows = reshape(x, {shape[0], groups, rest});
    Var y =
        reshape(g.var(g.add(op::Norm{NormKind::MeanVariance, rows, {2}, 1e-5})), Shape::of(shape));
    Ints channels(shape.size(), 1);
    channels[1] = shape[1];
    const Var scale = weight(g, channels, dtype);
    y = unary(UnaryOp::Silu, y * broadcast_to(scale, Shape::of(shape)) + 1);
    g.output("y", last ? permute(y, to_last) : y);
    return g;
}

struct GroupCase {
    Ints shape;
    std::int64_t groups;
    DType dtype = DType::F32;
};

void PrintTo(const GroupCase& c, std::ostream* out) {
    *out << ::testing::PrintToString(c.shape) << " in " << c.groups << " groups "
         << name_of(c.dtype);
}

class GroupNormInParts : public ::testing::TestWithParam<GroupCase> {};

TEST_P(GroupNormInParts, BothLayouts) {
    const GroupCase& c = GetParam();
    for (const bool last : {false, true}) {
        SCOPED_TRACE(last ? "channels last" : "channels first");
        const auto plan = expect_same(group_norm(c.shape, c.groups, c.dtype, last));
        EXPECT_EQ(count_steps(plan, "row_parts"), 1u);
        EXPECT_EQ(plan.steps.size(), 2u);
    }
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, GroupNormInParts,
    ::testing::Values(GroupCase{{2, 320, 32, 32}, 32, DType::F16},
                      GroupCase{{1, 64, 31, 33}, 4, DType::BF16}, GroupCase{{2, 24, 64, 64}, 3},
                      GroupCase{{1, 18, 65, 63}, 2}, GroupCase{{1, 36, 37, 41}, 4, DType::F16},
                      GroupCase{{3, 7, 81, 80}, 1}, GroupCase{{1, 20, 24, 25}, 2, DType::F64},
                      GroupCase{{2, 8, 12, 20, 11}, 2}));

struct LongCase {
    Ints shape, axes;
    DType dtype = DType::F32;
};

void PrintTo(const LongCase& c, std::ostream* out) {
    *out << ::testing::PrintToString(c.shape) << " over " << ::testing::PrintToString(c.axes) << " "
         << name_of(c.dtype);
}

class FewLongRows : public ::testing::TestWithParam<LongCase> {
  protected:
    Graph g;
    Var x = g.input("x", GetParam().dtype, Shape::of(GetParam().shape));
    const Ints& axes() const { return GetParam().axes; }
    void in_parts(std::size_t reductions = 1) {
        EXPECT_EQ(count_steps(expect_same(g), "row_parts"), reductions);
    }
};

TEST_P(FewLongRows, Reduce) {
    std::size_t count = 0;
    for (const ReduceOp op : {ReduceOp::Sum, ReduceOp::Mean, ReduceOp::Max, ReduceOp::Min}) {
        if (op == ReduceOp::Mean && !is_float(x.dtype())) continue;
        g.output("y" + std::to_string(count++), g.var(g.add(op::Reduce{op, x, axes()})) + 1);
    }
    in_parts(count);
}

TEST_P(FewLongRows, Normalise) {
    if (!is_float(x.dtype())) GTEST_SKIP() << "integers have no norm";
    g.output("y", g.var(g.add(op::Norm{NormKind::MeanVariance, x * 3 + 2, axes(), 1e-5})) + x);
    g.output("z", g.var(g.add(op::Norm{NormKind::MeanSquare, x, axes(), 1e-5})));
    in_parts(2);
}

TEST_P(FewLongRows, ReductionBesideItsRow) {
    if (!is_float(x.dtype())) GTEST_SKIP() << "integers have no mean";
    const Var mean = reduce(ReduceOp::Mean, x, axes(), true);
    g.output("y", x - broadcast_to(mean, x.shape()));
    in_parts();
}

TEST_P(FewLongRows, Softmax) {
    if (!is_float(x.dtype()) || axes().size() > 1)
        GTEST_SKIP() << "a softmax has one axis of floats";
    g.output("y", g.var(g.add(op::Softmax{x * 2, axes()[0], false})));
    g.output("z", g.var(g.add(op::Softmax{x, axes()[0], true})));
    in_parts(2);
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, FewLongRows,
    ::testing::Values(LongCase{{1, 40001}, {1}}, LongCase{{10000}, {0}}, LongCase{{3, 4097}, {1}},
                      LongCase{{2, 65536}, {1}, DType::F16}, LongCase{{50000, 3}, {0}},
                      LongCase{{5000, 24}, {0}, DType::BF16}, LongCase{{4, 70, 90}, {1, 2}},
                      LongCase{{70, 5, 90}, {0, 2}, DType::F16},
                      LongCase{{7, 30000}, {1}, DType::I32},
                      LongCase{{1, 5000, 1, 8}, {1, 3}, DType::F64}));

TEST(RowParts, MeanFarFromZero) {
    for (const DType dtype : {DType::F32, DType::BF16})
        for (const Ints& axes : {Ints{1}, Ints{0}}) {
            Graph g;
            const Ints shape = axes[0] == 1 ? Ints{3, 30000} : Ints{30000, 3};
            const Var x = g.input("x", dtype, Shape::of(shape));
            const Var wide = cast(x, DType::F32) + 1000;
            g.output("y", g.var(g.add(op::Norm{NormKind::MeanVariance, wide, axes, 1e-5})));
            const auto plan = cuda::plan(g, h200());
            EXPECT_EQ(count_steps(plan, "row_parts"), 1u);
            const auto inputs = random_inputs(g, {}, 3);
            Graph exact;
            const Var e = exact.input("x", dtype, Shape::of(shape));
            exact.output("y",
                         exact.var(exact.add(op::Norm{NormKind::MeanVariance,
                                                      cast(e, DType::F64) + 1000, axes, 1e-5})));
            const Tensor expected = cpu::run(exact, inputs)[0];
            const Tensor got = cuda::run_plan_on_host(plan, inputs)[0];
            // Of numbers near 1000 a float32 keeps 3e-5.
            for (std::int64_t i = 0; i < got.size(); ++i)
                ASSERT_NEAR(got.at(i), expected.at(i), 2e-4) << "element " << i;
        }
}

// An element far away must not cost the others their digits, wherever it is.
TEST(RowParts, AnOutlierInFront) {
    Graph g;
    const Var x = g.input("x", DType::F32, {2, 20000});
    g.output("y", g.var(g.add(op::Norm{NormKind::MeanVariance, x, {1}, 1e-5})));
    auto inputs = random_inputs(g, {}, 4);
    inputs[0].mutable_data<float>()[0] = 1e4f;
    const Tensor expected = cpu::run(g, inputs)[0];
    const Tensor got = cuda::run_plan_on_host(cuda::plan(g, h200()), inputs)[0];
    const auto difference = testing::compare(got, expected, testing::default_tolerance(DType::F32));
    EXPECT_TRUE(difference.equal) << difference.message;
}

TEST(RowParts, SoftmaxWithMaskedElements) {
    Graph g;
    const Var x = g.input("x", DType::F32, {3, 9000});
    g.output("y", g.var(g.add(op::Softmax{x, 1, false})));
    auto inputs = random_inputs(g, {}, 5);
    auto data = inputs[0].mutable_data<float>();
    for (std::size_t i = 0; i < 9000; ++i)
        if (i < 5000 || i % 3 == 0) data[i] = -INFINITY;
    const Tensor expected = cpu::run(g, inputs)[0];
    const Tensor got = cuda::run_plan_on_host(cuda::plan(g, h200()), inputs)[0];
    const auto difference = testing::compare(got, expected, testing::default_tolerance(DType::F32));
    EXPECT_TRUE(difference.equal) << difference.message;
}

std::string decision_of(const cuda::Plan& plan, bool taken) {
    std::string reasons;
    for (const cuda::Decision& decision : plan.decisions)
        if (decision.rule == "rows in parts" && decision.taken == taken) reasons += decision.reason;
    return reasons;
}

TEST(RowParts, RuleSaysWhy) {
    Graph few, many;
    const Var x = few.input("x", DType::F32, {4, 16384}),
              y = many.input("x", DType::F32, {4096, 8192});
    few.output("y", reduce(ReduceOp::Sum, x, {1}, false));
    many.output("y", reduce(ReduceOp::Sum, y, {1}, false));
    EXPECT_EQ(decision_of(cuda::plan(few, h200()), true),
              "4 rows of 16384 elements on 132 multiprocessors");
    EXPECT_EQ(decision_of(cuda::plan(many, h200()), false),
              "4096 rows of 8192 elements on 132 multiprocessors");
    cuda::PlanOptions options;
    options.disabled_rules = {"rows in parts"};
    EXPECT_EQ(cuda::plan(few, h200(), options).steps.size(), 1u);
}

// One reduction after the other: the whole row at once, with the reason in the step.
TEST(RowParts, DependentReductionsStayWhole) {
    Graph g;
    const Var x = g.input("x", DType::F32, {2, 10000});
    const Var e =
        unary(UnaryOp::Exp, x - broadcast_to(reduce(ReduceOp::Max, x, {1}, true), x.shape()));
    g.output("y", e / broadcast_to(reduce(ReduceOp::Sum, e, {1}, true), x.shape()));
    const auto plan = expect_same(g);
    ASSERT_EQ(plan.steps.size(), 1u);
    EXPECT_NE(plan.steps[0].reason.find("one reduction needs another's result"), std::string::npos)
        << plan.steps[0].reason;
}

}  // namespace

}  // namespace kn::test
