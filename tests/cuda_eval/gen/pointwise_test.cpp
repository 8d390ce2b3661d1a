// Kernels of single elements, on the host.
#include <cmath>
#include <numeric>

#include "check.h"

namespace kn::test {

TEST(Pointwise, BroadcastsAndFuses) {
    Graph g;
    const Var x = g.input("x", DType::F32, {5, 7}), y = g.input("y", DType::F32, {7});
    g.output("z", relu(x + y) * 2);
    const auto plan = expect_same(g);
    EXPECT_EQ(plan.steps.size(), 1u);
}

TEST(Pointwise, SiblingsShareAKernel) {
    for (const DType dtype : {DType::F32, DType::F16}) {
        Graph g;
        const Var x = g.input("x", dtype, {7, 33}), y = g.input("y", dtype, {700, 1100});
        g.output("a", relu(x) * 2);
        g.output("b", y + 1);
        g.output("c", x + slice(slice(y, 0, 0, 7), 1, 3, 36));
        const auto plan = expect_same(g);
        EXPECT_EQ(plan.steps.size(), 1u) << plan.to_string();
    }
}

TEST(Pointwise, WhoReadsAnotherIsNoSibling) {
    Graph g;
    const Var x = g.input("x", DType::F32, {8, 16});
    const Var a = exp(x);
    g.output("a", a);
    g.output("b", a + slice(reshape(concat({a, a}, 1), {16, 16}), 0, 0, 8));
    EXPECT_EQ(expect_same(g).steps.size(), 2u);
}

TEST(Pointwise, MovesData) {
    Graph g;
    const Var x = g.input("x", DType::F32, {4, 6, 5});
    const Var p = reshape(permute(x, {2, 0, 1}), {5, 24});
    g.output("a", concat({p, slice(p, 0, 1, 3)}, 0));
    g.output("b", reshape(permute(reshape(x, {4, 2, 3, 5}), {1, 3, 0, 2}), {10, 12}));
    expect_same(g);
}

struct MoveCase {
    Ints shape;
    DType dtype = DType::F32;
};

void PrintTo(const MoveCase& c, std::ostream* out) {
    *out << ::testing::PrintToString(c.shape) << " " << name_of(c.dtype);
}

/// Sizes from one element to those where threads take vectors.
class Moves : public ::testing::TestWithParam<MoveCase> {
  protected:
    Graph g;
    Var x = g.input("x", GetParam().dtype, Shape::of(GetParam().shape));
    Ints shape = GetParam().shape;
    std::int64_t last = static_cast<std::int64_t>(shape.size()) - 1;
};

TEST_P(Moves, Joins) {
    g.output("inner", concat({x, x + x, slice(x, last, 0, shape.back() / 2)}, last));
    g.output("outer", concat({x, x * x}, 0));
    expect_same(g);
}

TEST_P(Moves, Pads) {
    for (const PadMode mode : {PadMode::Constant, PadMode::Edge, PadMode::Reflect, PadMode::Wrap}) {
        std::vector<Dim> before(shape.size(), Dim(0)), after = before;
        before.back() = 1;
        after.front() = mode == PadMode::Reflect ? shape.front() - 1 : 2;
        std::optional<Value> value;
        if (mode == PadMode::Constant) value = scalar(g, x.dtype(), 3);
        g.output("y" + std::to_string(static_cast<int>(mode)),
                 g.var(g.add(op::Pad{x, before, after, mode, value})));
    }
    expect_same(g);
}

TEST_P(Moves, Turns) {
    Ints perm;
    for (std::int64_t axis = last; axis >= 0; --axis) perm.push_back(axis);
    g.output("y", permute(x + x, perm));
    std::vector<Dim> starts(shape.size(), Dim(0));
    Ints steps(shape.size(), 1);
    starts.back() = shape.back() - 1;
    steps.back() = -1;
    g.output("flipped", g.var(g.add(op::Slice{x, starts, steps, x.shape()})));
    expect_same(g);
}

TEST_P(Moves, Broadcasts) {
    const Var row = slice(x, 0, 0, 1), column = slice(x, last, 0, 1);
    g.output("y", x * broadcast_to(row, x.shape()) + broadcast_to(column, x.shape()));
    expect_same(g);
}

TEST_P(Moves, Windows) {
    Ints axes{last};
    const Var windows = g.var(g.add(op::Window{x, axes, {Dim(3)}, {2}, {1}}));
    g.output("y", reduce(ReduceOp::Max, windows, {last + 1}));
    expect_same(g);
}

INSTANTIATE_TEST_SUITE_P(Shapes, Moves,
                         ::testing::Values(MoveCase{{2, 3}}, MoveCase{{3, 5, 7}},
                                           MoveCase{{600, 1024}}, MoveCase{{600, 1024}, DType::F16},
                                           MoveCase{{300, 7, 130}, DType::BF16},
                                           MoveCase{{5, 6, 8}, DType::I64},
                                           MoveCase{{500, 1030}, DType::U8}));

TEST(Pointwise, TransposesThroughTiles) {
    for (const DType dtype : {DType::F32, DType::F16}) {
        Graph g;
        const Var x = g.input("x", dtype, {3, 40, 23, 17});
        g.output("y", relu(permute(x, {0, 2, 3, 1})) + 1);
        const auto plan = expect_same(g);
        ASSERT_EQ(plan.steps.size(), 1u);
        EXPECT_EQ(plan.steps[0].name, "transpose");
    }
}

// Every finite number of a half type: its own function is as good as the rounding of its result.
TEST(Pointwise, GeluOfHalfTypes) {
    for (const DType dtype : {DType::F16, DType::BF16}) {
        std::vector<std::uint16_t> bits(65536);
        std::iota(bits.begin(), bits.end(), std::uint16_t{0});
        const Tensor all = Tensor::wrap(dtype, {65536}, std::as_bytes(std::span(bits)), nullptr);
        Graph g;
        const Var x = g.input("x", dtype, {65536});
        g.output("y", gelu(x));
        const Tensor y = cuda::run_plan_on_host(cuda::plan(g, h200()), {all}).at(0);
        // Half a unit in the last place, and what is too small for the type or its unit.
        const double unit = dtype == DType::F16 ? 0x1p-11 : 0x1p-8;
        for (std::int64_t i = 0; i < 65536; ++i) {
            const double at = all.at(i), exact = at / 2 * std::erfc(-at / std::sqrt(2.0));
            if (!std::isfinite(at)) continue;
            ASSERT_LE(std::abs(y.at(i) - exact), std::abs(exact) * (unit + 3e-5) + 6e-8)
                << name_of(dtype) << " " << at;
        }
    }
}

TEST(Pointwise, OddTypesInTheThread) {
    Graph g;
    const Var a = g.input("a", DType::I32, {2, 5, 6}), b = g.input("b", DType::I32, {2, 6, 4});
    g.output("product", g.var(g.add(op::MatMul{a, b})));
    expect_same(g);
}

}  // namespace kn::test
