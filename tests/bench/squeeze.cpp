// Times squeeze and excite of a residual block (mean of an image, two small products, scale, shift,
// residual, relu) on a GPU: as separate steps, and as one kernel in the tiles that its model
// chooses; with --variants in all sensible ones. With the largest difference from the CPU.
//
//     bench_squeeze [--variants] [--precision f16] "256 256 8 8 64" "16 256 8 8 64"
//
// A case: images, channels, height, width, columns between the products.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <sstream>
#include <string>

#include <kn/cuda_eval/executor.h>
#include <kn/graph/builder.h>
#include <kn/graph/cpu.h>
#include <kn/graph/random.h>

#include "arguments.h"
#include "cache/disk_cache.h"
#include "codegen/emit.h"
#include "executor/kernels.h"
#include "lower/squeeze.h"

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
    if (numbers.size() != 5) throw std::runtime_error("no case: " + text);
    return numbers;
}

// Images are stored channels last.
Graph block(const Ints& c, DType dtype) {
    Graph g;
    const std::int64_t images = c[0];
    Random random(5);
    const auto image = [&](const char* name) {
        return permute(g.input(name, dtype, Shape::of({images, c[2], c[3], c[1]})), {0, 3, 1, 2});
    };
    const auto weight = [&](const Ints& shape) {
        return g.constant(random_tensor(DType::F32, shape, random).cast(dtype));
    };
    const Var x = image("x"), residual = image("residual");
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

Problem build(const Ints& c, DType dtype) {
    Problem problem{block(c, dtype), {}, {}};
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

void measure(const std::string& label, const Problem& problem, const PlanPtr& plan,
             const Tensor& expected) {
    cuda::Executor executor(plan, cuda::Device(0));
    const Tensor y = executor.run(problem.inputs).at(0).cast(DType::F32);
    double worst = 0;
    for (std::int64_t i = 0; i < y.size(); ++i) {
        const double error = std::abs(y.at(i) - expected.at(i));
        worst = std::isnan(error) ? error : std::max(worst, error);
    }
    double us = 0;
    for (const cuda::StepTime& time : executor.time_steps()) us += time.us;
    std::printf("%8.2f us  worst %.1e  %s\n", us, worst, label.c_str());
    std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
    const auto [variants, dtype, words] = bench::parse_arguments(argc, argv);
    const int sm_count = cuda::Device(0).properties().sm_count;
    for (const std::string& word : words) {
        const Ints c = parse(word);
        std::printf("%lld images of %lld x %lld x %lld, %lld between\n",
                    static_cast<long long>(c[0]), static_cast<long long>(c[1]),
                    static_cast<long long>(c[2]), static_cast<long long>(c[3]),
                    static_cast<long long>(c[4]));
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
}
