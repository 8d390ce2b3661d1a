// Times single convolutions and products on a GPU: our tensor core kernel, in the tiles that its
// model chooses and in the N best by it, each with both epilogues, beside what the libraries do;
// with the error of samples against sums in double.
//
//     bench_products [--tiles N] [--precision f16] [--repeats 20] "conv 256 256 8 8 256 3 1 +"
//
// A step's time is the median of five rounds of so many repeats: thousands of them show what a step
// takes once the device's power limits its clock.
// conv: images, channels, height, width, filters, kernel, stride; matmul: m, n, k; gated: the same,
// with a bias, and one half of the columns times gelu of the other. layer or rms behind these: of
// rows that are normalised, in one kernel and apart; from K, of rows that are a product of K columns
// and a residual themselves, which may give statistics of them. A + behind it adds a residual, and relu; a ~ a
// bias, and relu. Convolutions over few channels take images as callers have them, and the tiles of
// their own kernel; pooled: one with relu and a max pool of 3x3 with stride 2 behind it, in one
// kernel and apart. pair: images, channels, height, width, filters, filters of the next one: both
// 1x1 and with relu, in one kernel and apart; with a residual, the first one's result is wanted,
// too; a & behind it adds the product of another image to the first one.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include <fmt/core.h>

#include <kn/cuda_eval/executor.h>
#include <kn/graph/builder.h>
#include <kn/graph/random.h>

#include "executor/in_parallel.h"
#include "lower/conv_bands.h"
#include "lower/few_channels.h"
#include "lower/few_channels_pool.h"
#include "lower/product_pair.h"
#include "lower/product_tiles.h"
#include "product_cases.h"

