// Convolutions over few channels with the max pool behind them, on the host: windows of both,
// types, tiles.
#include <algorithm>
#include <limits>

#include "check.h"
#include "cuda_eval/product_bounds.h"
#include "lower/few_channels_pool.h"

namespace kn::cuda {

void PrintTo(const FewChannelPoolTiles& tiles, std::ostream* out) { *out << to_string(tiles); }

}  // namespace kn::cuda

namespace kn::test {

namespace {

using cuda::FewChannelPoolTiles;

constexpr FewChannelPoolTiles small{.groups = 1, .columns = 16, .band_rows = 3, .segment_rows = 2};

cuda::Plan planned(const Graph& graph, const FewChannelPoolTiles& tiles, Precision precision) {
    cuda::Plan plan = plan_in_tiles(graph, cuda::forced_few_channel_pool_tiles(), tiles, 2,
                                    {.precision = precision});
    EXPECT_EQ(std::ranges::count(step_names(plan), "tensor_conv_few_pool"), 1) << plan.to_string();
    return plan;
}

/// One step of ours in these tiles, against the CPU in double.
void expect_right(const Graph& graph, const FewChannelPoolTiles& tiles, const ProductBound& bound) {
    SCOPED_TRACE(name_of(bound.precision) + ", " + to_string(tiles));
    expect_as_in_double(planned(graph, tiles, bound.precision), graph, bound.of_peak);
}

struct Pool {
    Ints kernel, strides;
    std::vector<Dim> pads;
};

struct Image {
    std::int64_t channels = 3, height = 31, width = 37, filters = 24;
    ConvOptions options = {.strides = {2, 2}, .pads = {2, 2, 2, 2}};
};

// With the channels outermost, or innermost as between layers.
Graph network(const Image& image, const Pool& pool, bool channels_last = true) {
    Graph graph;
    const Var x =
        graph.input("x", DType::F32, Shape::of({2, image.channels, image.height, image.width}));
    const Var y = conv(x, weight(graph, {image.filters, image.channels, 5, 4}),
                       weight(graph, {image.filters}), image.options);
    const Var z = max_pool(relu(y), {pool.kernel[0], pool.kernel[1]},
                           {.strides = pool.strides, .pads = pool.pads});
    graph.output("y", channels_last ? permute(z, {0, 2, 3, 1}) : z);
    return graph;
}

// Windows that overlap, touch, leave gaps; padded at both ends, at one, or not.
const Pool all_pools[] = {
    {{3, 3}, {2, 2}, {1, 1, 1, 1}}, {{2, 2}, {2, 2}, {0, 0, 0, 0}}, {{3, 3}, {1, 1}, {1, 1, 1, 1}},
    {{3, 2}, {2, 3}, {0, 1, 1, 0}}, {{1, 1}, {2, 2}, {0, 0, 0, 0}}, {{5, 4}, {2, 1}, {2, 3, 4, 0}},
    {{2, 3}, {5, 2}, {1, 0, 0, 1}},
};

class FewChannelsPool : public ::testing::TestWithParam<std::size_t> {};

TEST_P(FewChannelsPool, InEveryPrecisionOfOneProduct) {
    for (const ProductBound& bound : product_bounds)
        if (bound.precision != Precision::F32)
            expect_right(network({}, all_pools[GetParam()]), small, bound);
}

INSTANTIATE_TEST_SUITE_P(, FewChannelsPool, ::testing::Range<std::size_t>(0, std::size(all_pools)));

TEST(FewChannelsPoolImages, WindowsOfEveryKind) {
    for (const Image& image :
         {Image{.channels = 1, .filters = 72, .options = {}},
          Image{.channels = 4, .height = 22, .options = {.strides = {1, 3}, .dilations = {2, 1}}},
          Image{.channels = 2, .width = 18, .filters = 8}})
        for (const int precision : {1, 2})
            expect_right(network(image, all_pools[0]), small, product_bounds[precision]);
}

TEST(FewChannelsPoolTiles, AnyOfThem) {
    const Graph graph = network({.height = 47, .width = 75, .filters = 72}, all_pools[0]);
    for (const FewChannelPoolTiles& tiles :
         {FewChannelPoolTiles{
              .groups = 2, .stages = 1, .columns = 40, .band_rows = 4, .segment_rows = 100},
          FewChannelPoolTiles{.groups = 2, .columns = 40, .band_rows = 2, .segment_rows = 5},
          FewChannelPoolTiles{.groups = 3, .columns = 24, .band_rows = 1, .segment_rows = 1},
          FewChannelPoolTiles{.groups = 1, .columns = 8, .band_rows = 6, .segment_rows = 3}}) {
        expect_right(graph, tiles, product_bounds[1]);
        expect_right(graph, tiles, product_bounds[2]);
    }
}

TEST(FewChannelsPoolOfHalfTypes, BehindAnyOperationsWithChannelsOutermost) {
    for (const DType dtype : {DType::F16, DType::BF16}) {
        Graph graph;
        const Var x = graph.input("x", dtype, Shape::of({1, 18, 21, 5}));
        const Var y = conv(permute(x, {0, 3, 1, 2}), weight(graph, {24, 5, 3, 3}, dtype),
                           weight(graph, {24}, dtype), {.pads = {1, 1, 1, 1}});
        const Var r = graph.input("r", dtype, Shape::of({1, 18, 21, 24}));
        const Var z = silu(y + permute(r, {0, 3, 1, 2}));
        graph.output("y", max_pool(z, {3, 3}, {.strides = {2, 2}, .pads = {1, 1, 1, 1}}));
        expect_right(graph, small, product_bounds[dtype == DType::F16 ? 2 : 3]);
    }
}

// What is no number wins wherever a window meets it, and nowhere else. Cells are of one pixel each,
// for what lies beside a window in its cell counts as well.
TEST(FewChannelsPoolValues, NotNumbers) {
    for (const DType dtype : {DType::F16, DType::BF16, DType::F32}) {
        const std::int64_t channels = dtype == DType::F32 ? 3 : 5;
        const Ints shape = {1, channels, 20, 33};
        Graph graph;
        const Var y = conv(graph.input("x", dtype, Shape::of(shape)),
                           weight(graph, {8, channels, 1, 1}, dtype));
        const Var z = max_pool(y, {3, 3}, {.strides = {2, 2}, .pads = {1, 1, 1, 1}});
        graph.output("y", permute(z, {0, 2, 3, 1}));
        Random random(1);
        Tensor image = random_tensor(DType::F32, shape, random);
        for (const std::size_t i : {0, 40, 300, 659})
            image.mutable_data<float>()[i] = std::numeric_limits<float>::quiet_NaN();
        const std::vector<Tensor> inputs = {image.cast(dtype)};
        const cuda::Plan plan = planned(graph, small, Precision::TF32);
        const auto difference =
            testing::compare(cuda::run_plan_on_host(plan, inputs).at(0),
                             cpu::run(graph, inputs).at(0), {.rtol = 2e-3, .atol_of_peak = 2e-2});
        EXPECT_TRUE(difference.equal) << difference.message << "\n" << plan.to_string();
    }
}

}  // namespace

}  // namespace kn::test
