// Times single convolutions and products on a GPU: our tensor core kernel, in the tiles that its
// model chooses and in the N best by it, each with both epilogues, beside what the libraries do;
// with the error of samples against sums in double.
//
//     bench_products [--tiles N] [--precision f16] "conv 256 256 8 8 256 3 1 +" "matmul 64 128 96"
//
// conv: images, channels, height, width, filters, kernel, stride; matmul: m, n, k; gated: the same,
// with a bias, and one half of the columns times gelu of the other. layer or rms behind these: of rows that are normalised, in
// one kernel and apart. A + behind it adds a residual,
// and relu; a ~ a bias, and relu. Convolutions over few channels take images as callers have them, and the tiles of their
// own kernel; pooled: one with relu and a max pool of 3x3 with stride 2 behind it, in one kernel
// and apart. pair: images, channels, height, width, filters, filters of the next one: both 1x1 and with
// relu, in one kernel and apart; with a residual, the first one's result is wanted, too; a & behind
// it adds the product of another image to the first one.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <memory>
#include <optional>
#include <sstream>
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

namespace {

using namespace kn;

struct Case {
    std::string text;
    bool conv = false, gated = false, residual = false, pooled = false;
    bool pair = false, also = false, biased = false;
    std::optional<NormKind> norm = {};
    Ints n;  // as in the text

