// Convolutions whose windows share bands of the image, on the host: windows, channels, tiles.
#include <algorithm>
#include <limits>

#include "check.h"
#include "cuda_eval/product_bounds.h"
#include "lower/conv_bands.h"

namespace kn::cuda {

void PrintTo(const BandTiles& tiles, std::ostream* out) { *out << to_string(tiles); }

}  // namespace kn::cuda

namespace kn::test {

namespace {

using cuda::BandTiles;

cuda::Plan planned(const Graph& graph, const BandTiles& tiles) {
    cuda::Plan plan =
        plan_in_tiles(graph, cuda::forced_band_tiles(), tiles, 2, {.precision = Precision::TF32});
    EXPECT_EQ(std::ranges::count(step_names(plan), "tensor_conv_bands"), 1) << plan.to_string();
    return plan;
}

/// One step of ours in these tiles, against the CPU in double.
void expect_right(const Graph& graph, const BandTiles& tiles, DType dtype = DType::F16) {
    SCOPED_TRACE(to_string(tiles));
    const double of_peak = product_bounds[dtype == DType::F32   ? 1
                                          : dtype == DType::F16 ? 2
                                                                : 3]
                               .of_peak;
    expect_as_in_double(planned(graph, tiles), graph, of_peak);
}

struct Image {
    std::int64_t images = 3, channels = 32, height = 11, width = 14, filters = 40;
    Ints kernel = {3, 3};
    ConvOptions options = {.pads = {1, 1, 1, 1}};
    DType dtype = DType::F16;
};

// With channels innermost, as between layers.
Graph network(const Image& image) {
    Graph graph;
    const Var x = graph.input("x", image.dtype,
                              Shape::of({image.images, image.height, image.width, image.channels}));
    const Var w = weight(graph, {image.filters, image.channels, image.kernel[0], image.kernel[1]},
                         image.dtype);
    const Var y = conv(permute(x, {0, 3, 1, 2}), w, weight(graph, {image.filters}, image.dtype),
                       image.options);
    graph.output("y", permute(relu(y), {0, 2, 3, 1}));
    return graph;
}

TEST(ConvBandsTiles, AnyOfThem) {
    for (const std::int64_t channels : {32, 64})
        for (const BandTiles& tiles :
             {BandTiles{.groups = 1, .stages = 2, .rows = 1, .columns = 14},
              BandTiles{.groups = 1, .stages = 3, .rows = 11, .columns = 14},
              BandTiles{.groups = 2, .stages = 2, .rows = 2, .columns = 14},
              BandTiles{.groups = 2, .stages = 3, .rows = 4, .columns = 5},
              BandTiles{.groups = 3, .stages = 4, .rows = 4, .columns = 7},
              BandTiles{.groups = 3, .stages = 3, .rows = 2, .columns = 20}})
            expect_right(network({.channels = channels}), tiles);
}

TEST(ConvBandsTiles, AnyOfThemInTf32) {
    for (const std::int64_t channels : {16, 32, 64})
        for (const BandTiles& tiles :
             {BandTiles{.groups = 1, .stages = 2, .rows = 1, .columns = 14},
              BandTiles{.groups = 2, .stages = 2, .rows = 3, .columns = 14},
              BandTiles{.groups = 2, .stages = 3, .rows = 4, .columns = 5}})
            expect_right(network({.channels = channels, .dtype = DType::F32}), tiles, DType::F32);
}

TEST(ConvBandsImages, WindowsChannelsAndFiltersOfEveryKind) {
    const BandTiles tiles{.rows = 3, .columns = 7};
    for (const Image& image :
         {Image{.channels = 16, .filters = 72}, Image{.channels = 48, .filters = 8, .options = {}},
          Image{.channels = 64, .kernel = {5, 3}, .options = {.pads = {2, 0, 1, 3}}},
          Image{.channels = 16, .kernel = {1, 1}, .options = {}},
          Image{.channels = 16,
          .kernel = {3, 2},
          .options = {.dilations = {2, 3}, .pads = {2, 1, 2, 1}}},
          Image{.images = 1, .channels = 128, .height = 5, .width = 5, .filters = 16},
          Image{.images = 2,
          .channels = 128,
          .filters = 8,
          .kernel = {2, 3},
          .options = {.dilations = {2, 1}, .pads = {2, 0, 1, 3}}},
          Image{.filters = 136, .dtype = DType::BF16},
          Image{.channels = 64, .filters = 64, .dtype = DType::BF16}})
        expect_right(network(image), tiles, image.dtype);
}

TEST(ConvBandsLayouts, AnyOfThem) {
    Graph graph;
    const Var x = graph.input("x", DType::F16, Shape::of({2, 16, 9, 10}));
    const Var y = conv(x, weight(graph, {24, 16, 3, 3}, DType::F16), {}, {.pads = {1, 1, 1, 1}});
    graph.output("y", silu(y));
    expect_right(graph, {.rows = 2, .columns = 10});
}

// What is no number is met by the windows around it, and by no others.
TEST(ConvBandsValues, NotNumbers) {
    Graph graph;
    const Ints shape = {2, 9, 13, 16};
    const Var x = permute(graph.input("x", DType::F16, Shape::of(shape)), {0, 3, 1, 2});
    const Var y = conv(x, weight(graph, {8, 16, 3, 3}, DType::F16), {}, {.pads = {1, 1, 1, 1}});
    graph.output("y", permute(y, {0, 2, 3, 1}));
    Random random(1);
    Tensor image = random_tensor(DType::F32, shape, random);
    for (const std::size_t i : {0, 12 * 16, 700, 9 * 13 * 16 - 1})
        image.mutable_data<float>()[i] = std::numeric_limits<float>::quiet_NaN();
    const std::vector<Tensor> inputs = {image.cast(DType::F16)};
    const cuda::Plan plan = planned(graph, {.rows = 4, .columns = 13});
    const auto difference =
        testing::compare(cuda::run_plan_on_host(plan, inputs).at(0), cpu::run(graph, inputs).at(0),
                         {.rtol = 2e-3, .atol_of_peak = 2e-2});
    EXPECT_TRUE(difference.equal) << difference.message << "\n" << plan.to_string();
}

}  // namespace

}  // namespace kn::test
