// Convolutions over few channels, on the host: windows, layouts, types, tiles.
#include <algorithm>

#include <fmt/core.h>

#include <kn/graph/precision.h>

#include "check.h"
#include "cuda_eval/product_bounds.h"
#include "lower/few_channels.h"

namespace kn::cuda {

void PrintTo(const FewChannelTiles& tiles, std::ostream* out) { *out << to_string(tiles); }

}  // namespace kn::cuda

namespace kn::test {

namespace {

using cuda::FewChannelTiles;

constexpr FewChannelTiles small{
    .groups = 1, .blocks = 1, .stages = 2, .filters = 24, .patch_columns = 1};

/// One step of ours in these tiles, against the CPU in double; gives the plan.
cuda::Plan expect_right(const Graph& graph, const FewChannelTiles& tiles,
                        const ProductBound& bound) {
    SCOPED_TRACE(name_of(bound.precision) + ", " + to_string(tiles));
    cuda::Plan plan = plan_in_tiles(graph, cuda::forced_few_channel_tiles(), tiles, 2,
                                    {.precision = bound.precision});
    EXPECT_EQ(std::ranges::count(step_names(plan), "tensor_conv_few"), 1) << plan.to_string();
    expect_as_in_double(plan, graph, bound.of_peak);
    return plan;
}

struct Windows {
    std::int64_t channels, height, width, filters;
    Ints kernel, strides, dilations;
    std::vector<Dim> pads;
};

Graph convolution(const Windows& w) {
    Graph graph;
    const Var x = graph.input("x", DType::F32, Shape::of({2, w.channels, w.height, w.width}));
    const Var y = conv(x, weight(graph, {w.filters, w.channels, w.kernel[0], w.kernel[1]}),
                       weight(graph, {w.filters}),
                       {.strides = w.strides, .dilations = w.dilations, .pads = w.pads});
    graph.output("y", relu(y));
    return graph;
}

// Cells of one, two, four and eight taps; one plane and several; rows whose cells lie the other way
// round; windows larger than the image.
const Windows all_windows[] = {
    {3, 31, 29, 24, {7, 7}, {2, 2}, {1, 1}, {3, 3, 3, 3}},
    {3, 17, 20, 24, {3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}},
    {1, 19, 23, 20, {5, 5}, {1, 1}, {1, 1}, {0, 0, 0, 0}},
    {4, 22, 25, 17, {3, 5}, {2, 3}, {1, 2}, {0, 2, 1, 3}},
    {2, 21, 18, 24, {4, 3}, {3, 1}, {2, 3}, {2, 0, 0, 2}},
    {3, 40, 44, 24, {4, 4}, {4, 4}, {1, 1}, {0, 0, 0, 0}},
    {3, 9, 11, 8, {1, 1}, {2, 2}, {1, 1}, {0, 0, 0, 0}},
    {3, 5, 6, 24, {7, 7}, {1, 2}, {1, 1}, {3, 3, 3, 3}},
};

class FewChannels : public ::testing::TestWithParam<std::size_t> {};

TEST_P(FewChannels, InEveryPrecision) {
    const Windows& w = all_windows[GetParam()];
    for (const ProductBound& bound : product_bounds) expect_right(convolution(w), small, bound);
}

INSTANTIATE_TEST_SUITE_P(, FewChannels, ::testing::Range<std::size_t>(0, std::size(all_windows)));

TEST(FewChannelTiles, AnyOfThem) {
    const Graph graph = convolution({3, 39, 53, 72, {5, 5}, {2, 2}, {1, 1}, {2, 2, 2, 2}});
    for (const FewChannelTiles& tiles :
         {FewChannelTiles{.groups = 2, .stages = 1, .filters = 72, .patch_columns = 2},
          FewChannelTiles{.groups = 3, .stages = 2, .filters = 40, .patch_columns = 4},
          FewChannelTiles{.groups = 4, .filters = 24, .patch_rows = 2, .patch_columns = 3}}) {
        expect_right(graph, tiles, product_bounds[0]);
        expect_right(graph, tiles, product_bounds[2]);
    }
}

TEST(FewChannelsOfHalfTypes, UpToEightChannelsInAnyLayout) {
    for (const std::int64_t channels : {3, 5, 8})
        for (const DType dtype : {DType::F16, DType::BF16}) {
            Graph graph;
            const Var x = graph.input("x", dtype, Shape::of({2, 18, 21, channels}));
            const Var y = conv(permute(x, {0, 3, 1, 2}), weight(graph, {24, channels, 3, 3}, dtype),
                               weight(graph, {24}, dtype), {.pads = {1, 1, 1, 1}});
            const Var r = graph.input("r", dtype, Shape::of({2, 18, 21, 24}));
            graph.output("y", permute(silu(y + permute(r, {0, 3, 1, 2})), {0, 2, 3, 1}));
            const cuda::Plan plan =
                expect_right(graph, small, product_bounds[dtype == DType::F16 ? 2 : 3]);
            EXPECT_EQ(plan.steps.size(), 1u) << plan.to_string();
        }
}

// The image is cast, scaled and cropped while it is read.
TEST(FewChannelsOfAnImage, ReadAsItLies) {
    Graph graph;
    const Var x = graph.input("x", DType::U8, Shape::of({2, 24, 27, 3}));
    const Var image = permute(cast(x, DType::F32), {0, 3, 1, 2}) / 255.0;
    graph.output("y", conv(slice(image, 3, 2, 25) - weight(graph, {1, 3, 1, 1}),
                           weight(graph, {16, 3, 3, 3}), weight(graph, {16}),
                           {.strides = {2, 2}, .pads = {1, 1, 1, 1}}));
    for (const ProductBound& bound : product_bounds) expect_right(graph, small, bound);
}

}  // namespace

}  // namespace kn::test
