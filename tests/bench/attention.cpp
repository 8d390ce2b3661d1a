// Times single attentions on a GPU: our tensor core kernel in the tiles that its model chooses,
// beside what the library does (float32: beside FMA); with --variants in all sensible tiles. With
// the error of sampled rows against double.
//
//     bench_attention [--variants] [--precision f16] "2 8 4096 4096 40" "1 32 512 512 64 8 causal"
//
// A case: batch, heads, queries, keys, width [, heads of keys] [causal].
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <sstream>
#include <string>

#include <fmt/core.h>

#include <kn/cuda_eval/executor.h>
#include <kn/graph/builder.h>
#include <kn/graph/random.h>

#include "arguments.h"
#include "cache/disk_cache.h"
#include "codegen/emit.h"
#include "executor/kernels.h"
#include "lower/attention_tiles.h"
#include "lower/special.h"

namespace {

using namespace kn;
using cuda::AttentionTiles;

struct Case {
    std::string text;
    std::int64_t batch = 1, heads = 1, queries = 1, keys = 1, width = 8, key_heads = 1;
    bool causal = false;
};

Case parse(const std::string& text) {
    Case c;
    c.text = text;
    std::istringstream stream(text);
    stream >> c.batch >> c.heads >> c.queries >> c.keys >> c.width;
    if (!stream) throw std::runtime_error("no case: " + text);
    c.key_heads = c.heads;
    std::string word;
    while (stream >> word) {
        if (word == "causal")
            c.causal = true;
        else
            c.key_heads = std::stoll(word);
    }
    return c;
}

struct Problem {
    Graph graph;
    std::vector<Tensor> inputs;
};

// Heads are neighbours in memory, as projections leave them.
Problem build(const Case& c, DType dtype) {
    Problem problem;
    Random random(3);
    const auto input = [&](const char* name, std::int64_t rows, std::int64_t heads) {
        const Ints shape{c.batch, rows, heads, c.width};
        problem.inputs.push_back(random_tensor(dtype, shape, random));
        return permute(problem.graph.input(name, dtype, Shape::of(shape)), {0, 2, 1, 3});
    };
    const Var q = input("q", c.queries, c.heads), k = input("k", c.keys, c.key_heads),
              v = input("v", c.keys, c.key_heads);
    const CausalMask mask = c.causal ? CausalMask::TopLeft : CausalMask::None;
    problem.graph.output("y", permute(attention(q, k, v, {}, 0, mask), {0, 2, 1, 3}));
    return problem;
}

struct Samples {
    std::vector<std::int64_t> places;  // of a row of the result
    std::vector<double> values;
};

std::vector<double> in_double(const Tensor& tensor) {
    const Tensor wide = tensor.cast(DType::F64);
    const auto data = wide.data<double>();
    return {data.begin(), data.end()};
}

Samples sample(const Case& c, const Problem& problem) {
    Samples samples;
    Random random(11);
    const auto q = in_double(problem.inputs[0]), k = in_double(problem.inputs[1]),
               v = in_double(problem.inputs[2]);
    const auto below = [&](std::int64_t n) {
        return static_cast<std::int64_t>(random.bits() % static_cast<std::uint64_t>(n));
    };
    for (int i = 0; i < 40; ++i) {
        const std::int64_t batch = below(c.batch), head = below(c.heads), s = below(c.queries);
        const std::int64_t key_head = head / (c.heads / c.key_heads);
        const auto at = [&](std::int64_t row) {
            return static_cast<std::size_t>(((batch * c.keys + row) * c.key_heads + key_head) *
                                            c.width);
        };
        const auto from =
            static_cast<std::size_t>(((batch * c.queries + s) * c.heads + head) * c.width);
        const auto width = static_cast<std::size_t>(c.width);
        const std::int64_t visible = c.causal ? std::min(s + 1, c.keys) : c.keys;
        std::vector<double> weights;
        for (std::int64_t t = 0; t < visible; ++t) {
            double score = 0;
            for (std::size_t d = 0; d < width; ++d) score += q[from + d] * k[at(t) + d];
            weights.push_back(score / std::sqrt(static_cast<double>(c.width)));
        }
        const double top = *std::ranges::max_element(weights);
        double total = 0;
        for (double& weight : weights) total += weight = std::exp(weight - top);
        samples.places.push_back(static_cast<std::int64_t>(from));
        for (std::size_t d = 0; d < width; ++d) {
            double sum = 0;
            for (std::int64_t t = 0; t < visible; ++t)
                sum += weights[static_cast<std::size_t>(t)] * v[at(t) + d];
            samples.values.push_back(sum / total);
        }
    }
    return samples;
}

using PlanPtr = std::shared_ptr<const cuda::Plan>;

PlanPtr plan_of(const Problem& problem, bool library) {
    cuda::PlanOptions options;
    options.disabled_rules = {library ? "tensor-attention" : "library-attention"};
    return std::make_shared<const cuda::Plan>(
        cuda::plan(problem.graph, cuda::Device(0).properties(), options));
}

void measure(const std::string& label, const Case& c, const Problem& problem,
             const Samples& samples, const PlanPtr& plan) {
    cuda::Executor executor(plan, cuda::Device(0));
    const std::vector<double> y = in_double(executor.run(problem.inputs).at(0));
    double peak = 0, worst = 0, square = 0;
    for (std::size_t i = 0; i < samples.values.size(); ++i) {
        const auto width = static_cast<std::size_t>(c.width);
        const std::size_t at = static_cast<std::size_t>(samples.places[i / width]) + i % width;
        const double error = y[at] - samples.values[i];
        peak = std::max(peak, std::abs(samples.values[i]));
        worst = std::isnan(error) ? error : std::max(worst, std::abs(error));
        square += error * error;
    }
    std::string steps;
    double us = 0;
    for (const cuda::StepTime& time : executor.time_steps()) {
        us += time.us;
        steps += (steps.empty() ? "" : ", ") + plan->steps[time.step].name;
    }
    std::printf("%8.2f us  rms %.1e worst %.1e of the peak  %s%s%s\n", us,
                std::sqrt(square / static_cast<double>(samples.values.size())) / peak, worst / peak,
                label.c_str(), label.empty() ? "" : "  ", steps.c_str());
    std::fflush(stdout);
}

void measure_all(const std::vector<AttentionTiles>& variants, const Case& c, const Problem& problem,
                 const Samples& samples) {
    std::vector<PlanPtr> plans;
    std::vector<cuda::PlanKernel> kernels;
    for (const AttentionTiles& tiles : variants) {
        cuda::forced_attention_tiles() = tiles;
        plans.push_back(plan_of(problem, false));
        const auto& own = plans.back()->kernels;
        kernels.insert(kernels.end(), own.begin(), own.end());
    }
    cuda::forced_attention_tiles().reset();
    // All at once, on all processors.
    cuda::compile_kernels(kernels, {.prelude = cuda::kernel_prelude(),
                                    .cache = cuda::DiskCache::shared(),
                                    .kernels_a_program = 1});
    for (std::size_t i = 0; i < variants.size(); ++i)
        measure("  " + cuda::to_string(variants[i]), c, problem, samples, plans[i]);
}

cuda::TensorAttention shape_of(const Case& c, DType dtype) {
    cuda::TensorAttention attention;
    attention.dtype = dtype;
    attention.batch = c.batch;
    attention.heads = c.heads;
    attention.key_heads = c.key_heads;
    attention.queries = c.queries;
    attention.keys = c.keys;
    attention.width = attention.value_width = c.width;
    if (c.causal) attention.causal_shift = 0;
    return attention;
}

}  // namespace

int main(int argc, char** argv) try {
    const auto [variants, dtype, words] = bench::parse_arguments(argc, argv);
    for (const std::string& word : words) {
        const Case c = parse(word);
        std::printf("%s\n", c.text.c_str());
        const Problem problem = build(c, dtype);
        const Samples samples = sample(c, problem);
        if (dtype == DType::F32) {
            cuda::forced_attention_products() = false;
            measure("  FMA", c, problem, samples, plan_of(problem, false));
            cuda::forced_attention_products().reset();
        } else {
            measure("  the library", c, problem, samples, plan_of(problem, true));
        }
        measure("  ours", c, problem, samples, plan_of(problem, false));
        if (variants && dtype != DType::F32)
            measure_all(
                cuda::sensible_tiles(shape_of(c, dtype), cuda::Device(0).properties().sm_count), c,
                problem, samples);
    }
    return 0;
} catch (const std::exception& error) {
    fmt::print(stderr, "bench_attention: {}\n", error.what());
    return 1;
}
