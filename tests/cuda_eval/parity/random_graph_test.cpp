// Random graphs on all legs. A failing one is cut down to the fewest operations that still fail,
// and printed. KN_PARITY_SEEDS=FROM:TO picks the seeds.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string>

#include <kn/cuda_sys/device.h>

#include <kn/graph/optimizer.h>
#include <kn/graph/precision.h>

#include "codegen/emit.h"
#include "cuda_eval/parity/parity.h"
#include "cuda_eval/plan/support.h"
#include "executor/kernels.h"

namespace kn::test {
namespace {

constexpr std::size_t max_elements = 4000;

std::int64_t pick(Random& random, std::int64_t below) {
    return static_cast<std::int64_t>(random.uniform() * static_cast<double>(below));
}

// A graph as one number for each operation. What the number means depends on the values that are
// there, so that any numbers make a graph: leaving some out gives a smaller one.
struct Recipe {
    DType dtype = DType::F32;
    std::vector<std::uint64_t> steps;
};

struct Built {
    Graph graph;
    std::vector<Tensor> inputs;
};

class Builder {
  public:
    Builder(const Recipe& recipe, Built& built) : dtype_(recipe.dtype), built_(built) {
        Random random(7);
        for (const Ints& shape : {Ints{2, 6, 8}, Ints{3, 4, 5, 5}, Ints{7, 16}})
            input(shape, random);
        for (const std::uint64_t seed : recipe.steps) {
            Random own(seed);
            add(own);
        }
        const std::size_t count = values_.size();
        for (std::size_t i = 0; i < 3; i++)
            built_.graph.output("y" + std::to_string(i),
                                values_[count - 1 - std::min(2 * i, count - 1)]);
    }

  private:
    void input(const Ints& shape, Random& random) {
        built_.inputs.push_back(random_tensor(DType::F32, shape, random).cast(dtype_));
        values_.push_back(built_.graph.input("x" + std::to_string(built_.inputs.size() - 1), dtype_,
                                             Shape::of(shape)));
    }

    Var weight(const Ints& shape, Random& random) {
        const Tensor t = random_tensor(DType::F32, shape, random);
        return built_.graph.constant(t.cast(dtype_)) * 0.3;
    }

    // One of the last values, the later the likelier.
    Var value(Random& random) {
        const auto back = pick(random, 1 + pick(random, static_cast<std::int64_t>(values_.size())));
        return values_[values_.size() - 1 - static_cast<std::size_t>(back)];
    }

    void keep(Var v) {
        std::int64_t size = 1;
        for (const std::int64_t n : v.shape().to_ints()) size *= n;
        if (size > 0 && size <= static_cast<std::int64_t>(max_elements) && v.rank() <= 6)
            values_.push_back(v);
    }

