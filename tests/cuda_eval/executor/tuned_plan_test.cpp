// Plans whose products have tiles that were timed.
#include <algorithm>

#include <kn/cuda_eval/executor.h>

#include "cuda_eval/on_gpu.h"
#include "cuda_eval/plan/support.h"

namespace kn::test {

TEST(GpuTunedPlan, IsRightAndKnownTheSecondTime) {
    if (cuda::device_count() == 0) GTEST_SKIP() << cuda::why_unavailable();
    Graph graph;
    const Var x = graph.input("x", DType::F32, Shape::of({6, 64, 31, 29}));
    const auto layer = [&](const Var& y) {
        return relu(
            conv(y, weight(graph, {64, 64, 3, 3}), weight(graph, {64}), {.pads = {1, 1, 1, 1}}));
    };
    graph.output("y", layer(layer(x)) + x);
    const cuda::Device device(0);
    const cuda::PlanOptions options{.precision = Precision::F16};
    const auto first = cuda::tuned_plan(graph, device, options);
    const auto second = cuda::tuned_plan(graph, device, options);
    EXPECT_EQ(first->to_string(), second->to_string());
    EXPECT_TRUE(std::ranges::any_of(first->steps,
                                    [](const cuda::Step& step) { return !step.tiles.empty(); }));

    InDouble(graph).expect(*first, product_bounds[2]);
}

}  // namespace kn::test