namespace {

using namespace kn;
using namespace kn::bench;

cuda::FewChannelsPool pooled_of(const Case& c, Precision precision) {
    cuda::FewChannelsPool conv;
    conv.conv = few_channels_of(c, precision);
    conv.y_type = conv.conv.type;
    conv.pool = {.height = 3, .width = 3, .stride_y = 2, .stride_x = 2, .pad_y = 1, .pad_x = 1};
    conv.pool.rows = (conv.conv.windows.rows - 1) / 2 + 1;
    conv.pool.columns = (conv.conv.windows.columns - 1) / 2 + 1;
    return conv;
}

cuda::ProductPair pair_of(const Case& c, Precision precision) {
    const cuda::TensorProduct product = problem_of(c, precision);
    cuda::ProductPair pair;
    pair.type = product.type;
    pair.m = product.m;
    pair.k = pair.row_stride = product.k;
    pair.n = product.n;
    pair.n2 = c.n[7];
    pair.before = c.residual;
    pair.keep = c.residual || c.also;
    pair.k_also = pair.row_stride_also = c.also ? product.k : 0;
    return pair;
}

struct Candidate {
    std::string label;
    cuda::PlanOptions options;
    std::optional<cuda::ProductTiles> tiles = {};
    std::optional<cuda::FewChannelTiles> few_channel_tiles = {};
    std::optional<cuda::FewChannelPoolTiles> pool_tiles = {};
    std::optional<cuda::PairTiles> pair_tiles = {};
    std::optional<cuda::BandTiles> band_tiles = {};
    std::unique_ptr<cuda::Executor> executor = {};
};

void prepare(Candidate& candidate, const Problem& problem) {
    cuda::forced_tiles() = candidate.tiles;
    cuda::forced_few_channel_tiles() = candidate.few_channel_tiles;
    cuda::forced_few_channel_pool_tiles() = candidate.pool_tiles;
    cuda::forced_pair_tiles() = candidate.pair_tiles;
    cuda::forced_band_tiles() = candidate.band_tiles;
    const auto plan = std::make_shared<const cuda::Plan>(
        cuda::plan(problem.graph, cuda::Device(0).properties(), candidate.options));
    cuda::forced_tiles().reset();
    cuda::forced_few_channel_tiles().reset();
    cuda::forced_few_channel_pool_tiles().reset();
    cuda::forced_pair_tiles().reset();
    cuda::forced_band_tiles().reset();
    candidate.executor = std::make_unique<cuda::Executor>(plan, cuda::Device(0));
}

void measure(Candidate& candidate, const Problem& problem, const Samples& samples, int repeats) {
    cuda::Executor& executor = *candidate.executor;
    const Tensor y = executor.run(problem.inputs).at(0);
    double peak = 0, worst = 0, square = 0;
    for (std::size_t i = 0; i < samples.values.size(); ++i) {
        const double error = element(y, stored_order(samples.places[i])) - samples.values[i];
        peak = std::max(peak, std::abs(samples.values[i]));
        worst = std::isnan(error) ? error : std::max(worst, std::abs(error));
        square += error * error;
    }
    std::string steps;
    double us = 0;
    std::int64_t flops = 0;
    for (const cuda::StepTime& time : executor.time_steps(repeats)) {
        const cuda::Step& step = executor.plan().steps[time.step];
        if (step.flops == 0 && step.name == "copy") continue;
        us += time.us;
        flops += step.flops;
        steps += (steps.empty() ? "" : ", ") + step.name;
    }
    std::printf("%-66s %8.1f us %7.1f TFLOP/s  rms %.1e worst %.1e of the peak  %s\n",
                candidate.label.c_str(), us, static_cast<double>(flops) / us / 1e6,
                std::sqrt(square / static_cast<double>(samples.values.size())) / peak, worst / peak,
                steps.c_str());
    std::fflush(stdout);
}

// The first few by the model.
std::vector<cuda::ProductTiles> best_tiles(const cuda::TensorProduct& product, std::size_t most,
                                           bool staged) {
    const cuda::DeviceProperties device = cuda::Device(0).properties();
    std::vector<cuda::ProductTiles> tiles = cuda::sensible_tiles(product, device, staged);
    std::ranges::sort(tiles, {}, [&](const cuda::ProductTiles& t) {
        return cuda::clocks_of(product, t, device);
    });
    if (tiles.size() > most) tiles.resize(most);
    return tiles;
}

// The best by the model of each number of groups, blocks and bands.
std::vector<cuda::FewChannelTiles> best_tiles(const cuda::FewChannels& conv, std::size_t most) {
    std::vector<cuda::FewChannelTiles> chosen;
    for (const auto& tiles : cuda::sensible_tiles(conv, cuda::Device(0).properties())) {
        const bool known = std::ranges::any_of(chosen, [&](const auto& other) {
            return other.groups == tiles.groups && other.blocks == tiles.blocks &&
                   other.stages == tiles.stages;
        });
        if (!known && chosen.size() < most) chosen.push_back(tiles);
    }
    return chosen;
}

// The best by the model of each number of groups, bands, columns.
std::vector<cuda::FewChannelPoolTiles> best_tiles(const cuda::FewChannelsPool& conv,
                                                  std::size_t most) {
    std::vector<cuda::FewChannelPoolTiles> chosen;
    for (const auto& tiles : cuda::sensible_tiles(conv, cuda::Device(0).properties())) {
        const bool known = std::ranges::any_of(chosen, [&](const auto& other) {
            return other.groups == tiles.groups && other.stages == tiles.stages &&
                   other.columns == tiles.columns;
        });
        if (!known && chosen.size() < most) chosen.push_back(tiles);
    }
    return chosen;
}

std::vector<cuda::PairTiles> best_tiles(const cuda::ProductPair& pair, std::size_t most) {
    std::vector<cuda::PairTiles> tiles = cuda::sensible_tiles(pair, cuda::Device(0).properties());
    if (tiles.size() > most) tiles.resize(most);
    return tiles;
}

cuda::ConvBands bands_of(const Case& c, Precision precision) {
    const cuda::FewChannels conv = few_channels_of(c, precision);
    return {.type = conv.type, .windows = conv.windows, .n = conv.n, .tiles = {}};
}

// The best by the model of each number of groups, bands, rows.
std::vector<cuda::BandTiles> best_tiles(const cuda::ConvBands& conv, std::size_t most) {
    std::vector<cuda::BandTiles> chosen;
    if (conv.why_never()) return chosen;
    for (const auto& tiles : cuda::sensible_tiles(conv, cuda::Device(0).properties())) {
        const bool known = std::ranges::any_of(chosen, [&](const auto& other) {
            return other.groups == tiles.groups && other.stages == tiles.stages &&
                   other.rows == tiles.rows;
        });
        if (!known && chosen.size() < most) chosen.push_back(tiles);
    }
    return chosen;
}

std::vector<Candidate> candidates_of(const Case& c, Precision precision, std::size_t most_tiles) {
    cuda::PlanOptions options;
    options.precision = precision;
    std::vector<Candidate> candidates;
    candidates.push_back({.label = "  the plan's choice", .options = options});
    cuda::PlanOptions others = options;
    if (c.pooled || c.pair) {
        others.disabled_rules = {c.pair ? "pair of products" : "few channels and max pool"};
        candidates.push_back({.label = "  apart", .options = others});
    }
    if (c.pooled) {
        for (const auto& tiles : best_tiles(pooled_of(c, precision), most_tiles))
            candidates.push_back(
                {.label = "  " + cuda::to_string(tiles), .options = options, .pool_tiles = tiles});
        return candidates;
    }
    if (c.pair) {
        for (const auto& tiles : best_tiles(pair_of(c, precision), most_tiles))
            candidates.push_back(
                {.label = "  " + cuda::to_string(tiles), .options = options, .pair_tiles = tiles});
        return candidates;
    }
    if (c.norm) {
        if (c.from > 0) {
            others.disabled_rules = {"rows' norms beside products"};
            candidates.push_back({.label = "  statistics by the reader", .options = others});
        }
        others.disabled_rules = {"normalized product"};
        candidates.push_back({.label = "  apart", .options = others});
    }
    others.disabled_rules = {"tensor core product", "convolution by bands", "gated product",
                             "few channels", "normalized product"};
    candidates.push_back({.label = "  libraries", .options = others});
    if (c.few_channels()) {
        for (const auto& tiles : best_tiles(few_channels_of(c, precision), most_tiles))
            candidates.push_back({.label = "  " + cuda::to_string(tiles),
                                  .options = options,
                                  .few_channel_tiles = tiles});
        return candidates;
    }
    if (c.conv && !c.residual)
        for (const auto& tiles : best_tiles(bands_of(c, precision), most_tiles))
            candidates.push_back(
                {.label = "  " + cuda::to_string(tiles), .options = options, .band_tiles = tiles});
    for (const bool staged : {false, true}) {
        for (const cuda::ProductTiles& tiles :
             best_tiles(problem_of(c, precision), most_tiles, staged))
            candidates.push_back(
                {.label = "  " + cuda::to_string(tiles), .options = options, .tiles = tiles});
    }
    return candidates;
}

}  // namespace

