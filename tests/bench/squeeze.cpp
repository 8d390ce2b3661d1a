// Times squeeze and excite of a residual block (mean of an image, two small products, scale, shift,
// residual, relu) on a GPU: as separate steps, and as one kernel in the tiles that its model
// chooses; with --variants in all sensible ones. With the largest difference from the CPU.
//
//     bench_squeeze [--variants] [--precision f16] "256 256 8 8 64" "256 256 8 8 64 3"
//
// A case: images, channels, height, width, columns between the products; and of a convolution in
// front of it, the windows' width: then the convolution alone, both apart, and both in one kernel,
// whose result is compared with theirs.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <optional>
#include <sstream>
#include <string>

#include <kn/cuda_eval/executor.h>
#include <kn/graph/builder.h>
#include <kn/graph/cpu.h>
#include <kn/graph/optimizer.h>
#include <kn/graph/random.h>

#include "arguments.h"
#include "cache/disk_cache.h"
#include "codegen/emit.h"
#include "executor/kernels.h"
#include "lower/squeeze.h"
#include "lower/squeeze_epilogue.h"

namespace {

using namespace kn;
using PlanPtr = std::shared_ptr<const cuda::Plan>;

struct Problem {
    Graph graph;
    std::vector<Tensor> inputs;
    cuda::Squeeze squeeze;
};

Ints parse(const std::string& text) {
    std::istringstream stream(text);
    Ints numbers;
    for (std::int64_t n = 0; stream >> n;) numbers.push_back(n);
    if (numbers.size() != 5 && numbers.size() != 6) throw std::runtime_error("no case: " + text);
    return numbers;
}

enum class Part { All, Convolution };

// Images are stored channels last.
Graph block(const Ints& c, DType dtype, Part part = Part::All) {
    Graph g;
    const std::int64_t images = c[0];
    Random random(5);
    const auto image = [&](const char* name) {
        return permute(g.input(name, dtype, Shape::of({images, c[2], c[3], c[1]})), {0, 3, 1, 2});
    };
    const auto weight = [&](const Ints& shape, double size = 1) {
        Tensor tensor = random_tensor(DType::F32, shape, random);
        for (float& x : tensor.mutable_data<float>()) x *= static_cast<float>(size);
        return g.constant(tensor.cast(dtype));
    };
    Var x = image("x");
    const Var residual = image("residual");
    if (c.size() == 6) {
        const std::int64_t pad = c[5] / 2;
        const double size = 1 / std::sqrt(static_cast<double>(c[1] * c[5] * c[5]));
        x = conv(x, weight({c[1], c[1], c[5], c[5]}, size), {}, {.pads = {pad, pad, pad, pad}});
        x = x + weight({1, c[1], 1, 1});
    }
    if (part == Part::Convolution) {
        g.output("y", permute(relu(x + residual), {0, 2, 3, 1}));
        return g;
    }
    Var y = matmul(mean(x, {2, 3}), weight({c[1], c[4]}));
    y = relu(y + weight({1, c[4]}));
    y = matmul(y, weight({c[4], 2 * c[1]})) + weight({1, 2 * c[1]});
    const auto wide = [&](const Var& row) {
        return broadcast_to(reshape(row, {images, c[1], 1, 1}), x.shape());
    };
    y = x * wide(sigmoid(slice(y, 1, 0, c[1]))) + wide(slice(y, 1, c[1], 2 * c[1]));
    g.output("y", permute(relu(y + residual), {0, 2, 3, 1}));
    return g;
}

Problem build(const Ints& c, DType dtype, Part part = Part::All) {
    Problem problem{optimize(block(c, dtype, part)), {}, {}};
    Random random(7);
    for (int i = 0; i < 2; ++i)
        problem.inputs.push_back(random_tensor(dtype, {c[0], c[2], c[3], c[1]}, random));
    problem.squeeze.dtype = dtype;
    problem.squeeze.images = c[0];
    problem.squeeze.channels = c[1];
    problem.squeeze.positions = c[2] * c[3];
    problem.squeeze.hidden = c[4];
    problem.squeeze.shifts = {0, c[1]};
    return problem;
}

PlanPtr plan_of(const Problem& problem, bool apart) {
    cuda::PlanOptions options;
    if (apart) options.disabled_rules = {"squeeze and excite"};
    return std::make_shared<const cuda::Plan>(
        cuda::plan(problem.graph, cuda::Device(0).properties(), options));
}

Tensor measure(const std::string& label, const Problem& problem, const PlanPtr& plan,
               const std::optional<Tensor>& expected) {
    cuda::Executor executor(plan, cuda::Device(0));
    const Tensor y = executor.run(problem.inputs).at(0).cast(DType::F32);
    double worst = 0;
    for (std::int64_t i = 0; expected && i < y.size(); ++i) {
        const double error = std::abs(y.at(i) - expected->at(i));
        worst = std::isnan(error) ? error : std::max(worst, error);
    }
    double us = 0;
    for (const cuda::StepTime& time : executor.time_steps()) us += time.us;
    std::printf("%8.2f us  worst %.1e  %zu steps  %s\n", us, worst, plan->steps.size(),
                label.c_str());
    std::fflush(stdout);
    return y;
}

void measure_convolution(const Ints& c, DType dtype) {
    const auto plan_now = [](const Problem& problem) {
        return std::make_shared<const cuda::Plan>(
            cuda::plan(problem.graph, cuda::Device(0).properties()));
    };
    const Problem alone = build(c, dtype, Part::Convolution), all = build(c, dtype);
    measure("convolution alone", alone, plan_now(alone), {});
    cuda::PlanOptions options;
    options.disabled_rules = {"convolution, squeeze and excite"};
    const auto apart = std::make_shared<const cuda::Plan>(
        cuda::plan(all.graph, cuda::Device(0).properties(), options));
    const Tensor expected = measure("steps apart", all, apart, {});
    for (const auto& [rows, blocks] : {std::pair{128, 1}, {128, 2}, {64, 2}, {64, 4}}) {
        cuda::forced_squeezed_conv() = {rows, blocks};
        const PlanPtr together = plan_now(all);
        cuda::forced_squeezed_conv().reset();
        measure("one kernel, an image in " + std::to_string(blocks) + ", " +
                    together->steps.back().tiles,
                all, together, expected);
    }
}

}  // namespace