    void add(Random& random) {
        const Var x = value(random);
        const Ints shape = x.shape().to_ints();
        const auto rank = static_cast<std::int64_t>(shape.size());
        const std::int64_t axis = rank ? pick(random, rank) : 0;
        const auto at = [&](std::int64_t a) { return shape[static_cast<std::size_t>(a)]; };
        switch (rank == 0 ? pick(random, 2) : pick(random, 20)) {
            case 0: return keep(one_operand(x, random));
            case 1: return keep(tanh(x) * 1.5 - 0.25);
            case 2:
            case 3: return keep(two_operands(x, random));
            case 4: {
                Ints perm;
                for (std::int64_t i = 0; i < rank; i++) perm.push_back(i);
                for (std::int64_t i = rank - 1; i > 0; i--)
                    std::swap(perm[static_cast<std::size_t>(i)],
                              perm[static_cast<std::size_t>(pick(random, i + 1))]);
                return keep(permute(x, perm));
            }
            case 5: return keep(flip(x, axis));
            case 6: {
                const std::int64_t start = pick(random, at(axis)), step = 1 + pick(random, 2);
                return keep(slice(x, axis, start, at(axis), step));
            }
            case 7: return keep(concat({x, one_operand(x, random)}, axis));
            case 8: {
                std::vector<Dim> before(shape.size(), 0), after(shape.size(), 0);
                before[static_cast<std::size_t>(axis)] = pick(random, 3);
                after[static_cast<std::size_t>(axis)] = pick(random, 2);
                return keep(random.uniform() < 0.5 ? pad(x, before, after, 0.5)
                                                   : pad(x, before, after, PadMode::Edge));
            }
            case 9:
                return keep(rank >= 2 ? flatten(x, 1 + pick(random, rank - 1)) : unsqueeze(x, {0}));
            case 10: return keep(softmax(x, axis));
            case 11:
                return keep(normalize(
                    random.uniform() < 0.5 ? NormKind::MeanVariance : NormKind::MeanSquare, x,
                    {axis}, 1e-2));
            case 12: return keep(mean(x, {axis}, random.uniform() < 0.7));
            case 13:
                return keep(reduce(random.uniform() < 0.5 ? ReduceOp::Max : ReduceOp::Min, x,
                                   {axis}, random.uniform() < 0.7));
            case 14:
            case 15:
                return keep(
                    tanh(linear(x, weight({shape.back(), 8}, random), weight({8}, random))));
            case 16:
            case 17:
                if (rank == 4)
                    return keep(relu(conv(x, weight({4, at(1), 3, 3}, random), weight({4}, random),
                                          {.pads = {1, 1, 1, 1}})));
                if (rank == 3)
                    return keep(conv(x, weight({6, at(1), 3}, random), {}, {.pads = {1, 1}}));
                return keep(sigmoid(x) * x);
            case 18: {
                const Ints indices = {pick(random, at(axis)), 0, at(axis) - 1};
                return keep(gather(x, vector_i64(built_.graph, indices), axis));
            }
            default:
                if (rank >= 3 && at(rank - 1) >= 3)
                    return keep(average_pool(x, {3}, {.strides = {2}}));
                return keep(rank >= 2 ? matmul(x, transpose(x)) * 0.1 : x * 0.5);
        }
    }

    static Var one_operand(Var x, Random& random) {
        switch (pick(random, 7)) {
            case 0: return relu(x);
            case 1: return gelu(x);
            case 2: return silu(x);
            case 3: return sigmoid(x) + 0.5;
            case 4: return exp(tanh(x));
            case 5: return sqrt(square(x) + 1.0);
            default: return clamp(x, -0.75, 1.5) * -1.0;
        }
    }

    Var two_operands(Var x, Random& random) {
        Var y = value(random);
        // What does not broadcast is brought to one number.
        const Ints a = x.shape().to_ints(), b = y.shape().to_ints();
        for (std::size_t i = 0; i < std::min(a.size(), b.size()); i++) {
            const std::int64_t m = a[a.size() - 1 - i], n = b[b.size() - 1 - i];
            if (m == n || m == 1 || n == 1) continue;
            Ints axes;
            for (std::size_t k = 0; k < b.size(); k++) axes.push_back(static_cast<std::int64_t>(k));
            y = mean(y, axes);
            break;
        }
        switch (pick(random, 4)) {
            case 0: return x + y;
            case 1: return x * tanh(y);
            case 2: return maximum(x, y);
            default: return y - x;
        }
    }