    bool few_channels() const { return conv && n[1] <= 8; }
};

Case parse(const std::string& text) {
    Case result;
    result.text = text;
    std::istringstream stream(text);
    std::string kind, word;
    stream >> kind;
    result.pooled = kind == "pooled";
    result.pair = kind == "pair";
    result.conv = kind == "conv" || result.pooled || result.pair;
    result.gated = kind == "gated";
    while (stream >> word) {
        if (word == "+")
            result.residual = true;
        else if (word == "~")
            result.biased = true;
        else if (word == "&")
            result.also = true;
        else if (word == "layer" || word == "rms")
            result.norm = word == "rms" ? NormKind::MeanSquare : NormKind::MeanVariance;
        else
            result.n.push_back(std::stoll(word));
    }
    const bool matmul = kind == "matmul" || result.gated;
    const std::size_t numbers = matmul ? 3 : result.pair ? 6 : result.conv ? 7 : 0;
    if (result.n.size() != numbers || numbers == 0) throw std::runtime_error("no case: " + text);
    if (result.pair) result.n.insert(result.n.begin() + 5, {1, 1});
    return result;
}

struct Problem {
    Graph graph;
    std::vector<Tensor> inputs;
    Tensor weight, bias, next_weight, also_weight, scale, shift;
    Ints y;
};

// Images have their channels innermost, as networks have them between layers.
Ints stored_order(const Ints& i) { return i.size() == 4 ? Ints{i[0], i[2], i[3], i[1]} : i; }

Var input(Problem& problem, const char* name, DType dtype, const Ints& shape, Random& random) {
    const Ints stored = stored_order(shape);
    problem.inputs.push_back(random_tensor(dtype, stored, random));
    const Var x = problem.graph.input(name, dtype, Shape::of(stored));
    return shape.size() == 4 ? permute(x, {0, 3, 1, 2}) : x;
}

// Images of few channels are float32 and channels first, as callers have them.
Var image(Problem& problem, DType dtype, const Ints& shape, Random& random) {
    problem.inputs.push_back(random_tensor(dtype, shape, random).cast(DType::F32));
    return cast(problem.graph.input("x", DType::F32, Shape::of(shape)), dtype);
}

Problem build(const Case& c, DType dtype) {
    Problem problem;
    Random random(3);
    const Ints x_shape = c.conv ? Ints{c.n[0], c.n[1], c.n[2], c.n[3]} : Ints{c.n[0], c.n[2]};
    const Ints w_shape = c.conv ? Ints{c.n[4], c.n[1], c.n[5], c.n[5]} : Ints{c.n[2], c.n[1]};
    problem.weight = random_tensor(dtype, w_shape, random);
    Var x = c.few_channels() ? image(problem, dtype, x_shape, random)
                             : input(problem, "x", dtype, x_shape, random);
    if (c.norm) {
        problem.scale = random_tensor(dtype, {c.n[2]}, random);
        problem.shift = random_tensor(dtype, {c.n[2]}, random);
        const Var scale = problem.graph.constant(problem.scale);
        x = c.norm == NormKind::MeanSquare
                ? rms_norm(x, scale)
                : layer_norm(x, scale, problem.graph.constant(problem.shift));
    }
    const Var w = problem.graph.constant(problem.weight);
    const std::int64_t pad = c.conv ? c.n[5] / 2 : 0;
    Var y = c.conv ? conv(x, w, {}, {.strides = {c.n[6], c.n[6]}, .pads = {pad, pad, pad, pad}})
                   : matmul(x, w);
    if (c.pair || c.biased) {
        problem.bias = random_tensor(dtype, {c.n[4], 1, 1}, random);
        y = y + problem.graph.constant(problem.bias);
    }
    if (c.biased) y = relu(y);
    if (c.also) {
        const Var also = input(problem, "also", dtype, x_shape, random);
        problem.also_weight = random_tensor(dtype, w_shape, random);
        y = y + conv(also, problem.graph.constant(problem.also_weight), {}, {});
    }
    if (c.gated) {
        problem.bias = random_tensor(dtype, {c.n[1]}, random);
        y = y + problem.graph.constant(problem.bias);
        y = slice(y, 1, 0, c.n[1] / 2) * gelu(slice(y, 1, c.n[1] / 2, c.n[1]));
    }
    if (c.pooled) y = max_pool(relu(y), {3, 3}, {.strides = {2, 2}, .pads = {1, 1, 1, 1}});
    problem.y = problem.graph.shape(y).to_ints();
    if (c.residual) {
        y = relu(y + input(problem, "r", dtype, problem.y, random));
    }
    if (c.pair) {
        problem.next_weight = random_tensor(dtype, {c.n[7], c.n[4], 1, 1}, random);
        if (!c.residual) y = relu(y);
        const Var z = relu(conv(y, problem.graph.constant(problem.next_weight), {}, {}));
        problem.y = problem.graph.shape(z).to_ints();
        problem.graph.output("z", permute(z, {0, 2, 3, 1}));
    }
    if (!c.pair || c.residual || c.also)
        problem.graph.output("y", c.conv ? permute(y, {0, 2, 3, 1}) : y);
    return problem;
}

double element(const Tensor& tensor, const Ints& at) {
    std::int64_t i = 0;
    for (std::size_t axis = 0; axis < at.size(); ++axis) i = i * tensor.shape()[axis] + at[axis];
    return tensor.at(i);
}

// A product's row, normalised where that is wanted.
std::vector<double> row_of(const Case& c, const Problem& p, std::int64_t at) {
    std::vector<double> row;
    double sum = 0, squares = 0;
    for (std::int64_t k = 0; k < c.n[2]; ++k) {
        row.push_back(element(p.inputs[0], {at, k}));
        sum += row.back();
        squares += row.back() * row.back();
    }
    if (!c.norm) return row;
    const auto count = static_cast<double>(row.size());
    const bool centred = c.norm == NormKind::MeanVariance;
    const double mean = centred ? sum / count : 0;
    const double factor = 1 / std::sqrt(squares / count - mean * mean + 1e-5);
    for (std::size_t k = 0; k < row.size(); ++k) {
        const auto i = static_cast<std::int64_t>(k);
        row[k] = (row[k] - mean) * factor * p.scale.at(i) + (centred ? p.shift.at(i) : 0);
    }
    return row;
}

// One element of the result in double, of a pool's one that it is made of, of a pair's first one.
double product_element(const Case& c, const Problem& p, const Ints& at) {
    const auto x = [&](const Ints& i) {
        return element(p.inputs[0], c.few_channels() ? i : stored_order(i));
    };
    const auto w = [&](const Ints& i) { return element(p.weight, i); };
    double sum = 0;
    if (c.conv) {
        const std::int64_t pad = c.n[5] / 2;
        for (std::int64_t channel = 0; c.also && channel < c.n[1]; ++channel)
            sum += element(p.inputs[1], stored_order({at[0], channel, at[2], at[3]})) *
                   element(p.also_weight, {at[1], channel, 0, 0});
        for (std::int64_t channel = 0; channel < c.n[1]; ++channel)
            for (std::int64_t i = 0; i < c.n[5]; ++i)
                for (std::int64_t j = 0; j < c.n[5]; ++j) {
                    const std::int64_t row = at[2] * c.n[6] + i - pad,
                                       column = at[3] * c.n[6] + j - pad;
                    if (row < 0 || column < 0 || row >= c.n[2] || column >= c.n[3]) continue;
                    sum += x({at[0], channel, row, column}) * w({at[1], channel, i, j});
                }
    } else {
        const std::vector<double> row = row_of(c, p, at[0]);
        const auto column = [&](std::int64_t j) {
            double total = c.gated ? p.bias.at(j) : 0;
            for (std::int64_t k = 0; k < c.n[2]; ++k)
                total += row[static_cast<std::size_t>(k)] * w({k, j});
            return total;
        };
        sum = column(at[1]);
        if (c.gated) {
            const double gate = column(at[1] + c.n[1] / 2);
            sum *= gate * 0.5 * (1 + std::erf(gate / std::sqrt(2.0)));
        }
    }
    if (c.pair || c.biased) sum += p.bias.at(at[1]);
    if (c.residual) sum += element(p.inputs.back(), stored_order(at));
    return c.residual || c.pair || c.biased ? std::max(0.0, sum) : sum;
}

double pair_reference(const Case& c, const Problem& p, const Ints& at) {
    double sum = 0;
    for (std::int64_t i = 0; i < c.n[4]; ++i)
        sum += product_element(c, p, {at[0], i, at[2], at[3]}) *
               element(p.next_weight, {at[1], i, 0, 0});
    return std::max(0.0, sum);
}

DType dtype_of(Precision precision) {
    return precision == Precision::F16    ? DType::F16
           : precision == Precision::BF16 ? DType::BF16
                                          : DType::F32;
}

cuda::TensorProduct problem_of(const Case& c, Precision precision) {
    const DType dtype = dtype_of(precision);
    cuda::TensorProduct product;
    product.exact = precision == Precision::F32;
    product.before = c.residual;
    product.y_bytes = static_cast<int>(size_of(dtype));
    product.type = dtype == DType::F16    ? cuda::DataType::F16
                   : dtype == DType::BF16 ? cuda::DataType::BF16
                                          : cuda::DataType::F32;
    if (c.conv) {
        const std::int64_t out = (c.n[2] + 2 * (c.n[5] / 2) - c.n[5]) / c.n[6] + 1;
        product.m = c.n[0] * out * out;
        product.n = c.n[4];
        product.k = c.n[1] * c.n[5] * c.n[5];
        product.windows.emplace();
        product.windows->images = c.n[0];
        product.windows->channels = c.n[1];
        product.windows->height = c.n[2];
        product.windows->width = c.n[3];
        product.windows->kernel_height = product.windows->kernel_width = c.n[5];
    } else {
        product.m = c.n[0];
        product.n = c.n[1];
        product.k = c.n[2];
        product.halves = c.gated ? 2 : 1;
        if (c.norm)
            product.statistics = c.norm == NormKind::MeanSquare ? cuda::RowStatistics::MeanSquare
                                                                : cuda::RowStatistics::Variance;
    }
    return product;
}

cuda::FewChannels few_channels_of(const Case& c, Precision precision) {
    const cuda::TensorProduct product = problem_of(c, precision);
    cuda::FewChannels conv;
    conv.type = product.type;
    conv.exact = product.exact;
    conv.n = product.n;
    conv.windows = *product.windows;
    conv.windows.stride_y = conv.windows.stride_x = c.n[6];
    conv.windows.pad_y = conv.windows.pad_x = c.n[5] / 2;
    conv.windows.rows = conv.windows.columns = (c.n[2] + c.n[5] / 2 * 2 - c.n[5]) / c.n[6] + 1;
    return conv;
}

double reference(const Case& c, const Problem& p, const Ints& at) {
    if (c.pair) return pair_reference(c, p, at);
    if (!c.pooled) return product_element(c, p, at);
    const cuda::ProductWindows windows = few_channels_of(c, Precision::F32).windows;
    double best = 0;  // by relu
    for (std::int64_t i = 2 * at[2] - 1; i <= 2 * at[2] + 1; ++i)
        for (std::int64_t j = 2 * at[3] - 1; j <= 2 * at[3] + 1; ++j)
            if (i >= 0 && j >= 0 && i < windows.rows && j < windows.columns)
                best = std::max(best, product_element(c, p, {at[0], at[1], i, j}));
    return best;
}

struct Samples {
    std::vector<Ints> places;
    std::vector<double> values;
};

Samples sample(const Case& c, const Problem& problem) {
    Samples samples;
    Random random(11);
    for (int i = 0; i < 400; ++i) {
        Ints place;
        for (const std::int64_t size : problem.y)
            place.push_back(
                static_cast<std::int64_t>(random.bits() % static_cast<std::uint64_t>(size)));
        samples.values.push_back(reference(c, problem, place));
        samples.places.push_back(std::move(place));
    }
    return samples;
}

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

void measure(Candidate& candidate, const Problem& problem, const Samples& samples) {
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
    for (const cuda::StepTime& time : executor.time_steps()) {
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

int main(int argc, char** argv) {
    std::size_t most_tiles = 0;
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
            measure(candidate, problem, samples);
            candidate.executor.reset();
        }
    }
    return 0;
}
