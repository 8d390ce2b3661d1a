// Elementwise operations come before the Reshape of a product, with the same result.
#include "planner/lift_reshapes.h"

#include <gtest/gtest.h>

#include <kn/graph/builder.h>
#include <kn/graph/cpu.h>
#include <kn/graph/random.h>
#include <kn/testing/compare.h>

namespace kn::cuda {
namespace {

/// Whether the only Reshape behind the product is the last operation.
bool ends_in_reshape(const Graph& graph) {
    const Value y = graph.outputs().at(0).value;
    const auto* reshape = graph.get_if<op::Reshape>(y);
    return reshape && graph.shape(reshape->x).rank() == 2;
}

void expect_same(const Graph& graph, bool lifted) {
    const Graph after = lift_over_reshapes(graph);
    EXPECT_EQ(ends_in_reshape(after), lifted) << after.to_string();
    const std::vector<Tensor> inputs = random_inputs(graph);
    const auto expected = cpu::run(graph, inputs), got = cpu::run(after, inputs);
    for (std::size_t i = 0; i < got.size(); i++) {
        const auto difference =
            testing::compare(got[i], expected[i], testing::default_tolerance(DType::F32));
        EXPECT_TRUE(difference.equal) << difference.message << after.to_string();
    }
}

struct Layer {
    Graph graph;
    Var x = graph.input("x", DType::F32, Shape::of({2, 3, 8}));
    Var product =
        reshape(matmul(reshape(x, Shape::of({6, 8})), weight({8, 8})), Shape::of({2, 3, 8}));
    Var weight(const Ints& shape) {
        Random random(static_cast<std::uint64_t>(shape.size()));
        return graph.constant(random_tensor(DType::F32, shape, random));
    }
};

TEST(LiftOverReshapes, BiasActivationAndResidual) {
    Layer layer;
    layer.graph.output("y", gelu(layer.product + layer.weight({8})) + layer.x);
    expect_same(layer.graph, true);
}

TEST(LiftOverReshapes, AFactorPerRow) {
    Layer layer;
    layer.graph.output("y", layer.product * layer.weight({2, 3, 1}));
    expect_same(layer.graph, true);
}

TEST(LiftOverReshapes, WhatOthersReadStays) {
    Layer layer;
    layer.graph.output("y", relu(layer.product));
    layer.graph.output("z", layer.product);
    expect_same(layer.graph, false);
}

TEST(LiftOverReshapes, TwoHalvesOfTheColumns) {
    Layer layer;
    const Var y = layer.product + layer.weight({8});
    layer.graph.output("y", slice(y, 2, 0, 4) * gelu(slice(y, 2, 4, 8)));
    expect_same(layer.graph, true);
}

TEST(LiftOverReshapes, HalvesThatAreReshapedApart) {
    Layer layer;
    const Var rows = matmul(reshape(layer.x, Shape::of({6, 8})), layer.weight({8, 8}));
    const auto half = [&](int first) {
        return reshape(slice(rows, 1, first, first + 4), Shape::of({2, 3, 4}));
    };
    layer.graph.output("y", gelu(half(4)) * half(0));
    expect_same(layer.graph, true);
}

TEST(LiftOverReshapes, ThirdsStay) {
    Layer layer;
    const Var y = layer.product;
    layer.graph.output("y", slice(y, 2, 0, 2) * slice(y, 2, 2, 4) + slice(y, 2, 6, 8));
    expect_same(layer.graph, false);
}

}  // namespace
}  // namespace kn::cuda
