// Products and convolutions for Hopper's tensor cores, on the host: tiles, clusters, windows.
#include <algorithm>
#include <cmath>

#include <kn/graph/precision.h>

#include "check.h"
#include "cuda_eval/product_bounds.h"
#include "lower/product_tiles.h"

namespace kn::test {

namespace {

using cuda::ProductTiles;

/// One step of ours, in these tiles where there are some, against the CPU in double.
void expect_right(const Graph& graph, const std::optional<ProductTiles>& tiles,
                  const ProductBound& bound) {
    SCOPED_TRACE(name_of(bound.precision) + (tiles ? " in " + to_string(*tiles) : ""));
    const cuda::Plan plan =
        plan_in_tiles(graph, cuda::forced_tiles(), tiles, 4, {.precision = bound.precision});
    ASSERT_EQ(std::ranges::count_if(
                  plan.steps, [](const auto& step) { return step.name.starts_with("tensor_"); }),
              1)
        << plan.to_string();
    expect_as_in_double(plan, graph, bound.of_peak);
    const bool channels_innermost = graph.get_if<op::Permute>(graph.outputs().front().value);
    if (tiles && tiles->staged && channels_innermost) {
        EXPECT_NE(plan.to_string().find("staged"), std::string::npos) << plan.to_string();
    }
}

// Nothing divides anything.
Graph windows(std::int64_t images = 3) {
    Graph graph;
    const Var x = graph.input("x", DType::F32, Shape::of({images, 96, 11, 9}));
    const Var y = conv(x, weight(graph, {136, 96, 3, 2}), weight(graph, {136}),
                       {.strides = {2, 1}, .dilations = {1, 2}, .pads = {1, 2, 0, 1}});
    graph.output("y", silu(y));
    return graph;
}

Graph layer(std::int64_t rows = 203) {
    Graph graph;
    const Var x = graph.input("x", DType::F32, Shape::of({rows, 168}));
    const Var y = matmul(x, weight(graph, {168, 140})) + weight(graph, {140});
    graph.output("y", gelu(y));
    return graph;
}

Graph residual(std::int64_t images = 2) {
    Graph graph;
    const Var x = graph.input("x", DType::F32, Shape::of({images, 64, 9, 8}));
    graph.output("y", relu(conv(x, weight(graph, {64, 64, 1, 1}), weight(graph, {64}), {}) + x));
    return graph;
}

// Channels innermost: what can go through shared memory by the copy engine.
Graph channels_last(DType dtype, bool residual) {
    Graph graph;
    const auto image = [&](const char* name, std::int64_t channels) {
        return permute(graph.input(name, dtype, Shape::of({3, 17, 13, channels})), {0, 3, 1, 2});
    };
    Var y = conv(image("x", 64), cast(weight(graph, {136, 64, 3, 3}), dtype),
                 cast(weight(graph, {136}), dtype), {.pads = {1, 1, 1, 1}});
    if (residual) y = y + image("r", 136);
    graph.output("y", permute(relu(y), {0, 2, 3, 1}));
    return graph;
}

// A layer's end and what a strided one makes of a larger image.
Graph sum_of_two(DType dtype, std::int64_t kernel, bool channels_last) {
    Graph graph;
    const auto image = [&](const char* name, Ints shape) {
        const Var x = graph.input(name, dtype, Shape::of(std::move(shape)));
        return channels_last ? permute(x, {0, 3, 1, 2}) : x;
    };
    const auto shape = [&](std::int64_t channels, std::int64_t height, std::int64_t width) {
        return channels_last ? Ints{3, height, width, channels} : Ints{3, channels, height, width};
    };
    const std::int64_t pad = kernel / 2;
    const Var y = conv(image("x", shape(72, 9, 7)), weight(graph, {136, 72, kernel, kernel}, dtype),
                       weight(graph, {136}, dtype, 2), {.pads = {pad, pad, pad, pad}});
    const Var also =
        conv(image("also", shape(40, 17, 13)), weight(graph, {136, 40, 1, 1}, dtype, 3),
             weight(graph, {136}, dtype, 4), {.strides = {2, 2}});
    const Var sum = relu(y + also);
    graph.output("y", channels_last ? permute(sum, {0, 2, 3, 1}) : sum);
    return graph;
}

class TensorProducts : public ::testing::TestWithParam<ProductTiles> {};

TEST_P(TensorProducts, WindowsWithPaddingStrideAndDilation) {
    for (const ProductBound& bound : product_bounds)
        if (bound.precision != Precision::F32) expect_right(windows(), GetParam(), bound);
}

TEST_P(TensorProducts, RowsThatDoNotFillATile) {
    if (GetParam().splits > 2) GTEST_SKIP() << "there are fewer slabs of k";
    expect_right(layer(), GetParam(), product_bounds[2]);
}

TEST_P(TensorProducts, TransposedWeight) {
    if (GetParam().splits > 2) GTEST_SKIP() << "there are fewer slabs of k";
    Graph graph;
    const Var x = graph.input("x", DType::F32, Shape::of({130, 168}));
    graph.output("y", gelu(matmul(x, transpose(weight(graph, {140, 168})))));
    expect_right(graph, GetParam(), product_bounds[2]);
}

TEST_P(TensorProducts, Residual) {
    if (GetParam().splits > 1) GTEST_SKIP() << "there are fewer slabs of k";
    expect_right(residual(), GetParam(), product_bounds[2]);
}

TEST_P(TensorProducts, ChannelsInnermost) {
    expect_right(channels_last(DType::F32, true), GetParam(), product_bounds[1]);
    expect_right(channels_last(DType::F32, false), GetParam(), product_bounds[1]);
    expect_right(channels_last(DType::F16, true), GetParam(), product_bounds[2]);
    expect_right(channels_last(DType::F16, false), GetParam(), product_bounds[2]);
    expect_right(channels_last(DType::BF16, true), GetParam(), product_bounds[3]);
}

TEST_P(TensorProducts, SumOfTwo) {
    expect_right(sum_of_two(DType::F32, 1, true), GetParam(), product_bounds[1]);
    expect_right(sum_of_two(DType::F16, 3, true), GetParam(), product_bounds[2]);
    expect_right(sum_of_two(DType::BF16, 3, false), GetParam(), product_bounds[3]);
}

// Each once: groups, pieces of a group, sums that need more registers, stages, clusters that share
// w or k, columns handed out at once, results by the copy engine.
INSTANTIATE_TEST_SUITE_P(
    , TensorProducts,
    ::testing::Values(
        ProductTiles{.rows = 64, .columns = 32, .groups = 1, .stages = 2, .blocks = 4},
        ProductTiles{.rows = 128, .columns = 64, .stages = 3},
        ProductTiles{.rows = 256, .columns = 128, .stages = 3, .blocks = 1, .chunk = 64},
        ProductTiles{.rows = 128, .columns = 192, .stages = 2, .blocks = 1, .chunk = 16},
        ProductTiles{
            .rows = 64, .columns = 80, .groups = 1, .stages = 4, .share_w = 2, .chunk = 16},
        ProductTiles{.rows = 128, .columns = 96, .stages = 3, .blocks = 1, .share_w = 4},
        ProductTiles{.rows = 64, .columns = 64, .groups = 1, .stages = 2, .staged = true},
        ProductTiles{.rows = 256, .columns = 64, .stages = 2, .blocks = 1, .staged = true},
        ProductTiles{.rows = 128, .columns = 128, .stages = 2, .share_w = 2, .staged = true},
        ProductTiles{.rows = 64, .columns = 96, .stages = 3, .blocks = 1, .turns = true},
        ProductTiles{.rows = 128,
                     .columns = 64,
                     .stages = 4,
                     .blocks = 1,
                     .share_w = 2,
                     .staged = true,
                     .turns = true},
        ProductTiles{.rows = 64, .columns = 64, .groups = 1, .stages = 2, .blocks = 1, .splits = 2},
        ProductTiles{.rows = 256, .columns = 64, .stages = 2, .blocks = 1, .splits = 3},
        ProductTiles{.rows = 128, .columns = 48, .stages = 3, .blocks = 1, .splits = 4}),
    name_of_tiles);

TEST(TensorProductsInFloat32, AreAsExact) {
    for (const ProductTiles& tiles :
         {ProductTiles{.rows = 128, .columns = 128, .stages = 3, .blocks = 1},
          ProductTiles{.rows = 64, .columns = 64, .groups = 1, .stages = 2},
          ProductTiles{.rows = 128, .columns = 96, .stages = 2, .blocks = 1, .share_w = 2},
          ProductTiles{
              .rows = 64, .columns = 48, .groups = 1, .stages = 3, .blocks = 1, .splits = 2},
          ProductTiles{.rows = 128, .columns = 128, .stages = 2, .blocks = 1, .staged = true},
          ProductTiles{.rows = 64, .columns = 96, .groups = 1, .stages = 2, .staged = true}}) {
        expect_right(channels_last(DType::F32, true), tiles, product_bounds[0]);
        expect_right(channels_last(DType::F32, false), tiles, product_bounds[0]);
        expect_right(windows(), tiles, product_bounds[0]);
        expect_right(layer(), tiles, product_bounds[0]);
        expect_right(residual(), tiles, product_bounds[0]);
    }
}

TEST(TensorProductsInFloat32, InTheTilesThatPlansTake) {
    expect_right(windows(5), {}, product_bounds[0]);
    expect_right(layer(1300), {}, product_bounds[0]);
    expect_right(residual(20), {}, product_bounds[0]);
}

// For few terms multiply-adds are most exact: what TF32 leaves of an operand has to be rounded.
TEST(TensorProductsInFloat32, ErrLessThanTwiceAsMuchAsMultiplyAdds) {
    constexpr std::int64_t rows = 320, columns = 256, terms = 64;
    Graph graph;
    const Var w = weight(graph, {terms, columns});
    graph.output("y", matmul(graph.input("x", DType::F32, Shape::of({rows, terms})), w));
    const cuda::Plan plan = cuda::plan(graph, h200());
    ASSERT_EQ(plan.steps.at(0).name, "tensor_product") << plan.to_string();
    const std::vector<Tensor> inputs = random_inputs(graph);
    const Tensor exact = cpu::run(to_precision(graph, DType::F64), inputs).at(0);
    const Tensor got = cuda::run_plan_on_host(plan, inputs).at(0);
    const Tensor& weights = graph.get_if<op::Constant>(w)->data->tensor;
    double ours = 0, multiply_adds = 0;
    for (std::int64_t at = 0; at < rows * columns; ++at) {
        float sum = 0;
        for (std::int64_t k = 0; k < terms; ++k)
            sum = std::fma(inputs[0].data<float>()[at / columns * terms + k],
                           weights.data<float>()[k * columns + at % columns], sum);
        ours += std::pow(got.at(at) - exact.at(at), 2);
        multiply_adds += std::pow(sum - exact.at(at), 2);
    }
    EXPECT_LE(ours, 4 * multiply_adds);
}

}  // namespace

}  // namespace kn::test
