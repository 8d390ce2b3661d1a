// Norms of groups of channels whose statistics come from the product in front, on the host.
#include <algorithm>
#include <cmath>

#include <kn/cuda_sys/device.h>

#include "check.h"
#include "cuda_eval/on_gpu.h"
#include "cuda_eval/product_bounds.h"
#include "lower/product_tiles.h"

namespace kn::test {

namespace {

using cuda::ProductTiles;

std::size_t count_steps(const cuda::Plan& plan, const std::string& name) {
    return static_cast<std::size_t>(std::ranges::count(plan.steps, name, &cuda::Step::name));
}

Var group_norm(Graph& g, const Var& x, std::int64_t groups, double epsilon = 1e-5) {
    const Ints shape = x.shape().to_ints();
    const std::int64_t rest = x.shape().size().value() / shape[0] / groups;
    const Var rows = reshape(x, {shape[0], groups, rest});
    const Var norm = g.var(g.add(op::Norm{NormKind::MeanVariance, rows, {2}, epsilon}));
    return reshape(norm, x.shape());
}

struct Block {
    std::int64_t images = 1, channels = 64, height = 32, width = 32, filters = 80, groups = 4;
    std::int64_t kernel = 1;
    double bias = 0;
    bool both = true;  ///< y, too
};

/// A convolution with a residual, a group norm behind it, and another reader of what lies between.
Graph block(const Block& b, DType dtype = DType::F32) {
    Graph g;
    const auto image = [&](const char* name, std::int64_t channels) {
        return permute(g.input(name, dtype, Shape::of({b.images, b.height, b.width, channels})),
                       {0, 3, 1, 2});
    };
    const std::int64_t pad = b.kernel / 2;
    Var y =
        conv(image("x", b.channels), weight(g, {b.filters, b.channels, b.kernel, b.kernel}, dtype),
             {}, {.pads = {pad, pad, pad, pad}});
    y = y + image("r", b.filters) + b.bias;
    const Var scale = weight(g, {1, b.filters, 1, 1}, dtype);
    g.output("normed", permute(silu(group_norm(g, y, b.groups) * broadcast_to(scale, y.shape())),
                               {0, 2, 3, 1}));
    if (b.both) g.output("y", permute(y, {0, 2, 3, 1}));
    return g;
}

cuda::Plan planned(const Graph& graph, const std::optional<ProductTiles>& tiles,
                   Precision precision, bool beside = true, int multiprocessors = 4) {
    cuda::PlanOptions options{.precision = precision};
    if (!beside) options.disabled_rules = {"norms beside products"};
    return plan_in_tiles(graph, cuda::forced_tiles(), tiles, multiprocessors, options);
}

bool has_statistics(const cuda::Plan& plan) {
    return plan.to_string().find("with statistics of") != std::string::npos;
}

struct Apart {
    int multiprocessors = 4;
    std::size_t row_parts = 1;  ///< 0: one kernel, that knows whole rows
};

/// As with statistics by a kernel of their own, of the same y.
void expect_as_apart(const Graph& graph, const std::optional<ProductTiles>& tiles,
                     Precision precision, double of_peak, const Apart& how = {}) {
    SCOPED_TRACE(tiles ? to_string(*tiles) : "tiles as planned");
    const cuda::Plan beside = planned(graph, tiles, precision, true, how.multiprocessors),
                     apart = planned(graph, tiles, precision, false, how.multiprocessors);
    EXPECT_TRUE(has_statistics(beside)) << beside.to_string();
    EXPECT_NE(beside.to_string().find("from statistics that came with"), std::string::npos)
        << beside.to_string();
    EXPECT_EQ(count_steps(beside, "row_parts"), 0u);
    EXPECT_FALSE(has_statistics(apart));
    EXPECT_EQ(count_steps(apart, "row_parts"), how.row_parts);
    const std::vector<Tensor> inputs = random_inputs(graph);
    const auto got = cuda::run_plan_on_host(beside, inputs),
               expected = cuda::run_plan_on_host(apart, inputs);
    for (std::size_t i = 0; i < got.size(); ++i) {
        const auto difference =
            testing::compare(got[i].cast(DType::F32), expected[i].cast(DType::F32),
                             {.rtol = 0, .atol_of_peak = of_peak});
        EXPECT_TRUE(difference.equal) << difference.message << "\n" << beside.to_string();
    }
}

// Each once: whole groups of channels in a tile, groups that straddle tiles, tiles that reach
// beyond y, several pieces, widths of what a warp hands out, k shared out evenly and not, turns.
const ProductTiles every_tile[] = {
    ProductTiles{.rows = 64, .columns = 80, .groups = 1, .stages = 4, .blocks = 1, .chunk = 16},
    ProductTiles{.rows = 128, .columns = 160, .stages = 3, .blocks = 1, .chunk = 32},
    ProductTiles{.rows = 128, .columns = 64, .stages = 3, .blocks = 1, .chunk = 64},
    ProductTiles{.rows = 256, .columns = 48, .stages = 3, .blocks = 1, .chunk = 16},
    ProductTiles{.rows = 64, .columns = 96, .stages = 3, .blocks = 1, .turns = true},
    ProductTiles{.rows = 64, .columns = 80, .groups = 1, .stages = 4, .share_w = 2, .chunk = 16},
    ProductTiles{.rows = 128, .columns = 80, .stages = 3, .blocks = 1, .splits = 2},
    ProductTiles{.rows = 256, .columns = 48, .stages = 3, .blocks = 1, .splits = 4}};

class NormsBesideProducts : public ::testing::TestWithParam<ProductTiles> {};

TEST_P(NormsBesideProducts, AsInDouble) {
    const Graph graph = block({.kernel = 3});
    for (const ProductBound& bound : product_bounds) {
        if (bound.precision == Precision::F32) continue;
        SCOPED_TRACE(name_of(bound.precision));
        const cuda::Plan plan = planned(graph, GetParam(), bound.precision);
        EXPECT_TRUE(has_statistics(plan)) << plan.to_string();
        EXPECT_EQ(count_steps(plan, "row_parts"), 0u);
        expect_as_in_double(plan, graph, 2 * bound.of_peak);
    }
}

// Thirty standard deviations from zero, in float32: of what squares would leave, three digits.
TEST_P(NormsBesideProducts, MeanFarFromZero) {
    if (GetParam().splits > 1) GTEST_SKIP() << "there are fewer slabs of k";
    expect_as_apart(block({.bias = 1000}), GetParam(), Precision::TF32, 1e-4);
}

INSTANTIATE_TEST_SUITE_P(, NormsBesideProducts, ::testing::ValuesIn(every_tile), name_of_tiles);

// Images of one part and of several; groups of few channels, and of all.
TEST(ColumnParts, Images) {
    for (const Block& b :
         {Block{.images = 3, .height = 8, .width = 8, .filters = 160, .groups = 2, .kernel = 3},
          Block{.images = 2, .height = 16, .width = 12, .filters = 80, .groups = 2, .kernel = 3},
          Block{.height = 64, .width = 64, .filters = 40, .groups = 4},
          Block{.filters = 96, .groups = 1}})
        expect_as_apart(block(b, DType::F16), std::nullopt, Precision::F16, 1e-3,
                        {.multiprocessors = 132});
}

// Rows that one kernel would hold, too.
TEST(ColumnParts, SmallImages) {
    const Block b{.images = 2, .height = 8, .width = 8, .filters = 160, .groups = 4, .kernel = 3};
    expect_as_apart(block(b, DType::F16), std::nullopt, Precision::F16, 1e-3,
                    {.multiprocessors = 132, .row_parts = 0});
}

// Groups that have channels of both images, and of one.
TEST(ColumnParts, OfSeveralImages) {
    Graph g;
    const Var x = permute(g.input("x", DType::F16, {2, 16, 32, 64}), {0, 3, 1, 2});
    const auto image = [&](std::int64_t filters, std::uint64_t seed) {
        return conv(x, weight(g, {filters, 64, 3, 3}, DType::F16, seed), {},
                    {.pads = {1, 1, 1, 1}});
    };
    const Var both = concat({image(80, 1), image(40, 2)}, 1);
    g.output("both", permute(both, {0, 2, 3, 1}));
    g.output("normed", permute(group_norm(g, both, 4), {0, 2, 3, 1}));
    expect_as_apart(g, std::nullopt, Precision::F16, 1e-3, {.multiprocessors = 132});
}

TEST(ColumnParts, WhatOthersHaveToDo) {
    const auto apart = [](const Graph& graph, const std::string& what) {
        const cuda::Plan plan = planned(graph, std::nullopt, Precision::F16);
        EXPECT_FALSE(has_statistics(plan)) << what << "\n" << plan.to_string();
        EXPECT_EQ(count_steps(plan, "row_parts"), 1u) << what;
    };
    apart(block({.height = 25, .width = 41}, DType::F16), "1025 positions");
    apart(block({.height = 64, .width = 64, .filters = 40, .groups = 8}, DType::F16),
          "groups of five channels");
    Graph g;
    const Var x = permute(g.input("x", DType::F16, {1, 32, 32, 64}), {0, 3, 1, 2});
    const Var y = conv(x, weight(g, {80, 64, 3, 3}, DType::F16), {}, {.pads = {1, 1, 1, 1}});
    g.output("y", permute(y, {0, 2, 3, 1}));
    g.output("normed", permute(group_norm(g, relu(y - 1), 4), {0, 2, 3, 1}));
    apart(g, "another function of the image");
}

TEST(GpuNormsBesideProducts, EveryTile) {
    if (cuda::device_count() == 0) GTEST_SKIP() << cuda::why_unavailable();
    const auto device = cuda::Device(0).properties();
    for (const Block& b :
         {Block{.images = 2, .filters = 320, .groups = 32, .kernel = 3, .both = false},
          Block{.images = 2,
          .height = 8,
          .width = 8,
          .filters = 1280,
          .groups = 4,
          .kernel = 3,
          .both = false}}) {
        const Graph graph = block(b);
        const InDouble in_double(graph);
        for (ProductBound bound : product_bounds) {
            if (bound.precision == Precision::F32) continue;
            bound.of_peak *= 2;  // two products behind each other
            for (const ProductTiles& tiles : every_tile) {
                SCOPED_TRACE(to_string(tiles));
                cuda::forced_tiles() = tiles;
                const cuda::Plan plan = cuda::plan(graph, device, {.precision = bound.precision});
                cuda::forced_tiles().reset();
                EXPECT_TRUE(has_statistics(plan)) << plan.to_string();
                in_double.expect(plan, bound);
            }
        }
    }
}

}  // namespace

}  // namespace kn::test
