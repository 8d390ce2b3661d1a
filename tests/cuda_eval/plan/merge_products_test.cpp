// Products that share an operand become one, with the same result.
#include "planner/merge_products.h"

#include <algorithm>

#include <gtest/gtest.h>

#include <kn/graph/builder.h>
#include <kn/graph/cpu.h>
#include <kn/graph/random.h>
#include <kn/testing/compare.h>

#include "cuda_eval/plan/support.h"

namespace kn::cuda {
namespace {

std::size_t count_products(const Graph& graph) {
    std::size_t count = 0;
    for (const Value& value : graph.live()) count += graph.get_if<op::MatMul>(value) != nullptr;
    return count;
}

void expect_same(const Graph& graph, std::size_t products) {
    const Graph merged = merge_products(graph);
    EXPECT_EQ(count_products(merged), products) << merged.to_string();
    const std::vector<Tensor> inputs = random_inputs(graph);
    const auto expected = cpu::run(graph, inputs), got = cpu::run(merged, inputs);
    ASSERT_EQ(expected.size(), got.size());
    for (std::size_t i = 0; i < got.size(); i++)
        EXPECT_TRUE(
            testing::compare(got[i], expected[i], testing::default_tolerance(DType::F32)).equal)
            << merged.to_string();
}

Var weight(Graph& graph, const Ints& shape, unsigned seed) {
    Random random(seed);
    return graph.constant(random_tensor(DType::F32, shape, random));
}

TEST(MergeProducts, ProjectionsWithBiasesOfDifferentWidths) {
    Graph graph;
    const Var x = graph.input("x", DType::F32, Shape::of({2, 3, 8}));
    graph.output("q", linear(x, weight(graph, {8, 8}, 1), weight(graph, {8}, 2)));
    graph.output("k", linear(x, weight(graph, {8, 4}, 3), weight(graph, {4}, 4)));
    graph.output("v", linear(x, weight(graph, {8, 4}, 5), weight(graph, {4}, 6)));
    expect_same(graph, 1);
}

TEST(MergeProducts, GateWithoutBias) {
    Graph graph;
    const Var x = graph.input("x", DType::F32, Shape::of({5, 8}));
    graph.output("y",
                 silu(matmul(x, weight(graph, {8, 16}, 1))) * matmul(x, weight(graph, {8, 16}, 2)));
    expect_same(graph, 1);
}

TEST(MergeProducts, ABiasOnOneOfTwoStaysBehind) {
    Graph graph;
    const Var x = graph.input("x", DType::F32, Shape::of({5, 8}));
    graph.output("a", linear(x, weight(graph, {8, 4}, 1), weight(graph, {4}, 2)));
    graph.output("b", matmul(x, weight(graph, {8, 4}, 3)));
    expect_same(graph, 1);
}

// As a Gemm has them; the planner stores them behind each other, as they are.
TEST(MergeProducts, TransposedWeights) {
    Graph graph;
    const Var x = graph.input("x", DType::F32, Shape::of({5, 8}));
    const auto w = [&](std::int64_t columns, unsigned seed) {
        return transpose(weight(graph, {columns, 8}, seed));
    };
    graph.output("a", linear(x, w(4, 1), weight(graph, {4}, 2)));
    graph.output("b", linear(x, w(16, 3), weight(graph, {16}, 4)));
    graph.output("c", matmul(x, w(4, 5)));
    expect_same(graph, 1);
    const Plan plan = cuda::plan(merge_products(graph), test::h200());
    EXPECT_EQ(std::ranges::count(plan.steps, "copy", &Step::name), 0) << plan.to_string();
    EXPECT_EQ(std::ranges::count(plan.steps, "transpose", &Step::name), 0) << plan.to_string();

    graph.output("d", matmul(x, weight(graph, {8, 4}, 6)));  // not a transpose
    expect_same(graph, 2);
}

TEST(MergeProducts, OperandsThatDifferStayApart) {
    Graph graph;
    const Var x = graph.input("x", DType::F32, Shape::of({5, 8}));
    const Var w = graph.input("w", DType::F32, Shape::of({8, 4}));
    graph.output("a", matmul(x, weight(graph, {8, 4}, 1)));
    graph.output("b", matmul(relu(x), weight(graph, {8, 4}, 2)));
    graph.output("c", matmul(x, w));
    expect_same(graph, 3);
}

}  // namespace
}  // namespace kn::cuda
