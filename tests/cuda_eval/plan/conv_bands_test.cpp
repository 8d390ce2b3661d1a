// Convolutions whose windows share bands of the image: that they compile, their tiles, and on a GPU
// what they compute.
#include <algorithm>

#include <gtest/gtest.h>

#include <kn/cuda_eval/executor.h>
#include <kn/graph/builder.h>

#include "codegen/emit.h"
#include "cuda_eval/on_gpu.h"
#include "cuda_eval/plan/support.h"
#include "cuda_eval/product_bounds.h"
#include "cuda_eval/windows_3x3.h"
#include "executor/kernels.h"
#include "lower/conv_bands.h"

namespace kn::cuda {
namespace {

using test::h200, test::product_bounds, test::ProductBound, test::weight;

Graph layer(std::int64_t images, std::int64_t size, std::int64_t channels = 64,
            std::int64_t filters = 64, DType dtype = DType::F16) {
    Graph graph;
    const Var x = graph.input("x", dtype, Shape::of({images, size, size, channels}));
    const Var w = weight(graph, {filters, channels, 3, 3}, dtype);
    const Var y =
        conv(permute(x, {0, 3, 1, 2}), w, weight(graph, {filters}, dtype), {.pads = {1, 1, 1, 1}});
    graph.output("y", permute(relu(y), {0, 2, 3, 1}));
    return graph;
}

Plan planned(const Graph& graph, const BandTiles& tiles, const DeviceProperties& device) {
    forced_band_tiles() = tiles;
    Plan plan = cuda::plan(graph, device, {.precision = Precision::TF32});
    forced_band_tiles().reset();
    EXPECT_EQ(std::ranges::count(test::step_names(plan), "tensor_conv_bands"), 1)
        << plan.to_string();
    return plan;
}

bool is_planned(const Graph& graph) {
    const Plan plan = cuda::plan(graph, h200(), {.precision = Precision::TF32});
    return std::ranges::count(test::step_names(plan), "tensor_conv_bands") == 1;
}

// As measured.
TEST(ConvBandsPlan, ManyPixelsOfFewChannels) {
    EXPECT_TRUE(is_planned(layer(128, 56)));
    EXPECT_TRUE(is_planned(layer(32, 112)));
    EXPECT_TRUE(is_planned(layer(128, 56, 32)));
    EXPECT_TRUE(is_planned(layer(128, 112, 32)));
    EXPECT_FALSE(is_planned(layer(8, 56)));
    EXPECT_FALSE(is_planned(layer(1, 56)));
    EXPECT_FALSE(is_planned(layer(128, 28, 128, 128)));
    EXPECT_FALSE(is_planned(layer(64, 56, 64, 128)));
}

TEST(ConvBandsPlan, CanBeDisabled) {
    const Plan plan =
        cuda::plan(layer(128, 56), h200(), {.disabled_rules = {"convolution by bands"}});
    EXPECT_EQ(std::ranges::count(test::step_names(plan), "tensor_conv_bands"), 0);
}

// What is added is read beside whole rows of results, which bands do not have.
TEST(ConvBandsPlan, NoResidual) {
    Graph graph;
    const Var x = graph.input("x", DType::F16, Shape::of({128, 56, 56, 64}));
    const Var image = permute(x, {0, 3, 1, 2});
    const Var y =
        conv(image, weight(graph, {64, 64, 3, 3}, DType::F16), {}, {.pads = {1, 1, 1, 1}});
    graph.output("y", permute(y + image, {0, 2, 3, 1}));
    EXPECT_FALSE(is_planned(graph));
}

TEST(ConvBandsPlan, Compiles) {
    for (const std::int64_t channels : {32, 64}) {
        const Plan plan = cuda::plan(layer(128, 56, channels), h200());
        EXPECT_EQ(plan.steps[0].flops, 2ll * 128 * 56 * 56 * 64 * channels * 9);
        compile_kernels(plan.kernels, {.arch = "sm_90", .prelude = kernel_prelude()});
    }
}

TEST(ConvBandsTiles, FitAMultiprocessor) {
    const DeviceProperties device = h200();
    for (const std::int64_t images : {1, 8, 128})
        for (const std::int64_t size : {7, 56, 300}) {
            ConvBands conv;
            conv.n = 64;
            conv.windows = test::windows_3x3(images, size, 64);
            const auto all = sensible_tiles(conv, device);
            ASSERT_FALSE(all.empty());
            for (const BandTiles& tiles : all) {
                SCOPED_TRACE(to_string(tiles));
                conv.tiles = tiles;
                EXPECT_EQ(conv.why_not(), std::nullopt);
                EXPECT_LE(conv.shared_bytes(), device.shared_per_block_optin);
                EXPECT_LE(conv.threads(), 1024);
            }
        }
}

/// On the GPU, against the CPU in double.
void expect_right(const Graph& graph, const std::vector<BandTiles>& all,
                  ProductBound bound = product_bounds[2]) {
    if (device_count() == 0) GTEST_SKIP() << why_unavailable();
    const test::InDouble in_double(graph);
    for (const BandTiles& tiles : all) {
        SCOPED_TRACE(to_string(tiles));
        in_double.expect(planned(graph, tiles, Device(0).properties()), bound);
    }
}

TEST(GpuConvBands, EveryTile) {
    for (const Graph& graph : {layer(3, 56), layer(3, 29, 32, 72), layer(40, 14, 48, 40)})
        expect_right(graph, {{.groups = 1, .stages = 2, .rows = 2, .columns = 29},
                             {.groups = 2, .stages = 3, .rows = 4, .columns = 14},
                             {.groups = 2, .stages = 3, .rows = 3, .columns = 28},
                             {.groups = 3, .stages = 3, .rows = 2, .columns = 20}});
    expect_right(layer(40, 14, 128, 40), {{.stages = 2, .rows = 2, .columns = 14}});
    expect_right(layer(3, 56, 64, 64, DType::F32),
                 {{.groups = 1, .stages = 2, .rows = 2, .columns = 28},
                  {.groups = 2, .stages = 2, .rows = 3, .columns = 28}},
                 product_bounds[1]);
    expect_right(layer(5, 29, 16, 72, DType::F32), {{.stages = 3, .rows = 2, .columns = 29}},
                 product_bounds[1]);
}

}  // namespace
}  // namespace kn::cuda
