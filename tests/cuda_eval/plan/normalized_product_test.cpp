// When a product by a weight normalises its rows itself.
#include <array>

#include <gtest/gtest.h>

#include <kn/graph/builder.h>

#include "cuda_eval/plan/support.h"
#include "executor/laid_out.h"

namespace kn::cuda {
namespace {

using test::h200, test::weight;

/// A transformer's block without its attentions, in the shape of a diffusion network's.
Graph block(std::int64_t rows, std::int64_t width, bool rms) {
    Graph graph;
    const DType dtype = DType::F16;
    Var x = graph.input("x", dtype, Shape::of({2, rows / 2, width}));
    const auto norm = [&] {
        const Var scale = weight(graph, {width}, dtype);
        return rms ? rms_norm(x, scale) : layer_norm(x, scale, weight(graph, {width}, dtype, 2));
    };
    const auto w = [&](std::int64_t from, std::int64_t to, std::uint64_t seed) {
        return weight(graph, {from, to}, dtype, seed);
    };
    const Var y = norm();
    const Var q = matmul(y, w(width, width, 1)), k = matmul(y, w(width, width, 2)),
              v = matmul(y, w(width, width, 3));
    x = x + matmul(q * k * v, w(width, width, 4));
    const Var both = matmul(norm(), w(width, 8 * width, 5));
    x = x + matmul(slice(both, 2, 0, 4 * width) * gelu(slice(both, 2, 4 * width, 8 * width)),
                   w(4 * width, width, 6));
    graph.output("y", x);
    return graph;
}

int count(const Plan& plan, const std::string& part) {
    int found = 0;
    for (const Step& step : plan.steps)
        if (step.reason.find(part) != std::string::npos) ++found;
    return found;
}

TEST(NormalizedProductPlan, ABlockHasNoStepForItsNorms) {
    for (const bool rms : {false, true}) {
        const Plan plan = cuda::plan(block(512, 256, rms), h200());
        EXPECT_EQ(count(plan, "rows by"), 2) << plan.to_string();
        EXPECT_EQ(count(plan, "reductions over"), 0) << plan.to_string();
    }
}

TEST(NormalizedProductPlan, TheRuleCanBeLeftOut) {
    const Plan plan =
        cuda::plan(block(512, 256, false), h200(), {.disabled_rules = {"normalized product"}});
    EXPECT_EQ(count(plan, "takes on the way"), 0) << plan.to_string();
    EXPECT_EQ(count(plan, "reductions over"), 2) << plan.to_string();
}

/// Rows that a product with a residual writes, and the product that reads them normalised.
Graph behind_a_product(bool rms, bool gated) {
    Graph graph;
    const auto w = [&](const Ints& shape, std::uint64_t seed) {
        return weight(graph, shape, DType::F16, seed);
    };
    const Var x = graph.input("x", DType::F16, Shape::of({512, 640}));
    const Var y = x + matmul(x, w({640, 640}, 1));
    const Var normed = rms ? rms_norm(y, w({640}, 2)) : layer_norm(y, w({640}, 2), w({640}, 3));
    const Var z = matmul(normed, w({640, 5120}, 4));
    graph.output("y", y);
    graph.output("z", gated ? slice(z, 1, 0, 2560) * gelu(slice(z, 1, 2560, 5120)) : z);
    return graph;
}

TEST(NormalizedProductPlan, StatisticsComeWithWhatAProductWrites) {
    const Graph graph = behind_a_product(false, false);
    const Plan plan = cuda::plan(graph, h200());
    EXPECT_EQ(plan.steps.size(), 2u) << plan.to_string();
    EXPECT_EQ(count(plan, "which came with them"), 1) << plan.to_string();
    EXPECT_EQ(count(plan, "with statistics of 1x"), 1) << plan.to_string();
    const Plan apart =
        cuda::plan(graph, h200(), {.disabled_rules = {"rows' norms beside products"}});
    EXPECT_EQ(count(apart, "with statistics of"), 0) << apart.to_string();
    EXPECT_EQ(count(apart, "which came with them"), 0) << apart.to_string();
}

TEST(NormalizedProductPlan, StatisticsThatGainNothingAreNotGiven) {
    for (const bool rms : {false, true}) {
        const Plan plan = cuda::plan(behind_a_product(rms, true), h200());
        EXPECT_EQ(count(plan, "with statistics of"), 0) << plan.to_string();
    }
    const Plan plain = cuda::plan(behind_a_product(true, false), h200());
    EXPECT_EQ(count(plain, "with statistics of"), 0) << plain.to_string();
}

std::string refusal(const Graph& graph) {
    const Plan plan = cuda::plan(graph, h200());
    std::string reasons;
    for (const Decision& decision : plan.decisions)
        if (decision.rule == "normalized product")
            reasons += (decision.taken ? "taken: " : "not: ") + decision.reason + "\n";
    return reasons;
}

struct Layer {
    Graph graph;
    Var x, norm, w;
    explicit Layer(DType dtype = DType::F16)
        : x(graph.input("x", dtype, Shape::of({512, 512}))),
          norm(rms_norm(x, weight(graph, {512}, dtype))),
          w(weight(graph, {512, 1024}, dtype)) {}
};

TEST(NormalizedProductPlan, OthersReadTheRows) {
    Layer layer;
    layer.graph.output("y", matmul(layer.norm, layer.w));
    EXPECT_TRUE(refusal(layer.graph).starts_with("taken")) << refusal(layer.graph);
    layer.graph.output("z", layer.norm);
    EXPECT_EQ(refusal(layer.graph), "not: something else reads the normalised rows\n");
}

TEST(NormalizedProductPlan, OthersReadTheWeight) {
    Layer layer;
    layer.graph.output("y", matmul(layer.norm, layer.w));
    layer.graph.output("z", layer.w * 2);
    EXPECT_EQ(refusal(layer.graph),
              "not: something else reads the weight, so that it would be there twice\n");
}

TEST(NormalizedProductPlan, Float32) {
    Layer layer(DType::F32);
    layer.graph.output("y", matmul(layer.norm, layer.w));
    EXPECT_EQ(refusal(layer.graph), "not: statistics are taken of half types\n");
}

TEST(NormalizedProductPlan, WhatIsNormalisedWouldBeWrittenForIt) {
    Graph graph;
    const Var x = graph.input("x", DType::F16, Shape::of({512, 512}));
    const Var y = graph.input("y", DType::F16, Shape::of({512, 512}));
    graph.output("z", matmul(rms_norm(x * y, weight(graph, {512}, DType::F16)),
                             weight(graph, {512, 1024}, DType::F16)));
    EXPECT_EQ(refusal(graph), "not: it can be computed with what it normalises\n");
}

// The weight [k, n], or as its transpose, in one part or two.
TEST(FoldedRows, WeightsWithFactorsAndTheirSums) {
    const auto data = [](DType dtype, const Ints& shape, auto element) {
        Tensor tensor(DType::F32, shape);
        std::int64_t i = 0;
        for (float& x : tensor.mutable_data<float>()) x = element(i++);
        return std::make_shared<const ConstantData>(ConstantData{tensor.cast(dtype), "w", {}, {}});
    };
    const std::int64_t k = 5;
    const auto scale = data(DType::F16, {k}, [](std::int64_t i) { return 1 + 0.25f * float(i); });
    const auto shift = data(DType::F16, {1, k}, [](std::int64_t i) { return float(i) - 2; });
    for (const bool transposed : {false, true}) {
        // w[k][n] = k + 10 n + 1 / 3.
        const auto part = [&](std::int64_t begin, std::int64_t end) {
            const std::int64_t n = end - begin;
            return data(DType::F32, transposed ? Ints{n, k} : Ints{k, n}, [&](std::int64_t i) {
                const std::int64_t row = transposed ? i % k : i / n;
                const std::int64_t column = begin + (transposed ? i / k : i % n);
                return float(row + 10 * column) + 1.0f / 3;
            });
        };
        const std::int64_t axis = transposed ? 1 : 0;
        PlanConstant constant{{part(0, 3), part(3, 70)}, 1 - axis, DType::F16, {1 - axis, axis}};
        constant.folded = FoldedRows{scale, shift, axis, false, DType::F16};
        const LaidOut weight(constant);
        ASSERT_EQ(weight.rows(), 70);
        Tensor rows(DType::F16, {70, k});
        weight.write(0, 70, rows.mutable_bytes().data());
        constant.dtype = DType::F32;
        constant.order = {0, 1};
        constant.folded->sums = true;
        EXPECT_EQ(constant.shape(), (Ints{70, 2}));
        const LaidOut both(constant);
        Tensor sums(DType::F32, {70, 2});
        both.write(0, 40, sums.mutable_bytes().data());
        both.write(40, 70, sums.mutable_bytes().data() + 40 * both.row_bytes());
        for (std::int64_t n = 0; n < 70; ++n) {
            double sum = 0, shifted = 0;
            for (std::int64_t i = 0; i < k; ++i) {
                const float w = float(i + 10 * n) + 1.0f / 3;
                const Tensor expected =
                    Tensor::from_span<float>({1}, std::array{w * (1 + 0.25f * float(i))})
                        .cast(DType::F16);
                EXPECT_EQ(rows.at(n * k + i), expected.at(0)) << n << ", " << i;
                sum += rows.at(n * k + i);
                shifted += double(w) * (double(i) - 2);
            }
            EXPECT_NEAR(sums.at(2 * n), sum, 1e-3);
            EXPECT_NEAR(sums.at(2 * n + 1), shifted, 1e-3);
        }
    }
}

}  // namespace
}  // namespace kn::cuda
