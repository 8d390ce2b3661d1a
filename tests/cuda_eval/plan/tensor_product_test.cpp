// Our product kernel: when it is planned, and that it compiles.
#include <fstream>
#include <sstream>

#include <gtest/gtest.h>

#include <kn/cuda_eval/executor.h>
#include <kn/graph/builder.h>
#include <kn/graph/cpu.h>
#include <kn/graph/precision.h>
#include <kn/graph/random.h>
#include <kn/testing/compare.h>

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
    for (const Precision precision : {Precision::F32, Precision::TF32, Precision::F16}) {
        PlanOptions options;
        options.precision = precision;
        const Plan plan = cuda::plan(graph, h200(), options);
        EXPECT_NE(product_step(plan), nullptr) << plan.to_string();
    }
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

// 72 channels are rows of a dense image, but fill no slab of windows: a crop has to be copied
// first.
TEST(TensorProductPlan, OneByOneOfACrop) {
    Graph graph;
    const Var x = graph.input("x", DType::F32, Shape::of({64, 30, 30, 72}));
    const Var crop = slice(permute(relu(x), {0, 3, 1, 2}), 3, 2, 28);
    graph.output("y", conv(crop, weight(graph, {64, 72, 1, 1}), {}, {}));
    graph.output("z", relu(x));
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

struct Bound {
    Precision precision;
    double of_peak;  ///< float32: some roundings; others: those of the inputs' type, summed over k
};
constexpr Bound bounds[] = {{Precision::F32, 1e-6},
                            {Precision::TF32, 2e-3},
                            {Precision::F16, 3e-3},
                            {Precision::BF16, 2e-2}};

/// On the GPU in every precision, against the CPU in double.
void expect_right(const Graph& graph) {
    if (device_count() == 0) GTEST_SKIP() << why_unavailable();
    const std::vector<Tensor> inputs = random_inputs(graph);
    const auto expected = cpu::run(to_precision(graph, DType::F64), inputs);
    for (const Bound& bound : bounds) {
        PlanOptions options;
        options.precision = bound.precision;
        const auto plan =
            std::make_shared<const Plan>(cuda::plan(graph, Device(0).properties(), options));
        if (bound.precision == Precision::F32) EXPECT_NE(product_step(*plan), nullptr);
        const auto got = Executor(plan, Device(0)).run(inputs);
        const auto difference = testing::compare(got.at(0), expected.at(0).cast(DType::F32),
                                                 {.rtol = 0, .atol_of_peak = bound.of_peak});
        EXPECT_TRUE(difference.equal)
            << name_of(bound.precision) << ": " << difference.message << "\n"
            << plan->to_string();
    }
}

TEST(GpuTensorProduct, RowsThatDoNotFillATile) {
    Graph graph;
    const Var x = graph.input("x", DType::F32, Shape::of({1003, 748}));
    graph.output("y", gelu(linear(x, weight(graph, {748, 1030}), weight(graph, {1030}))));
    expect_right(graph);
}

TEST(GpuTensorProduct, WindowsWithPaddingStrideAndDilation) {
    Graph graph;
    const Var x = graph.input("x", DType::F32, Shape::of({17, 64, 37, 29}));
    const Var y = conv(x, weight(graph, {136, 64, 3, 3}), weight(graph, {136}),
                       {.strides = {2, 1}, .dilations = {1, 2}, .pads = {1, 2, 0, 1}});
    graph.output("y", relu(y) * 0.5);
    expect_right(graph);
}

TEST(GpuTensorProduct, ResidualsAndOneByOne) {
    Graph graph;
    const Var x = graph.input("x", DType::F32, Shape::of({9, 64, 40, 40}));
    const Var y = conv(x, weight(graph, {64, 64, 1, 1}), weight(graph, {64}), {});
    graph.output("y", silu(y + x));
    expect_right(graph);
}

}  // namespace
}  // namespace kn::cuda