    DType dtype_;
    Built& built_;
    std::vector<Var> values_;
};

double worst(const std::vector<Tensor>& got, const std::vector<Tensor>& exact, std::size_t i) {
    return testing::compare(got[i], exact[i].cast(got[i].dtype()), {0, 1e30}).max_rel_to_peak;
}

double peak(const Tensor& tensor) {
    double out = 0;
    for (std::int64_t i = 0; i < tensor.size(); i++) out = std::max(out, std::abs(tensor.at(i)));
    return out;
}

// Why the recipe fails; empty if it does not. A leg may err eight times as much as the CPU's plain
// run does, and a few units.
std::string failure(const Recipe& recipe) {
    Built built;
    const Builder builder(recipe, built);
    const auto exact = in_f64(built.graph, built.inputs);
    const auto plain = cpu::run(built.graph, built.inputs);
    const auto lowered = [&](Precision precision) {
        if (precision == Precision::F32) return plain;
        return cpu::run(to_precision(optimize(built.graph),
                                     precision == Precision::F16 ? DType::F16 : DType::BF16),
                        built.inputs);
    };
    std::vector<Precision> policies;
    if (recipe.dtype == DType::F32 && !small_only()) policies = {Precision::F16, Precision::BF16};
    for (const Leg& leg : legs(policies)) {
        const bool exact_type = recipe.dtype == DType::F32 && leg.precision == Precision::F32;
        const double units = exact_type ? 3e-6 : leg.precision == Precision::BF16 ? 5e-2 : 6e-3;
        try {
            const auto alike = lowered(leg.precision);
            const auto got = leg.run(built.graph, built.inputs);
            for (std::size_t i = 0; i < got.size(); i++) {
                if (peak(exact[i]) < 1e-3)
                    continue;  // what cancelled has no digits left to compare
                const double allowed = 8 * worst(alike, exact, i) + units;
                const auto difference =
                    testing::compare(got[i], exact[i].cast(got[i].dtype()), {0, allowed});
                if (!difference.equal)
                    return leg.name + ", output " + std::to_string(i) + ": " + difference.message;
            }
        } catch (const std::exception& error) {
            return leg.name + ": " + error.what();
        }
    }
    return "";
}

Recipe shrunk(Recipe recipe) {
    for (std::size_t chunk = recipe.steps.size() / 2; chunk > 0; chunk /= 2)
        for (std::size_t at = 0; at + chunk <= recipe.steps.size();) {
            Recipe smaller = recipe;
            smaller.steps.erase(smaller.steps.begin() + static_cast<std::ptrdiff_t>(at),
                                smaller.steps.begin() + static_cast<std::ptrdiff_t>(at + chunk));
            if (failure(smaller).empty())
                at += chunk;
            else
                recipe = std::move(smaller);
        }
    return recipe;
}

class ParityRandom : public ::testing::TestWithParam<DType> {};

constexpr int parts = 6;
class ParityRandomPart : public ::testing::TestWithParam<std::tuple<DType, int>> {};

// Nearly all the time goes into compiling kernels that no other graph has: in parts, which may run
// in processes of their own.
TEST_P(ParityRandomPart, Graphs) {
    const auto [dtype, part] = GetParam();
    std::uint64_t from = 0, to = cuda::device_count() > 0 && !small_only() ? 150 : parts;
    if (const char* given = std::getenv("KN_PARITY_SEEDS")) {
        char* end = nullptr;
        from = std::strtoull(given, &end, 10);
        to = *end == ':' ? std::strtoull(end + 1, nullptr, 10) : from + 1;
    }
    for (std::uint64_t seed = from; seed < to; seed++) {
        if (seed % parts != static_cast<std::uint64_t>(part)) continue;
        Recipe recipe{dtype, {}};
        Random random(seed + 1000);
        for (int i = 0; i < 14; i++) recipe.steps.push_back(random.bits());
        if (failure(recipe).empty()) continue;
        recipe = shrunk(recipe);
        Built built;
        const Builder builder(recipe, built);
        ADD_FAILURE() << "KN_PARITY_SEEDS=" << seed << ":" << seed + 1 << ", cut down to "
                      << recipe.steps.size() << " operations: " << failure(recipe) << "\n"
                      << built.graph.to_string();
    }
}

// What the host's compiler takes need not be what NVRTC takes: graphs whose kernels it once
// refused.
TEST_P(ParityRandom, KernelsCompile) {
    for (const std::uint64_t seed : {9, 82, 130}) {
        Recipe recipe{GetParam(), {}};
        Random random(seed + 1000);
        for (int i = 0; i < 14; i++) recipe.steps.push_back(random.bits());
        Built built;
        const Builder builder(recipe, built);
        const cuda::Plan plan = cuda::plan(built.graph, h200());
        EXPECT_NO_THROW(cuda::compile_kernels(plan.kernels,
                                              {.arch = "sm_90", .prelude = cuda::kernel_prelude()}))
            << "seed " << seed;
    }
}

INSTANTIATE_TEST_SUITE_P(Types, ParityRandomPart,
                         ::testing::Combine(::testing::Values(DType::F32, DType::F16),
                                            ::testing::Range(0, parts)),
                         [](const auto& test) {
                             return std::string(name_of(std::get<0>(test.param))) + "_" +
                                    std::to_string(std::get<1>(test.param));
                         });
INSTANTIATE_TEST_SUITE_P(Types, ParityRandom, ::testing::Values(DType::F32, DType::F16),
                         [](const auto& test) { return std::string(name_of(test.param)); });

}  // namespace
}  // namespace kn::test
