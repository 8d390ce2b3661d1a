// The kernel for convolutions over few channels: when it is planned, that it compiles, and on a GPU
// what it computes.
#include <algorithm>

#include <gtest/gtest.h>

#include <kn/cuda_eval/executor.h>
#include <kn/graph/builder.h>
#include <kn/graph/cpu.h>
#include <kn/graph/precision.h>
#include <kn/graph/random.h>
#include <kn/testing/compare.h>

#include "codegen/emit.h"
#include "cuda_eval/on_gpu.h"
#include "cuda_eval/plan/support.h"
#include "cuda_eval/product_bounds.h"
#include "executor/kernels.h"
#include "lower/few_channels.h"

namespace kn::cuda {
namespace {

using test::h200, test::product_bounds, test::ProductBound, test::weight;

Graph stem(std::int64_t images = 8) {
    Graph graph;
    const Var x = graph.input("x", DType::F32, Shape::of({images, 3, 224, 224}));
    const Var y = conv(x, weight(graph, {64, 3, 7, 7}), weight(graph, {64}),
                       {.strides = {2, 2}, .pads = {3, 3, 3, 3}});
    graph.output("y", permute(relu(y), {0, 2, 3, 1}));
    return graph;
}

bool is_planned(const Plan& plan) {
    return std::ranges::count(test::step_names(plan), "tensor_conv_few") == 1;
}

std::string why_refused(const Graph& graph, Precision precision = Precision::F16) {
    const Plan plan = cuda::plan(graph, h200(), {.precision = precision});
    EXPECT_FALSE(is_planned(plan)) << plan.to_string();
    return test::refusals(plan, "few channels");
}

TEST(FewChannelsPlan, AnImageIsOneStep) {
    for (const Precision precision : {Precision::F32, Precision::TF32, Precision::F16}) {
        const Plan plan = cuda::plan(stem(), h200(), {.precision = precision});
        EXPECT_TRUE(is_planned(plan)) << plan.to_string();
        EXPECT_EQ(plan.steps[0].flops, 2ll * 8 * 112 * 112 * 64 * 147);
        EXPECT_EQ(plan.kernels.at(0).arch, "sm_90a");
        compile_kernels(plan.kernels, {.arch = "sm_90", .prelude = kernel_prelude()});
    }
    const Plan half = cuda::plan(stem(), h200(), {.precision = Precision::F16});
    EXPECT_NE(half.steps[0].operands[1].tensor.dtype, DType::F16)
        << "the cast should be a part of the step";
}

TEST(FewChannelsPlan, Refusals) {
    const auto convolution = [](Ints x, Ints w, const ConvOptions& options = {}) {
        Graph graph;
        const Var image = graph.input("x", DType::F32, Shape::of(x));
        graph.output("y", conv(image, weight(graph, w), {}, options));
        return graph;
    };
    EXPECT_NE(why_refused(convolution({1, 3, 20, 20}, {8, 3, 3, 3})).find("small"),
              std::string::npos);
    EXPECT_NE(why_refused(convolution({8, 4, 200, 200}, {64, 2, 3, 3}, {.groups = 2})), "taken");
    EXPECT_NE(why_refused(convolution({64, 3, 224, 224}, {768, 3, 16, 16}, {.strides = {16, 16}}))
                  .find("does not fit"),
              std::string::npos);
    EXPECT_NE(why_refused(convolution({64, 3, 224, 224}, {16, 3, 31, 31})).find("too large"),
              std::string::npos);
    EXPECT_NE(why_refused(convolution({64, 3, 8, 3000}, {64, 3, 8, 7})).find("thin"),
              std::string::npos);
    EXPECT_NE(why_refused(convolution({64, 3, 224, 224}, {64, 3, 3, 3}), Precision::F32)
                  .find("more exactly"),
              std::string::npos);
}

TEST(FewChannelsTiles, FitAMultiprocessor) {
    const DeviceProperties device = h200();
    for (const bool exact : {false, true})
        for (const std::int64_t images : {1, 128}) {
            FewChannels conv;
            conv.type = exact ? DataType::F32 : DataType::F16;
            conv.exact = exact;
            conv.n = 96;
            conv.windows = {.channels = 3,
                            .images = images,
                            .height = 300,
                            .width = 310,
                            .rows = 150,
                            .columns = 156,
                            .kernel_height = 5,
                            .kernel_width = 5,
                            .stride_y = 2,
                            .stride_x = 2};
            const auto all = sensible_tiles(conv, device);
            ASSERT_FALSE(all.empty());
            for (const FewChannelTiles& tiles : all) {
                SCOPED_TRACE(to_string(tiles));
                conv.tiles = tiles;
                EXPECT_EQ(conv.why_not(), std::nullopt);
                EXPECT_LE((conv.shared_bytes() + 1024) * static_cast<std::size_t>(tiles.blocks),
                          device.shared_per_sm);
                EXPECT_LE(conv.threads() * tiles.blocks, device.max_threads_per_sm);
                EXPECT_GE(tiles.filters * conv.filter_tiles(), conv.n);
            }
            // One image is shared out among more blocks.
            conv.tiles = all[0];
            EXPECT_GE(conv.bands() * conv.filter_tiles(), device.sm_count / 2);
        }
}

/// On the GPU in every precision, against the CPU in double. With few terms float32 is cuDNN's.
void expect_right(const Graph& graph, bool few_terms = false) {
    if (device_count() == 0) GTEST_SKIP() << why_unavailable();
    const test::InDouble in_double(graph);
    for (const ProductBound& bound : product_bounds) {
        const Plan plan = cuda::plan(graph, Device(0).properties(), {.precision = bound.precision});
        EXPECT_EQ(is_planned(plan), !few_terms || bound.precision != Precision::F32)
            << plan.to_string();
        in_double.expect(plan, bound);
    }
}

TEST(GpuFewChannels, AnImage) { expect_right(stem(3)); }

// Ways to share out an image that fills no patch.
TEST(GpuFewChannels, EveryTile) {
    if (device_count() == 0) GTEST_SKIP() << why_unavailable();
    Graph graph;
    const Var x = graph.input("x", DType::F32, Shape::of({3, 3, 85, 91}));
    const Var y = conv(x, weight(graph, {72, 3, 5, 4}), weight(graph, {72}),
                       {.strides = {2, 2}, .pads = {2, 2, 2, 2}});
    graph.output("y", permute(relu(y), {0, 2, 3, 1}));
    const std::vector<Tensor> inputs = random_inputs(graph);
    const auto expected = cpu::run(to_precision(graph, DType::F64), inputs);
    const DeviceProperties device = Device(0).properties();
    for (const int groups : {1, 2})
        for (const ProductBound& bound : product_bounds) {
            const FewChannelTiles tiles{.groups = groups,
                                        .blocks = 1,
                                        .stages = 3 - groups,
                                        .filters = 72,
                                        .patch_columns = 2};
            forced_few_channel_tiles() = tiles;
            const auto plan = std::make_shared<const Plan>(
                cuda::plan(graph, device, {.precision = bound.precision}));
            forced_few_channel_tiles().reset();
            EXPECT_TRUE(is_planned(*plan));
            const auto got = Executor(plan, Device(0)).run(inputs);
            const auto difference = testing::compare(got.at(0), expected.at(0).cast(DType::F32),
                                                     {.rtol = 0, .atol_of_peak = bound.of_peak});
            EXPECT_TRUE(difference.equal) << to_string(tiles) << ", " << name_of(bound.precision)
                                          << ": " << difference.message;
        }
}

TEST(GpuFewChannels, NothingDividesAnything) {
    Graph graph;
    const Var x = graph.input("x", DType::F32, Shape::of({5, 2, 131, 117}));
    const Var y = conv(x, weight(graph, {75, 2, 5, 4}), weight(graph, {75}),
                       {.strides = {1, 3}, .dilations = {2, 1}, .pads = {2, 1, 0, 3}});
    graph.output("y", silu(y));
    expect_right(graph, true);
}

TEST(GpuFewChannels, NeighbouringWindowsAndAResidual) {
    Graph graph;
    const Var x = graph.input("x", DType::F32, Shape::of({4, 4, 90, 61}));
    const Var y =
        conv(x, weight(graph, {160, 4, 3, 3}), weight(graph, {160}), {.pads = {1, 1, 1, 1}});
    graph.output("y", relu(y + graph.input("r", DType::F32, Shape::of({4, 160, 90, 61}))));
    expect_right(graph, true);
}

}  // namespace
}  // namespace kn::cuda
