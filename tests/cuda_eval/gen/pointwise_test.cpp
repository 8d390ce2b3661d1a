// Kernels of single elements, on the host.
#include "check.h"

namespace kn::test {

TEST(Pointwise, BroadcastsAndFuses) {
    Graph g;
    const Var x = g.input("x", DType::F32, {5, 7}), y = g.input("y", DType::F32, {7});
    g.output("z", relu(x + y) * 2);
    const auto plan = expect_same(g);
    EXPECT_EQ(plan.steps.size(), 1u);
}

TEST(Pointwise, MovesData) {
    Graph g;
    const Var x = g.input("x", DType::F32, {4, 6, 5});
    const Var p = reshape(permute(x, {2, 0, 1}), {5, 24});
    g.output("a", concat({p, slice(p, 0, 1, 3)}, 0));
    g.output("b", reshape(permute(reshape(x, {4, 2, 3, 5}), {1, 3, 0, 2}), {10, 12}));
    expect_same(g);
}

}  // namespace kn::test