int main(int argc, char** argv) try {
    const auto [variants, dtype, words] = bench::parse_arguments(argc, argv);
    const int sm_count = cuda::Device(0).properties().sm_count;
    for (const std::string& word : words) {
        const Ints c = parse(word);
        std::printf("%lld images of %lld x %lld x %lld, %lld between\n",
                    static_cast<long long>(c[0]), static_cast<long long>(c[1]),
                    static_cast<long long>(c[2]), static_cast<long long>(c[3]),
                    static_cast<long long>(c[4]));
        if (c.size() == 6) {
            measure_convolution(c, dtype);
            continue;
        }
        const Problem problem = build(c, dtype);
        const Tensor expected = cpu::run(problem.graph, problem.inputs).at(0).cast(DType::F32);
        measure("steps apart", problem, plan_of(problem, true), expected);
        measure("one kernel", problem, plan_of(problem, false), expected);
        if (!variants) continue;
        std::vector<PlanPtr> plans;
        std::vector<cuda::PlanKernel> kernels;
        const auto tiles = problem.squeeze.sensible_tiles(sm_count);
        for (const cuda::SqueezeTiles& each : tiles) {
            cuda::forced_squeeze_tiles() = each;
            plans.push_back(plan_of(problem, false));
            const auto& own = plans.back()->kernels;
            kernels.insert(kernels.end(), own.begin(), own.end());
        }
        cuda::forced_squeeze_tiles().reset();
        // All at once, on all processors.
        cuda::compile_kernels(kernels, {.prelude = cuda::kernel_prelude(),
                                        .cache = cuda::DiskCache::shared(),
                                        .kernels_a_program = 1});
        for (std::size_t i = 0; i < plans.size(); ++i)
            measure("  " + to_string(tiles[i]), problem, plans[i], expected);
    }
    return 0;
} catch (const std::exception& error) {
    std::fprintf(stderr, "bench_squeeze: %s\n", error.what());
    return 1;
}
