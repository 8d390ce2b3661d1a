// Products that start before the kernel in front of them has ended.
#include <gtest/gtest.h>

#include <kn/cuda_eval/executor.h>
#include <kn/graph/builder.h>
#include <kn/graph/random.h>

#include "codegen/emit.h"
#include "cuda_eval/plan/support.h"
#include "executor/kernels.h"
#include "executor/overlap.h"

namespace kn::test {

namespace {

// Residuals, splits, strided windows; each step reads what one or two before it have written.
Graph chain() {
    Graph graph;
    Var y = graph.input("x", DType::F16, Shape::of({4, 128, 14, 14}));
    const auto layer = [&](const Var& x, std::int64_t from, std::int64_t to, std::int64_t kernel) {
        const std::int64_t pad = kernel / 2;
        return conv(x, weight(graph, {to, from, kernel, kernel}, DType::F16) * 0.1,
                    weight(graph, {to}, DType::F16), {.pads = {pad, pad, pad, pad}});
    };
    for (int block = 0; block < 4; block++) {
        const Var inner = relu(layer(relu(layer(y, 128, 256, 1)), 256, 256, 3));
        y = relu(layer(inner, 256, 128, 1) + y);
    }
    graph.output("y", y);
    return graph;
}

}  // namespace

TEST(ProductsThatStartEarly, SayThemselvesWhereTheyWait) {
    cuda::Plan plan = cuda::plan(chain(), h200(), {.precision = Precision::F16});
    std::size_t early = 0;
    for (cuda::PlanKernel& kernel : plan.kernels) {
        kernel = cuda::with_wait(kernel);
        early += kernel.source.find("#define KN_STARTS_EARLY\n") != std::string::npos;
    }
    EXPECT_GT(early, 0u) << plan.to_string();
    EXPECT_EQ(
        cuda::compile_kernels(plan.kernels, {.arch = "sm_90", .prelude = cuda::kernel_prelude()})
            .size(),
        plan.kernels.size());
}

TEST(GpuProductsThatStartEarly, ComputeTheSame) {
    if (cuda::device_count() == 0) GTEST_SKIP() << cuda::why_unavailable();
    const cuda::Device device(0);
    const auto plan = std::make_shared<const cuda::Plan>(
        cuda::plan(chain(), device.properties(), {.precision = Precision::F16}));
    Random random(4);
    cuda::Executor one_by_one(plan, device, {.overlap = cuda::Overlap::None});
    cuda::Executor early(plan, device, {.overlap = cuda::Overlap::All});
    for (int i = 0; i < 50; i++) {
        const Tensor x = random_tensor(DType::F16, {4, 128, 14, 14}, random);
        const auto expected = one_by_one.run({x}), got = early.run({x});
        ASSERT_TRUE(std::ranges::equal(expected.at(0).bytes(), got.at(0).bytes()))
            << "run " << i << " of seed 4\n"
            << plan->to_string();
    }
}

}  // namespace kn::test
