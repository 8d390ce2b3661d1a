// Kernels of rows, on the host: every form of sharing rows among threads.
#include "check.h"

namespace kn::test {

struct RowCase {
    Ints shape;
    Ints axes;
    DType dtype = DType::F32;
};

void PrintTo(const RowCase& c, std::ostream* out) {
    *out << ::testing::PrintToString(c.shape) << " over " << ::testing::PrintToString(c.axes) << " "
         << name_of(c.dtype);
}

class Rows : public ::testing::TestWithParam<RowCase> {
  protected:
    Graph g;
    Var x = g.input("x", GetParam().dtype, Shape::of(GetParam().shape));
    void one_step() {
        cuda::PlanOptions whole;
        whole.disabled_rules = {"rows in parts"};
        EXPECT_EQ(expect_same(g, 0, whole).steps.size(), 1u);
    }
};

TEST_P(Rows, Reduces) {
    for (const ReduceOp op : {ReduceOp::Sum, ReduceOp::Max, ReduceOp::Min})
        g.output("y" + std::to_string(static_cast<int>(op)),
                 g.var(g.add(op::Reduce{op, x, GetParam().axes})));
    expect_same(g);
}

TEST_P(Rows, Normalises) {
    g.output("y", g.var(g.add(op::Norm{NormKind::MeanVariance, x * 3 + 2, GetParam().axes, 1e-5})));
    one_step();
}

TEST_P(Rows, SoftmaxAlongLastAxis) {
    g.output("y", g.var(g.add(op::Softmax{x * 2, GetParam().axes.back(), false})) + x);
    one_step();
}

TEST_P(Rows, LogSoftmax) {
    g.output("y", g.var(g.add(op::Softmax{x, GetParam().axes.back(), true})));
    one_step();
}

TEST_P(Rows, ArgMax) {
    for (const bool last : {false, true})
        g.output(last ? "last" : "first",
                 g.var(g.add(op::ArgReduce{!last, last, x, GetParam().axes.back()})));
    expect_same(g);
}

INSTANTIATE_TEST_SUITE_P(
    Forms, Rows,
    ::testing::Values(RowCase{{5, 64}, {1}}, RowCase{{3, 100}, {1}}, RowCase{{7, 197}, {1}},
                      RowCase{{2, 3, 17}, {2}}, RowCase{{4, 1000}, {1}}, RowCase{{2, 4096}, {1}},
                      RowCase{{2, 5000}, {1}}, RowCase{{1, 40001}, {1}}, RowCase{{3, 40, 50}, {1}},
                      RowCase{{2, 64, 7, 7}, {2, 3}}, RowCase{{70, 33}, {0}},
                      RowCase{{2, 8, 9, 10}, {1, 2, 3}}, RowCase{{6, 128}, {1}, DType::F16},
                      RowCase{{6, 96}, {1}, DType::BF16}, RowCase{{3, 300}, {1}, DType::F64}));

TEST(RowsFusion, SoftmaxOfParts) {
    Graph g;
    const Var x = g.input("x", DType::F32, {6, 50});
    const Var e =
        unary(UnaryOp::Exp, x - broadcast_to(reduce(ReduceOp::Max, x, {1}, true), {6, 50}));
    g.output("y", e / broadcast_to(reduce(ReduceOp::Sum, e, {1}, true), {6, 50}));
    EXPECT_EQ(expect_same(g).steps.size(), 1u);
}

// The result's axis suits vectors, the reduced one does not.
TEST(RowsFusion, ReducedRowsOfAnotherLength) {
    Graph g;
    const Var mask = g.input("mask", DType::F32, {4, 18});
    const Var x = g.input("x", DType::F32, {2, 3, 4, 8});
    const Var sums = reduce(ReduceOp::Max, mask, {1}, true);
    g.output("y", x * broadcast_to(reshape(sums, {1, 1, 4, 1}), {2, 3, 4, 8}));
    expect_same(g);
}

TEST(RowsFusion, OfTransposedOperand) {
    Graph g;
    const Var x = g.input("x", DType::F32, {50, 60});
    g.output("y", g.var(g.add(op::Softmax{permute(x, {1, 0}), 1, false})));
    EXPECT_EQ(expect_same(g).steps.size(), 1u);
}

TEST(RowsFusion, RowsThatDoNotFitAreStored) {
    Graph g;
    const Var x = g.input("x", DType::F32, {40, 60});
    const Var rows = reduce(ReduceOp::Sum, x, {1}, true),
              columns = reduce(ReduceOp::Sum, x, {0}, true);
    g.output("y", x / broadcast_to(rows, {40, 60}) + x / broadcast_to(columns, {40, 60}));
    expect_same(g);
}

/// Groups of channels, as ONNX exports them: over a Reshape.
Var group_norm(Var x, std::int64_t groups) {
    const Ints shape = x.shape().to_ints();
    Graph& g = *x.graph;
    const std::int64_t rest = x.shape().size().value() / shape[0] / groups;
    const Var rows = reshape(x, {shape[0], groups, rest});
    return reshape(g.var(g.add(op::Norm{NormKind::MeanVariance, rows, {2}, 1e-5})),
                   Shape::of(shape));
}

TEST(RowsFusion, GroupNorm) {
    Graph g;
    const Var x = g.input("x", DType::F32, {2, 12, 5, 6});
    const Var scale = weight(g, {1, 12, 1, 1});
    g.output("y", unary(UnaryOp::Silu, group_norm(x, 4) * scale + 1));
    const auto plan = expect_same(g);
    ASSERT_EQ(plan.steps.size(), 1u);
    // A row for each group, not one for each channel.
    EXPECT_EQ(std::get<cuda::KernelWork>(plan.steps[0].work).grid.x, 2 * 4 / 4u);
}

TEST(RowsFusion, GroupNormOfChannelsLast) {
    Graph g;
    const Var x = g.input("x", DType::F16, {2, 9, 8, 12});
    const Var y = group_norm(permute(x, {0, 3, 1, 2}), 3);
    g.output("y", permute(unary(UnaryOp::Silu, y), {0, 2, 3, 1}));
    EXPECT_EQ(expect_same(g).steps.size(), 1u);
}

TEST(RowsFusion, LongGroups) {
    Graph g;
    const Var x = g.input("x", DType::F32, {1, 8, 64, 80});
    g.output("y", group_norm(x, 2));
    cuda::PlanOptions whole;
    whole.disabled_rules = {"rows in parts"};
    EXPECT_EQ(expect_same(g, 0, whole).steps.size(), 1u);
}

}  // namespace kn::test
