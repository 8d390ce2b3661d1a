// Convolutions by minimal filtering along lines, on the host: patches, borders, clusters.
#include <algorithm>

#include "check.h"
#include "codegen/winograd.h"
#include "cuda_eval/on_gpu.h"
#include "cuda_eval/product_bounds.h"
#include "cuda_eval/windows_3x3.h"
#include "lower/product_tiles.h"

namespace kn::test {

namespace {

using cuda::ProductTiles;

struct Image {
    std::int64_t images, height, width;
};

// Channels innermost, with what may follow a convolution.
Graph layer(const Image& image, std::int64_t channels, std::int64_t filters, bool residual) {
    Graph graph;
    const auto input = [&](const char* name, std::int64_t count) {
        const Shape shape = Shape::of({image.images, image.height, image.width, count});
        return permute(graph.input(name, DType::F16, shape), {0, 3, 1, 2});
    };
    Var y = conv(input("x", channels), cast(weight(graph, {filters, channels, 3, 3}), DType::F16),
                 cast(weight(graph, {filters}), DType::F16), {.pads = {1, 1, 1, 1}});
    if (residual) y = y + input("r", filters);
    graph.output("y", permute(relu(y), {0, 2, 3, 1}));
    return graph;
}

void expect_right(const Graph& graph, const ProductTiles& tiles) {
    SCOPED_TRACE(to_string(tiles));
    const cuda::Plan plan =
        plan_in_tiles(graph, cuda::forced_tiles(), tiles, 4, {.precision = Precision::F16});
    ASSERT_NE(plan.to_string().find("by F(2,3)"), std::string::npos) << plan.to_string();
    expect_as_in_double(plan, graph, product_bounds[2].of_peak);
}

class Winograd : public ::testing::TestWithParam<ProductTiles> {};

// Whole lines and parts of them, tiles of several images, not all of which are there.
TEST_P(Winograd, PatchesOfAllForms) {
    for (const Image& image : {Image{6, 8, 8}, Image{1, 16, 16}, Image{2, 8, 32}, Image{1, 32, 8},
                               Image{3, 4, 16}, Image{1, 4, 64}, Image{1, 16, 48}}) {
        SCOPED_TRACE(fmt::format("{} images of {}x{}", image.images, image.height, image.width));
        expect_right(layer(image, 128, 80, true), GetParam());
    }
}

TEST_P(Winograd, ChannelsThatDoNotFillASlab) {
    expect_right(layer({1, 16, 16}, 112, 80, false), GetParam());
    expect_right(layer({1, 16, 16}, 72, 80, true), GetParam());
}

TEST_P(Winograd, ColumnsThatDoNotFillATile) {
    expect_right(layer({1, 16, 16}, 128, 72, false), GetParam());
    expect_right(layer({1, 16, 16}, 128, 136, false), GetParam());
}

// Parts of images that come with a norm's statistics, or do not.
TEST_P(Winograd, NormsBehind) {
    Graph graph;
    const Var x = permute(graph.input("x", DType::F16, Shape::of({1, 32, 32, 128})), {0, 3, 1, 2});
    const Var y = conv(x, cast(weight(graph, {160, 128, 3, 3}), DType::F16),
                       cast(weight(graph, {160}), DType::F16), {.pads = {1, 1, 1, 1}});
    const auto factors = [&](double seed) { return cast(weight(graph, {160}) + seed, DType::F16); };
    graph.output("y", permute(silu(group_norm(y, 4, factors(1), factors(0))), {0, 2, 3, 1}));
    expect_right(graph, GetParam());
    const cuda::Plan plan =
        plan_in_tiles(graph, cuda::forced_tiles(), GetParam(), 4, {.precision = Precision::F16});
    const bool given = plan.to_string().find("with statistics of 128x") != std::string::npos;
    EXPECT_EQ(given, !GetParam().staged) << plan.to_string();
}

INSTANTIATE_TEST_SUITE_P(
    , Winograd,
    ::testing::Values(
        ProductTiles{
            .rows = 256, .columns = 64, .stages = 4, .blocks = 1, .chunk = 64, .winograd = true},
        ProductTiles{
            .rows = 256, .columns = 80, .stages = 3, .blocks = 1, .chunk = 80, .winograd = true},
        ProductTiles{
            .rows = 256, .columns = 64, .stages = 3, .blocks = 1, .splits = 2, .winograd = true},
        ProductTiles{.rows = 256,
                     .columns = 64,
                     .stages = 4,
                     .blocks = 1,
                     .staged = true,
                     .winograd = true}),
    name_of_tiles);

TEST(WinogradPatches, ReadTheFewestPixels) {
    const auto patches = [](std::int64_t rows, std::int64_t columns) {
        cuda::ProductWindows windows;
        windows.rows = rows;
        windows.columns = columns;
        return cuda::patches_of(windows);
    };
    EXPECT_EQ(patches(8, 8), (cuda::Patches{1, 2, 4, 9, 10}));
    EXPECT_EQ(patches(16, 16), (cuda::Patches{2, 4, 1, 17, 18}));
    EXPECT_EQ(patches(64, 64), (cuda::Patches{2, 4, 1, 19, 18}));
    EXPECT_EQ(patches(64, 8), (cuda::Patches{1, 8, 1, 9, 34}));
    EXPECT_FALSE(patches(14, 14));
    EXPECT_FALSE(patches(8, 12));
    EXPECT_FALSE(patches(12, 8));  // three patches of an image
}

TEST(WinogradTiles, AreForWhatTheyCanDo) {
    cuda::TensorProduct product;
    product.m = 64 * 64;
    product.n = 64;
    product.k = 9 * 64;
    product.windows = windows_3x3(1, 64, 64);
    product.tiles = {.rows = 256, .columns = 64, .blocks = 1, .winograd = true};
    EXPECT_EQ(why_no_winograd(product), std::nullopt);
    const auto refused = [&](const auto& change) {
        cuda::TensorProduct other = product;
        change(other);
        return why_no_winograd(other).has_value();
    };
    EXPECT_TRUE(refused([](auto& p) { p.type = cuda::DataType::BF16; }));
    EXPECT_TRUE(refused([](auto& p) { p.windows->stride_x = 2; }));
    EXPECT_TRUE(refused([](auto& p) { p.windows->dilation_y = 2; }));
    EXPECT_TRUE(refused([](auto& p) { p.windows->kernel_width = 1; }));
    EXPECT_TRUE(refused([](auto& p) { p.windows->pad_x = 0; }));
    EXPECT_TRUE(refused([](auto& p) { p.windows->channels = 60; }));
    EXPECT_TRUE(refused([](auto& p) { p.windows->columns = p.windows->width = 60; }));
    EXPECT_TRUE(refused([](auto& p) { p.windows.reset(); }));
    EXPECT_TRUE(refused([](auto& p) { p.tiles.columns = 96; }));
}

// As measured on an H200.
TEST(WinogradTiles, AreTakenWhereTheyAreFaster) {
    const auto chosen = [](std::int64_t images, std::int64_t size, std::int64_t channels,
                           std::int64_t filters) {
        cuda::TensorProduct product;
        product.m = images * size * size;
        product.n = filters;
        product.k = 9 * channels;
        product.lanes = 8;
        product.windows = windows_3x3(images, size, channels);
        const std::string tiles = to_string(choose_tiles(product, h200(), true));
        return tiles.find("F(2,3)") == std::string::npos ? "windows" : tiles;
    };
    EXPECT_EQ(chosen(2, 64, 320, 320), "256x80 by F(2,3) 5 stages");
    EXPECT_EQ(chosen(512, 8, 256, 256), "256x64 by F(2,3) staged 6 stages");
    EXPECT_EQ(chosen(512, 8, 112, 256), "256x64 by F(2,3) staged 6 stages");
    EXPECT_EQ(chosen(2, 16, 1280, 1280), "256x80 by F(2,3) k in 3 7 stages");
    EXPECT_EQ(chosen(2, 8, 1280, 1280), "windows");
    EXPECT_EQ(chosen(16, 8, 256, 256), "windows");
    EXPECT_EQ(chosen(64, 8, 256, 256), "windows");
    EXPECT_EQ(chosen(32, 112, 64, 64), "windows");
}

TEST(WinogradTiles, AreNotForWeightsWhoseSumsOverflow) {
    const auto plan_of = [](double largest, const std::set<std::string>& disabled = {}) {
        Graph graph;
        const Shape shape = Shape::of({2, 64, 64, 320});
        const Var x = permute(graph.input("x", DType::F16, shape), {0, 3, 1, 2});
        std::vector<float> w(std::size_t{320} * 320 * 9, 0.01f);
        w[w.size() / 2] = static_cast<float>(-largest);
        const Var filters =
            cast(graph.constant(Tensor::from_span<float>({320, 320, 3, 3}, w)), DType::F16);
        graph.output("y", permute(conv(x, filters, {}, {.pads = {1, 1, 1, 1}}), {0, 2, 3, 1}));
        return cuda::plan(optimize(graph), h200(),
                          {.precision = Precision::F16, .disabled_rules = disabled})
            .to_string();
    };
    EXPECT_NE(plan_of(21000).find("by F(2,3)"), std::string::npos);
    const std::string refused = plan_of(22000);
    EXPECT_EQ(refused.find("by F(2,3)"), std::string::npos) << refused;
    EXPECT_NE(refused.find("the weights are too large for minimal filtering"), std::string::npos)
        << refused;
    EXPECT_EQ(plan_of(1, {"minimal filtering"}).find("by F(2,3)"), std::string::npos);
}

// Both widths, alone and with k shared out, and with kernels that start early, run after run.
TEST(GpuWinograd, EveryForm) {
    if (cuda::device_count() == 0) GTEST_SKIP() << cuda::why_unavailable();
    const cuda::Device device(0);
    for (const Image& image : {Image{6, 8, 8}, Image{2, 16, 16}, Image{1, 8, 32}}) {
        const Graph graph = layer(image, 320, 136, true);
        const InDouble in_double(graph);
        const std::vector<Tensor> inputs = random_inputs(graph);
        for (const auto& [columns, splits, staged] :
             {std::tuple{64, 1, false}, {80, 1, false}, {80, 5, false}, {64, 1, true}}) {
            const ProductTiles tiles{.rows = 256,
                                     .columns = columns,
                                     .stages = 4,
                                     .blocks = 1,
                                     .splits = splits,
                                     .chunk = columns,
                                     .staged = staged,
                                     .winograd = true};
            SCOPED_TRACE(fmt::format("{} images of {}x{} in {}", image.images, image.height,
                                     image.width, to_string(tiles)));
            cuda::forced_tiles() = tiles;
            const auto plan = std::make_shared<const cuda::Plan>(
                cuda::plan(graph, device.properties(), {.precision = Precision::F16}));
            cuda::forced_tiles().reset();
            EXPECT_NE(plan->to_string().find("by F(2,3)"), std::string::npos);
            in_double.expect(*plan, product_bounds[2]);
            cuda::Executor early(plan, device, {.overlap = cuda::Overlap::All});
            const Tensor expected = cuda::Executor(plan, device).run(inputs).at(0);
            for (int i = 0; i < 5; i++)
                ASSERT_TRUE(std::ranges::equal(expected.bytes(), early.run(inputs).at(0).bytes()));
        }
    }
}

}  // namespace

}  // namespace kn::test
