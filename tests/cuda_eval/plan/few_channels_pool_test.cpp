// Convolutions over few channels with the max pool behind them: when they are one step, that it
// compiles, and on a GPU what it computes.
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
#include "lower/few_channels_pool.h"

namespace kn::cuda {
namespace {

using test::h200, test::product_bounds, test::ProductBound, test::weight;

constexpr const char* rule = "few channels and max pool";
const PoolOptions usual_pool = {.strides = {2, 2}, .pads = {1, 1, 1, 1}};

Var features(Graph& graph, std::int64_t images, std::int64_t filters = 64) {
    const Var x = graph.input("x", DType::F32, Shape::of({images, 3, 224, 224}));
    return relu(conv(x, weight(graph, {filters, 3, 7, 7}), weight(graph, {filters}),
                     {.strides = {2, 2}, .pads = {3, 3, 3, 3}}));
}

Graph stem(std::int64_t images) {
    Graph graph;
    const Var y = max_pool(features(graph, images), {3, 3}, usual_pool);
    graph.output("y", permute(y, {0, 2, 3, 1}));
    return graph;
}

bool is_planned(const Plan& plan) {
    return std::ranges::count(test::step_names(plan), "tensor_conv_few_pool") == 1;
}

std::string why_refused(const Graph& graph, Precision precision = Precision::F16) {
    const Plan plan = cuda::plan(graph, h200(), {.precision = precision});
    EXPECT_FALSE(is_planned(plan)) << plan.to_string();
    return test::refusals(plan, rule);
}

TEST(FewChannelsPoolPlan, IsOneStep) {
    for (const Precision precision : {Precision::TF32, Precision::F16, Precision::BF16})
        for (const std::int64_t images : {1, 8, 128}) {
            const Plan plan = cuda::plan(stem(images), h200(), {.precision = precision});
            EXPECT_TRUE(is_planned(plan)) << plan.to_string();
            EXPECT_EQ(plan.steps[0].flops, 2 * images * 112 * 112 * 64 * 147);
            EXPECT_EQ(plan.kernels.at(0).arch, "sm_90a");
            if (images == 8)
                compile_kernels(plan.kernels, {.arch = "sm_90", .prelude = kernel_prelude()});
        }
}

TEST(FewChannelsPoolPlan, ANetworkReadsWhatIsPooled) {
    Graph graph;
    const Var y = max_pool(features(graph, 8), {3, 3}, usual_pool);
    graph.output("y", conv(y, weight(graph, {64, 64, 3, 3}), {}, {.pads = {1, 1, 1, 1}}) + y);
    const Plan plan = cuda::plan(graph, h200(), {.precision = Precision::F16});
    EXPECT_TRUE(is_planned(plan)) << plan.to_string();
    const Operand& pooled = plan.steps[0].operands.back();
    EXPECT_EQ(pooled.access, Access::Write);
    EXPECT_EQ(pooled.tensor.shape, (Ints{8, 64, 56, 56}));
    EXPECT_EQ(pooled.tensor.strides, (Ints{56 * 56 * 64, 1, 56 * 64, 64}));
}

TEST(FewChannelsPoolPlan, Refusals) {
    const auto refusal = [](const std::function<Var(Graph&)>& network) {
        Graph graph;
        graph.output("y", network(graph));
        return why_refused(graph);
    };
    const auto expect_in = [](const std::string& part, const std::string& why) {
        EXPECT_NE(why.find(part), std::string::npos) << "refused because " << why;
    };
    expect_in("result", refusal([](Graph& graph) {
                  const Var y = features(graph, 8);
                  graph.output("all", y);
                  return max_pool(y, {3, 3}, usual_pool);
              }));
    expect_in("small", refusal([](Graph& graph) {
                  const Var x = graph.input("x", DType::F32, Shape::of({1, 3, 20, 20}));
                  return max_pool(conv(x, weight(graph, {64, 3, 3, 3})), {2, 2});
              }));
    expect_in("empty", refusal([](Graph& graph) {
                  return max_pool(features(graph, 8, 24), {2, 2});
              }));
    expect_in("16 bytes", refusal([](Graph& graph) {
                  return max_pool(features(graph, 8, 60), {2, 2});
              }));
    expect_in("overlap", refusal([](Graph& graph) {
                  return max_pool(features(graph, 8), {9, 2});
              }));
    expect_in("wide", refusal([](Graph& graph) {
                  return max_pool(features(graph, 8), {2, 20}, {.strides = {2, 20}});
              }));
    expect_in("padding", refusal([](Graph& graph) {
                  return max_pool(features(graph, 8), {2, 2}, {.pads = {2, 0, 0, 0}});
              }));
    EXPECT_NE(why_refused(stem(8), Precision::F32).find("three products"), std::string::npos);
    // Of these, none is a max pool that leaves what lies beyond the edge out.
    EXPECT_EQ(refusal([](Graph& graph) {
                  const Var y = pad(features(graph, 8), {0, 0, 1, 1}, {0, 0, 1, 1}, 0.5);
                  return max_pool(y, {3, 3});
              }),
              "");
    EXPECT_EQ(refusal([](Graph& graph) {
                  return max_pool(features(graph, 8), {2, 2}, {.dilations = {2, 2}});
              }),
              "");
    EXPECT_EQ(refusal([](Graph& graph) { return average_pool(features(graph, 8), {2, 2}); }), "");
}

TEST(FewChannelsPoolTiles, FitAMultiprocessor) {
    const DeviceProperties device = h200();
    for (const DataType type : {DataType::F16, DataType::F32})
        for (const std::int64_t images : {1, 8, 128}) {
            FewChannelsPool conv;
            conv.conv.type = conv.y_type = type;
            conv.conv.n = 96;
            conv.conv.windows = {.channels = 3,
                                 .images = images,
                                 .height = 300,
                                 .width = 310,
                                 .rows = 150,
                                 .columns = 156,
                                 .kernel_height = 5,
                                 .kernel_width = 5,
                                 .stride_y = 2,
                                 .stride_x = 2};
            conv.pool = {
                .rows = 74, .columns = 77, .height = 3, .width = 3, .stride_y = 2, .stride_x = 2};
            const auto all = sensible_tiles(conv, device);
            ASSERT_FALSE(all.empty());
            for (const FewChannelPoolTiles& tiles : all) {
                SCOPED_TRACE(to_string(tiles));
                conv.tiles = tiles;
                EXPECT_EQ(conv.why_not(), std::nullopt);
                EXPECT_LE(conv.shared_bytes(), device.shared_per_block_optin);
                EXPECT_LE(conv.threads(), 1024);
            }
            // One image is shared out among more groups.
            conv.tiles = all[0];
            EXPECT_GE(conv.segments() * conv.filter_tiles(), device.sm_count);
        }
}

/// On the GPU, against the CPU in double.
void expect_right(const Graph& graph, const std::optional<FewChannelPoolTiles>& tiles = {}) {
    if (device_count() == 0) GTEST_SKIP() << why_unavailable();
    const test::InDouble in_double(graph);
    for (const ProductBound& bound : product_bounds) {
        if (bound.precision == Precision::F32) continue;
        forced_few_channel_pool_tiles() = tiles;
        const Plan plan = cuda::plan(graph, Device(0).properties(), {.precision = bound.precision});
        forced_few_channel_pool_tiles().reset();
        EXPECT_TRUE(is_planned(plan)) << plan.to_string();
        in_double.expect(plan, bound);
    }
}

TEST(GpuFewChannelsPool, AnImage) {
    expect_right(stem(1));
    expect_right(stem(5));
}

TEST(GpuFewChannelsPool, EveryTileAndWindow) {
    for (const Ints& window : {Ints{3, 3, 2, 1}, Ints{2, 2, 2, 0}, Ints{3, 4, 1, 1}})
        for (const FewChannelPoolTiles& tiles :
             {FewChannelPoolTiles{.groups = 1, .columns = 16, .band_rows = 3, .segment_rows = 2},
              FewChannelPoolTiles{.groups = 2, .stages = 1, .columns = 48, .segment_rows = 100},
              FewChannelPoolTiles{.groups = 3, .columns = 24, .band_rows = 1}}) {
            SCOPED_TRACE(to_string(tiles));
            Graph graph;
            const Var x = graph.input("x", DType::F32, Shape::of({3, 3, 85, 91}));
            const Var y = conv(x, weight(graph, {72, 3, 5, 4}), weight(graph, {72}),
                               {.strides = {2, 2}, .pads = {2, 2, 2, 2}});
            const std::int64_t step = window[2], pad = window[3];
            graph.output("y", max_pool(silu(y), {window[0], window[1]},
                                       {.strides = {step, step}, .pads = {pad, pad, pad, pad}}));
            expect_right(graph, tiles);
        }
}

}  // namespace
}  // namespace kn::cuda
