// Products that normalise their rows on the way, on the host against the CPU in double.
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include <kn/cuda_eval/executor.h>

#include "check.h"
#include "codegen/emit.h"
#include "cuda_eval/product_bounds.h"
#include "executor/kernels.h"
#include "lower/product_tiles.h"

namespace kn::test {

namespace {

using cuda::ProductTiles;

cuda::Plan plan_in(const Graph& graph, const std::optional<ProductTiles>& tiles) {
    return plan_in_tiles(graph, cuda::forced_tiles(), tiles, 4);
}

constexpr double of_peak(DType dtype) {
    return product_bounds[dtype == DType::F16 ? 2 : 3].of_peak;
}

/// That the product is the only step, and right for these inputs.
void expect_right(const Graph& graph, const ProductTiles& tiles, double bound,
                  const std::vector<Tensor>& inputs) {
    SCOPED_TRACE(to_string(tiles));
    const cuda::Plan plan = plan_in(graph, tiles);
    ASSERT_EQ(step_names(plan), std::vector<std::string>{"tensor_product"}) << plan.to_string();
    const Tensor got = cuda::run_plan_on_host(plan, inputs).at(0);
    const Tensor exact = cpu::run(to_precision(graph, DType::F64), inputs).at(0);
    const auto difference = testing::compare(got.cast(DType::F32), exact.cast(DType::F32),
                                             {.rtol = 0, .atol_of_peak = bound});
    EXPECT_TRUE(difference.equal) << difference.message << "\n" << plan.to_string();
}

void expect_right(const Graph& graph, const ProductTiles& tiles, DType dtype) {
    expect_right(graph, tiles, of_peak(dtype), random_inputs(graph));
}

constexpr std::int64_t width = 136;  // not whole slabs

enum class Kind { Rms, Layer, Bare };

Var normalized(Kind kind, Var x) {
    Graph& graph = *x.graph;
    const DType dtype = x.dtype();
    const std::int64_t k = x.shape().dims().back().value();
    if (kind == Kind::Rms) return rms_norm(x, weight(graph, {k}, dtype, 3));
    if (kind == Kind::Layer)
        return layer_norm(x, weight(graph, {k}, dtype, 3), weight(graph, {k}, dtype, 4));
    const auto last = static_cast<std::int64_t>(x.shape().rank()) - 1;
    return normalize(NormKind::MeanVariance, x, {last}, 1e-5);
}

/// Rows of three axes; several products of them, which become one.
Graph layer(Kind kind, DType dtype) {
    Graph graph;
    const Var x = normalized(kind, graph.input("x", dtype, Shape::of({3, 61, width})));
    const Var q = linear(x, weight(graph, {width, 88}, dtype), weight(graph, {88}, dtype));
    const Var k = linear(x, weight(graph, {width, 56}, dtype, 2), weight(graph, {56}, dtype, 5));
    graph.output("y", concat({q, k}, 2));
    return graph;
}

Graph transposed(Kind kind, DType dtype) {
    Graph graph;
    const Var x = normalized(kind, graph.input("x", dtype, Shape::of({150, width})));
    graph.output("y", silu(matmul(x, transpose(weight(graph, {140, width}, dtype)))));
    return graph;
}

Graph residual(Kind kind, DType dtype) {
    Graph graph;
    const Var x = graph.input("x", dtype, Shape::of({150, width}));
    graph.output("y", relu(matmul(normalized(kind, x), weight(graph, {width, width}, dtype)) + x));
    return graph;
}

Graph gated(Kind kind, DType dtype) {
    Graph graph;
    const Var x = normalized(kind, graph.input("x", dtype, Shape::of({2, 75, width})));
    const Var y = linear(x, weight(graph, {width, 400}, dtype), weight(graph, {400}, dtype, 2));
    graph.output("y", slice(y, 2, 0, 200) * gelu(slice(y, 2, 200, 400)));
    return graph;
}

class NormalizedProducts : public ::testing::TestWithParam<ProductTiles> {};

TEST_P(NormalizedProducts, EachKindOfNormalisation) {
    for (const DType dtype : {DType::F16, DType::BF16})
        for (const Kind kind : {Kind::Rms, Kind::Layer, Kind::Bare})
            expect_right(transposed(kind, dtype), GetParam(), dtype);
}

TEST_P(NormalizedProducts, WhatIsBehindThem) {
    for (const Kind kind : {Kind::Rms, Kind::Layer}) {
        expect_right(residual(kind, DType::F16), GetParam(), DType::F16);
        if (GetParam().staged && GetParam().columns % 128 == 0)
            expect_right(gated(kind, DType::F16), GetParam(), DType::F16);
    }
}

// Means that are large beside the deviation, in the row's first element or in all; deviations that
// epsilon is large beside; rows of one number, of zeros.
TEST_P(NormalizedProducts, UnevenRows) {
    const Graph graph = transposed(Kind::Layer, DType::F16);
    Tensor x = random_inputs(graph).at(0).cast(DType::F32);
    const auto elements = x.mutable_data<float>();
    for (std::size_t row = 0; row < 150; ++row)
        for (std::size_t k = 0; k < width; ++k) {
            float& element = elements[row * width + k];
            switch (row % 8) {
                case 0: element = 50 + element; break;
                case 1: element = k == 0 ? 300 : element; break;
                case 2: element = 1e-3f * element; break;
                case 3: element = -7; break;
                case 4: element = 0; break;
                case 5: element = k == 0 ? -2000 : 10 + 0.1f * element; break;
                case 6: element = 1000 + element; break;
                default: break;
            }
        }
    expect_right(graph, GetParam(), of_peak(DType::F16), {x.cast(DType::F16)});
}

INSTANTIATE_TEST_SUITE_P(
    , NormalizedProducts,
    ::testing::Values(
        ProductTiles{.rows = 64, .columns = 32, .groups = 1, .stages = 2, .blocks = 4},
        ProductTiles{.rows = 256, .columns = 128, .stages = 3, .blocks = 1, .chunk = 64},
        ProductTiles{.rows = 64, .columns = 80, .groups = 1, .share_w = 2, .chunk = 16},
        ProductTiles{.rows = 64, .columns = 128, .groups = 1, .stages = 2, .staged = true},
        ProductTiles{.rows = 128, .columns = 256, .stages = 2, .blocks = 1, .staged = true},
        ProductTiles{
            .rows = 128, .columns = 128, .stages = 4, .blocks = 1, .staged = true, .turns = true}),
    name_of_tiles);

constexpr ProductTiles some_tiles{
    .rows = 64, .columns = 128, .groups = 1, .stages = 2, .staged = true};

TEST(NormalizedProduct, RowsOfSeveralAxesAndMergedProducts) {
    for (const Kind kind : {Kind::Rms, Kind::Layer}) {
        const Graph graph = layer(kind, DType::F16);
        const cuda::Plan plan = plan_in(graph, some_tiles);
        EXPECT_EQ(plan.steps.at(0).name, "tensor_product") << plan.to_string();
        expect_as_in_double(plan, graph, of_peak(DType::F16));
    }
}

// As the CPU has it: what is no number reaches its row and no other.
TEST(NormalizedProduct, InfinitiesAndNaNs) {
    for (const Kind kind : {Kind::Rms, Kind::Layer}) {
        const Graph graph = transposed(kind, DType::F16);
        Tensor x = random_inputs(graph).at(0).cast(DType::F32);
        const auto elements = x.mutable_data<float>();
        elements[3 * width + 5] = std::numeric_limits<float>::quiet_NaN();
        elements[9 * width] = std::numeric_limits<float>::infinity();
        const std::vector<Tensor> inputs{x.cast(DType::F16)};
        const Tensor got = cuda::run_plan_on_host(plan_in(graph, some_tiles), inputs).at(0);
        const Tensor expected = cpu::run(graph, inputs).at(0);
        for (std::int64_t i = 0; i < got.size(); ++i)
            EXPECT_EQ(std::isnan(got.at(i)), std::isnan(expected.at(i))) << "at " << i;
    }
}

TEST(NormalizedProduct, Compiles) {
    for (const Kind kind : {Kind::Rms, Kind::Layer})
        for (const DType dtype : {DType::F16, DType::BF16}) {
            const cuda::Plan plan = plan_in(gated(kind, dtype), some_tiles);
            ASSERT_EQ(plan.kernels.size(), 1u);
            EXPECT_NO_THROW(cuda::compile_kernels(
                plan.kernels, {.arch = "sm_90", .prelude = cuda::kernel_prelude()}));
        }
}

// On the GPU, in every tile that may be chosen.
TEST(GpuNormalizedProducts, EveryTile) {
    if (cuda::device_count() == 0) GTEST_SKIP() << cuda::why_unavailable();
    const cuda::Device device(0);
    for (const Kind kind : {Kind::Rms, Kind::Layer}) {
        const Graph graph = residual(kind, DType::F16);
        const std::vector<Tensor> inputs = random_inputs(graph);
        const Tensor exact = cpu::run(to_precision(graph, DType::F64), inputs).at(0);
        cuda::TensorProduct product;
        product.m = 150;
        product.n = product.k = width;
        product.before = true;
        product.statistics =
            kind == Kind::Rms ? cuda::RowStatistics::MeanSquare : cuda::RowStatistics::Variance;
        for (const bool staged : {false, true})
            for (const ProductTiles& tiles :
                 cuda::sensible_tiles(product, device.properties(), staged)) {
                SCOPED_TRACE(to_string(tiles));
                const auto plan = std::make_shared<const cuda::Plan>(plan_in(graph, tiles));
                EXPECT_EQ(step_names(*plan), std::vector<std::string>{"tensor_product"});
                const Tensor got = cuda::Executor(plan, device).run(inputs).at(0);
                const auto difference =
                    testing::compare(got.cast(DType::F32), exact.cast(DType::F32),
                                     {.rtol = 0, .atol_of_peak = of_peak(DType::F16)});
                EXPECT_TRUE(difference.equal) << difference.message;
            }
    }
}

}  // namespace

}  // namespace kn::test
