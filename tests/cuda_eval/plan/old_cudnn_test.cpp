// Where cuDNN cannot do it, kernels of ours can: run by ctest with tests/fakes/old_cudnn.cpp in front.
#include <algorithm>

#include <kn/cuda_sys/device.h>

#include "cuda_eval/gen/check.h"

namespace kn::test {
namespace {

TEST(OldCudnn, LeavesConvolutionsToKernelsOfOurs) {
    if (cuda::versions().cudnn != 90000) GTEST_SKIP() << "cuDNN is not an old one";
    Graph g;
    Random random(3);
    const auto weight = [&](const Ints& shape) { return g.constant(random_tensor(DType::F32, shape, random)); };
    const Var x = g.input("x", DType::F32, Shape::of({2, 3, 9, 9}));
    g.output("y", relu(conv(x, weight({5, 3, 3, 3}), weight({5}), {.strides = {2, 2}, .pads = {1, 1, 1, 1}})));
    const cuda::Plan plan = expect_same(g);
    for (const cuda::Step& step : plan.steps) EXPECT_FALSE(std::holds_alternative<cuda::CudnnWork>(step.work)) << step.name;
    const auto refused = [&](const cuda::Decision& d) { return d.rule == "convolution" && !d.taken && !d.reason.empty(); };
    EXPECT_TRUE(std::ranges::any_of(plan.decisions, refused)) << plan.to_string();
}

}  // namespace
}  // namespace kn::test
