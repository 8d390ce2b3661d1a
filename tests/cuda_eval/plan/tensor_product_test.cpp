// Our product kernel: when it is planned, and that it compiles.
#include <fstream>
#include <sstream>

#include <gtest/gtest.h>

#include <kn/cuda_eval/plan.h>
#include <kn/graph/builder.h>
#include <kn/graph/random.h>

#include "codegen/emit.h"
#include "executor/kernels.h"

namespace kn::cuda {
namespace {

DeviceProperties h200() {
    std::ifstream file(KN_TEST_DATA "/h200.json");
    std::stringstream text;
    text << file.rdbuf();
    return device_properties_from_json(text.str());
}

Var weight(Graph& graph, const Ints& shape) {
    Random random(7);
    return graph.constant(random_tensor(DType::F32, shape, random));
}

/// The only step that is our product, if there is one; all kernels compile.
const Step* product_step(const Plan& plan) {
    compile_kernels(plan.kernels, {.arch = "sm_90", .prelude = kernel_prelude()});
    const Step* found = nullptr;
    for (const Step& step : plan.steps)
        if (step.name.starts_with("tensor_")) found = &step;
    return found;
}

TEST(TensorProductPlan, ALayerIsOneStepWithAllBehindIt) {
    Graph graph;
    const Var x = graph.input("x", DType::F32, Shape::of({8, 128, 768}));
    graph.output("y", gelu(linear(x, weight(graph, {768, 3072}), weight(graph, {3072}))));
    const Plan plan = cuda::plan(graph, h200());
    const Step* step = product_step(plan);
    ASSERT_NE(step, nullptr) << plan.to_string();
    EXPECT_EQ(plan.steps.size(), 1u) << plan.to_string();
    EXPECT_EQ(step->flops, 2ll * 1024 * 768 * 3072);
    EXPECT_EQ(plan.kernels.at(0).arch, "sm_90a");
}

TEST(TensorProductPlan, AConvolutionWithResidualAndActivation) {
    Graph graph;
    const Var x = graph.input("x", DType::F32, Shape::of({32, 64, 28, 28}));
    const Var w = weight(graph, {64, 64, 3, 3});
    const Var y = conv(x, w, weight(graph, {64}), {.pads = {1, 1, 1, 1}});
    graph.output("y", silu(conv(relu(y), w, {}, {.pads = {1, 1, 1, 1}}) + y));
    const Plan plan = cuda::plan(graph, h200());
    EXPECT_NE(product_step(plan), nullptr) << plan.to_string();
}

TEST(TensorProductPlan, StridedWindowsAndSmallImages) {
    Graph graph;
    const Var x = graph.input("x", DType::F32, Shape::of({128, 64, 31, 31}));
    const Var y =
        conv(x, weight(graph, {72, 64, 3, 3}), {}, {.strides = {2, 2}, .pads = {1, 1, 0, 0}});
    graph.output("y", conv(y, weight(graph, {96, 72, 1, 1}), {}, {}));
    const Plan plan = cuda::plan(graph, h200());
    EXPECT_NE(product_step(plan), nullptr) << plan.to_string();
}

TEST(TensorProductPlan, RefusedWhereTheLibrariesAreBetter) {
    Graph graph;
    const Var x = graph.input("x", DType::F32, Shape::of({8, 768}));
    graph.output("y", matmul(x, weight(graph, {768, 768})));
    const Plan small = cuda::plan(graph, h200());
    EXPECT_EQ(product_step(small), nullptr) << small.to_string();
    PlanOptions options;
    options.precision = Precision::F16;
    EXPECT_EQ(product_step(cuda::plan(graph, h200(), options)), nullptr);
}

}  // namespace
}  // namespace kn::cuda
