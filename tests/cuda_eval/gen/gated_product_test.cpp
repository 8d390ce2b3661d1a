// Both halves of a product's columns meet in its kernel, on the host against the CPU in double; and
// when they do not.
#include <algorithm>

#include <kn/cuda_eval/executor.h>
#include <kn/graph/precision.h>

#include "check.h"
#include "codegen/emit.h"
#include "cuda_eval/product_bounds.h"
#include "executor/kernels.h"
#include "lower/product_tiles.h"

namespace kn::test {

namespace {

using cuda::ProductTiles;

cuda::Plan plan_in(const Graph& graph, const std::optional<ProductTiles>& tiles,
                   const cuda::PlanOptions& options = {.precision = Precision::F16}) {
    return plan_in_tiles(graph, cuda::forced_tiles(), tiles, 4, options);
}

void expect_right(const Graph& graph, const ProductTiles& tiles, const ProductBound& bound,
                  std::vector<std::string> steps = {"tensor_product"}) {
    SCOPED_TRACE(name_of(bound.precision) + " in " + to_string(tiles));
    const cuda::Plan plan = plan_in(graph, tiles, {.precision = bound.precision});
    ASSERT_EQ(step_names(plan), steps) << plan.to_string();
    expect_as_in_double(plan, graph, bound.of_peak);
}

struct Halves {
    Var first, second;
};

Halves halves(const Var& y) {
    const auto axis = static_cast<std::int64_t>(y.shape().rank()) - 1;
    const std::int64_t columns = y.shape().dims().back().value() / 2;
    return {slice(y, axis, 0, columns), slice(y, axis, columns, 2 * columns)};
}

// Nothing fills a tile; rows of three axes, a bias.
struct Geglu {
    Graph graph;
    Var x;
    Halves y;
    explicit Geglu(DType dtype, std::int64_t columns = 200)
        : x(graph.input("x", dtype, Shape::of({3, 61, 136}))),
          y(halves(linear(x, weight(graph, {136, 2 * columns}, dtype),
                          weight(graph, {2 * columns}, dtype, 2)))) {}
};

Graph geglu(DType dtype, bool gate_first = false) {
    Geglu layer(dtype);
    const auto& [a, b] = layer.y;
    layer.graph.output("y", gate_first ? gelu(a) * b : a * gelu(b));
    return std::move(layer.graph);
}

Graph swiglu(DType dtype) {
    Graph graph;
    const Var x = graph.input("x", dtype, Shape::of({2, 75, 72}));
    const Var gate = linear(x, weight(graph, {72, 144}, dtype)),
              up = linear(x, weight(graph, {72, 144}, dtype, 2));
    graph.output("y", silu(gate) * up);
    return graph;
}

class GatedProducts : public ::testing::TestWithParam<ProductTiles> {};

TEST_P(GatedProducts, HalvesOfALayerWithBias) {
    for (const bool gate_first : {false, true}) {
        expect_right(geglu(DType::F16, gate_first), GetParam(), product_bounds[2]);
        expect_right(geglu(DType::BF16, gate_first), GetParam(), product_bounds[3]);
    }
}

TEST_P(GatedProducts, TwoLayersOfOneInput) {
    expect_right(swiglu(DType::F16), GetParam(), product_bounds[2]);
    expect_right(swiglu(DType::BF16), GetParam(), product_bounds[3]);
}

// One more tensor goes through shared memory; what is not of y's form is read.
TEST_P(GatedProducts, MoreBehindThem) {
    Geglu layer(DType::F16);
    const auto& [a, b] = layer.y;
    const Var r = layer.graph.input("r", DType::F16, Shape::of({3, 61, 200}));
    const Var row = layer.graph.input("row", DType::F16, Shape::of({3, 61, 1}));
    layer.graph.output("y", relu(tanh(a) * sigmoid(b) * row + r) - b * 0.5);
    expect_right(layer.graph, GetParam(), product_bounds[2]);
}

TEST_P(GatedProducts, ConvolutionsOverTheirChannels) {
    Graph graph;
    const Var x = permute(graph.input("x", DType::F16, Shape::of({2, 13, 11, 64})), {0, 3, 1, 2});
    const Var y = conv(x, weight(graph, {176, 64, 3, 3}, DType::F16),
                       weight(graph, {176}, DType::F16), {.pads = {1, 1, 1, 1}});
    graph.output("y",
                 permute(tanh(slice(y, 1, 0, 88)) * sigmoid(slice(y, 1, 88, 176)), {0, 2, 3, 1}));
    expect_right(graph, GetParam(), product_bounds[2], {"tensor_conv"});
}

TEST_P(GatedProducts, AResultThatLiesOtherwiseIsCopied) {
    Graph graph;
    const Var x = graph.input("x", DType::F16, Shape::of({130, 72}));
    const auto [a, b] = halves(matmul(x, weight(graph, {72, 272}, DType::F16)));
    graph.output("y", permute(a * gelu(b), {1, 0}));
    expect_right(graph, GetParam(), product_bounds[2], {"tensor_product", "transpose"});
}

INSTANTIATE_TEST_SUITE_P(
    , GatedProducts,
    ::testing::Values(
        ProductTiles{.rows = 64, .columns = 128, .groups = 1, .stages = 2, .staged = true},
        ProductTiles{.rows = 128, .columns = 256, .stages = 3, .blocks = 1, .staged = true},
        ProductTiles{.rows = 256, .columns = 128, .stages = 2, .blocks = 1, .staged = true},
        ProductTiles{
            .rows = 128, .columns = 128, .stages = 2, .blocks = 1, .share_w = 2, .staged = true},
        ProductTiles{
            .rows = 128, .columns = 128, .stages = 4, .blocks = 1, .staged = true, .turns = true}),
    name_of_tiles);

constexpr ProductTiles some_tiles{
    .rows = 64, .columns = 128, .groups = 1, .stages = 2, .staged = true};

TEST(GatedProductsInCuda, Compile) {
    const cuda::Plan plan = plan_in(geglu(DType::F16), some_tiles);
    ASSERT_EQ(plan.kernels.size(), 1u);
    EXPECT_NO_THROW(
        cuda::compile_kernels(plan.kernels, {.arch = "sm_90", .prelude = cuda::kernel_prelude()}));
}

// On the GPU, in every tile that may be chosen.
TEST(GpuGatedProducts, EveryTile) {
    if (cuda::device_count() == 0) GTEST_SKIP() << cuda::why_unavailable();
    const cuda::Device device(0);
    cuda::TensorProduct product;
    product.m = 3 * 61;
    product.n = 400;
    product.k = 136;
    product.halves = 2;
    for (const DType dtype : {DType::F16, DType::BF16}) {
        const Graph graph = geglu(dtype);
        const std::vector<Tensor> inputs = random_inputs(graph);
        const auto exact = cpu::run(to_precision(graph, DType::F64), inputs);
        for (const ProductTiles& tiles : cuda::sensible_tiles(product, device.properties(), true)) {
            SCOPED_TRACE(to_string(tiles));
            const auto plan = std::make_shared<const cuda::Plan>(plan_in(graph, tiles));
            EXPECT_EQ(step_names(*plan), std::vector<std::string>{"tensor_product"});
            const Tensor got = cuda::Executor(plan, device).run(inputs).at(0);
            const auto difference = testing::compare(
                got.cast(DType::F32), exact.at(0).cast(DType::F32),
                {.rtol = 0, .atol_of_peak = product_bounds[dtype == DType::F16 ? 2 : 3].of_peak});
            EXPECT_TRUE(difference.equal) << difference.message;
        }
    }
}

// The reason for which the rule left the graph alone.
std::string refusal(const Graph& graph,
                    const cuda::PlanOptions& options = {.precision = Precision::F16}) {
    const cuda::Plan plan = plan_in(graph, some_tiles, options);
    std::string reasons;
    for (const cuda::Decision& decision : plan.decisions) {
        if (decision.rule != "gated product") continue;
        EXPECT_FALSE(decision.taken) << plan.to_string();
        reasons += decision.reason;
    }
    return reasons;
}

TEST(GatedProductsRefused, WhereAHalfIsReadOnceMore) {
    Geglu layer(DType::F16);
    const auto& [a, b] = layer.y;
    layer.graph.output("y", a * gelu(b));
    layer.graph.output("a", a);
    EXPECT_EQ(refusal(layer.graph), "something else reads what lies behind the product");
}

TEST(GatedProductsRefused, WhereRowsAreNotAligned) {
    Geglu layer(DType::F16, 100);
    const auto& [a, b] = layer.y;
    layer.graph.output("y", a * gelu(b));
    EXPECT_EQ(refusal(layer.graph), "rows of the result are not aligned");
}

TEST(GatedProductsRefused, InFloat32) {
    EXPECT_EQ(refusal(geglu(DType::F32), {.precision = Precision::TF32}),
              "results go through the copy engine as half types only");
}

TEST(GatedProductsRefused, WithoutAWeight) {
    Graph graph;
    const Var x = graph.input("x", DType::F16, Shape::of({64, 64}));
    const auto [a, b] = halves(matmul(x, graph.input("w", DType::F16, Shape::of({64, 256}))));
    graph.output("y", a * gelu(b));
    EXPECT_EQ(refusal(graph), "the second operand is no weight");
}

TEST(GatedProductsRefused, WhereTwoProductsMeet) {
    Geglu layer(DType::F16);
    const auto& [a, b] = layer.y;
    const Var z = linear(gelu(layer.x), weight(layer.graph, {136, 200}, DType::F16, 3));
    layer.graph.output("y", a * gelu(b) + z);
    const cuda::Plan plan = plan_in(layer.graph, some_tiles);
    EXPECT_TRUE(std::ranges::any_of(plan.decisions, [](const cuda::Decision& decision) {
        return decision.reason == "several products meet in it";
    })) << plan.to_string();
}

TEST(GatedProductsRefused, OfFewRows) {
    Graph graph;
    const Var x = graph.input("x", DType::F16, Shape::of({64, 1024}));
    const auto [a, b] = halves(matmul(x, weight(graph, {1024, 4096}, DType::F16)));
    graph.output("y", a * gelu(b));
    const cuda::Plan plan = plan_in(graph, {});
    EXPECT_EQ(step_names(plan), (std::vector<std::string>{"matmul", "pointwise"}))
        << plan.to_string();
}

TEST(GatedProductsTaken, OfMany) {
    Graph graph;
    const Var x = graph.input("x", DType::F16, Shape::of({2, 256, 1024}));
    const auto [a, b] = halves(linear(x, weight(graph, {1024, 4096}, DType::F16)));
    graph.output("y", linear(a * gelu(b), weight(graph, {2048, 1024}, DType::F16)));
    const cuda::Plan plan = plan_in(graph, {});
    EXPECT_EQ(step_names(plan), (std::vector<std::string>{"tensor_product", "matmul"}))
        << plan.to_string();
}

// Thirds are no halves, and one half alone meets nothing.
// No tile is filled by more than half.
TEST(GatedProductsTaken, WhateverTheirColumns) {
    for (const std::int64_t half : {72, 136, 264}) {
        Graph graph;
        const Var x = graph.input("x", DType::F16, Shape::of({512, 512}));
        const auto [a, b] = halves(matmul(x, weight(graph, {512, 2 * half}, DType::F16)));
        graph.output("y", a * gelu(b));
        EXPECT_EQ(step_names(cuda::plan(graph, h200())),
                  std::vector<std::string>{"tensor_product"});
    }
}

TEST(GatedProductsRefused, SilentlyWhereThereAreNoTwoHalves) {
    Geglu layer(DType::F16, 96);
    const Var x = layer.graph.input("z", DType::F16, Shape::of({70, 64}));
    const Var y = matmul(x, weight(layer.graph, {64, 192}, DType::F16));
    layer.graph.output("thirds", slice(y, 1, 0, 64) * gelu(slice(y, 1, 64, 128)));
    layer.graph.output("one", gelu(layer.y.first));
    EXPECT_EQ(refusal(layer.graph), "");
}

}  // namespace

}  // namespace kn::test