int main(int argc, char** argv) try {
    std::size_t most_tiles = 0;
    int repeats = 20;
    Precision precision = Precision::F16;
    const std::map<std::string, Precision> precisions = {{"f32", Precision::F32},
                                                         {"tf32", Precision::TF32},
                                                         {"f16", Precision::F16},
                                                         {"bf16", Precision::BF16}};
    std::vector<Case> cases;
    for (int i = 1; i < argc; ++i) {
        const std::string word = argv[i];
        if (word == "--tiles")
            most_tiles = std::stoul(argv[++i]);
        else if (word == "--repeats")
            repeats = std::stoi(argv[++i]);
        else if (word == "--precision")
            precision = precisions.at(argv[++i]);
        else
            cases.push_back(parse(word));
    }
    for (const Case& c : cases) {
        std::printf("%s\n", c.text.c_str());
        const Problem problem = build(c, dtype_of(precision));
        const Samples samples = sample(c, problem);
        std::vector<Candidate> candidates = candidates_of(c, precision, most_tiles);
        cuda::in_parallel(candidates.size(),
                          [&](std::size_t i) { prepare(candidates[i], problem); });
        for (Candidate& candidate : candidates) {
            measure(candidate, problem, samples, repeats);
            candidate.executor.reset();
        }
    }
    return 0;
} catch (const std::exception& error) {
    fmt::print(stderr, "bench_products: {}\n", error.what());
    return 1;
}
