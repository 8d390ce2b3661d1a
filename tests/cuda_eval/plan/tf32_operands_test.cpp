// What products in TF32 read is rounded by whoever writes it: tensor cores cut.
#include <gtest/gtest.h>

#include <algorithm>

#include <kn/graph/builder.h>
#include <kn/graph/cpu.h>
#include <kn/graph/precision.h>

#include "cuda_eval/host_shim/host_shim.h"
#include "cuda_eval/plan/support.h"

namespace kn::test {

namespace {

std::int64_t rounded(const cuda::Plan& plan) {
    return std::ranges::count_if(plan.stored,
                                 [](const auto& stored) { return stored.second.rounded_to_tf32; });
}

Var positive(Graph& graph, Ints shape, std::uint64_t seed) {
    Random random(seed);
    std::vector<float> values(static_cast<std::size_t>(shape[0] * shape[1]));
    for (float& value : values) value = static_cast<float>(0.5 + random.uniform());
    return graph.constant(Tensor::from_span<float>(shape, values));
}

// Two layers, all of whose terms are positive, so that what is cut adds up; their scales make them
// products on a kernel of ours.
Graph layers(bool inner_is_output) {
    Graph graph;
    const Var x = graph.input("x", DType::F32, Shape::of({256, 128}));
    const Var inner = matmul(exp(x), positive(graph, {128, 256}, 1)) * 0.01;
    if (inner_is_output) graph.output("inner", inner);
    graph.output("y", matmul(inner, positive(graph, {256, 128}, 2)) * 0.01);
    return graph;
}

}  // namespace

TEST(Tf32Operands, AreWhatProductsReadAndNoOutputs) {
    for (const bool inner_is_output : {false, true}) {
        const Graph graph = layers(inner_is_output);
        const cuda::Plan plan = cuda::plan(graph, h200(), {.precision = Precision::TF32});
        EXPECT_EQ(rounded(plan), inner_is_output ? 1 : 2) << plan.to_string();
        for (const Precision precision : {Precision::F32, Precision::F16})
            EXPECT_EQ(rounded(cuda::plan(graph, h200(), {.precision = precision})), 0);
    }
}

TEST(Tf32Operands, WhatElseIsReadKeepsAllBits) {
    // inner feeds a product and a residual, itself or a view of it.
    for (const bool view : {false, true}) {
        Graph graph;
        const Var x = graph.input("x", DType::F32, Shape::of({256, 256}));
        const Var inner = sigmoid(matmul(x, positive(graph, {256, 256}, 1)) * 0.01);
        const Var next = matmul(inner, positive(graph, {256, 256}, 2)) * 0.01;
        graph.output("y", next + (view ? transpose(inner) : inner));
        const cuda::Plan plan = cuda::plan(graph, h200(), {.precision = Precision::TF32});
        EXPECT_EQ(rounded(plan), 0) << plan.to_string();
    }
}

TEST(Tf32Operands, NotOfConvolutionsOfGroups) {
    for (const std::int64_t groups : {1, 32}) {
        Graph graph;
        const Var x = graph.input("x", DType::F32, Shape::of({2, 32, 16, 16}));
        const Var inner = conv(x, weight(graph, {32, 32, 3, 3}), {}, {.pads = {1, 1, 1, 1}});
        graph.output("y", conv(relu(inner), weight(graph, {32, 32 / groups, 3, 3}), {},
                               {.pads = {1, 1, 1, 1}, .groups = groups}));
        const cuda::Plan plan = cuda::plan(graph, h200(), {.precision = Precision::TF32});
        EXPECT_EQ(rounded(plan), groups == 1 ? 1 : 0) << plan.to_string();
    }
}

TEST(Tf32Operands, PartsOfAConcatenation) {
    Graph graph;
    const Var x = graph.input("x", DType::F32, Shape::of({2, 32, 16, 16}));
    const auto layer = [&](const Var& in, std::int64_t from) {
        return relu(
            conv(in, weight(graph, {32, from, 3, 3}), weight(graph, {32}), {.pads = {1, 1, 1, 1}}));
    };
    const Var a = layer(x, 32), b = layer(a, 32);
    graph.output("y", layer(concat({a, b}, 1), 64));
    const cuda::Plan plan = cuda::plan(graph, h200(), {.precision = Precision::TF32});
    EXPECT_EQ(rounded(plan), 3) << plan.to_string();
    EXPECT_FALSE(plan.inputs.at(0).rounded_to_tf32);
    EXPECT_FALSE(plan.outputs.at(0).rounded_to_tf32);
}

TEST(Tf32Operands, SumsAreNotTooSmall) {
    const Graph graph = layers(false);
    const cuda::Plan plan = cuda::plan(graph, h200(), {.precision = Precision::TF32});
    ASSERT_EQ(std::ranges::count(step_names(plan), "tensor_product"), 2) << plan.to_string();
    Random random(7);
    const std::vector<Tensor> inputs = {random_tensor(DType::F32, {256, 128}, random)};
    const Tensor got = cuda::run_plan_on_host(plan, inputs).at(0).cast(DType::F64);
    const Tensor exact = cpu::run(to_precision(graph, DType::F64), inputs).at(0);
    double sum = 0, exact_sum = 0;
    for (std::size_t i = 0; i < got.data<double>().size(); i++) {
        const double y = got.data<double>()[i], expected = exact.data<double>()[i];
        sum += y;
        exact_sum += expected;
        // Four roundings of at most 2^-12 each, of many terms apart.
        EXPECT_NEAR(y / expected, 1, 3e-4) << i;
    }
    // Cut, both products together are 1.5e-3 too small.
    EXPECT_NEAR(sum / exact_sum, 1, 2e-5);
}

}  // namespace kn::test
