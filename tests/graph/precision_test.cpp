// Which operations a lowered graph does in which type.
#include <kn/graph/precision.h>

#include <gtest/gtest.h>

#include <kn/graph/builder.h>
#include <kn/graph/cpu.h>

#include "cpu_support.h"

namespace kn::test {
namespace {

/// The types of the results of all live operations of a kind.
template <class Op>
std::vector<DType> types_of(const Graph& graph) {
    std::vector<DType> types;
    for (const Value& value : graph.live())
        if (graph.get_if<Op>(value) != nullptr) types.push_back(graph.dtype(value));
    return types;
}

TEST(Precision, ProductsAreHalfAndEdgesKeepTheirTypes) {
    Graph graph;
    const Var x = graph.input("x", DType::F32, Shape::of({4, 8}));
    const Var w = graph.constant(random(DType::F32, {8, 8}, 1));
    graph.output("y", relu(matmul(x, w)));
    const Graph half = to_precision(graph, DType::F16);
    EXPECT_EQ(types_of<op::MatMul>(half), std::vector{DType::F16});
    EXPECT_EQ(half.dtype(half.inputs().at(0).value), DType::F32);
    EXPECT_EQ(half.dtype(half.outputs().at(0).value), DType::F32);
}

TEST(Precision, SumsAndExponentialsStayInFloat) {
    Graph graph;
    const Var x = graph.input("x", DType::F32, Shape::of({4, 8}));
    graph.output("y", reduce(ReduceOp::Sum, exp(x), {1}));
    const Graph half = to_precision(graph, DType::BF16);
    EXPECT_EQ(types_of<op::Unary>(half), std::vector{DType::F32});
    EXPECT_EQ(types_of<op::Reduce>(half), std::vector{DType::F32});
}

// A tensor quantised by its own range: the scale and the quotient are as exact as in float32, so that
// nearly every integer is the same.
TEST(Precision, WhatBecomesAnIntegerStaysInFloat) {
    Graph graph;
    const Var x = graph.input("x", DType::F32, Shape::of({16, 16}));
    const Var h = matmul(x, graph.constant(random(DType::F32, {16, 16}, 1)));
    const Var scale = reduce(ReduceOp::Max, h, {0, 1}) / 255.0;
    graph.output("y", cast(h / scale, DType::I32));
    graph.output("scale", scale);
    const Graph half = to_precision(graph, DType::F16);
    for (const DType type : types_of<op::Binary>(half)) EXPECT_EQ(type, DType::F32);
    EXPECT_EQ(types_of<op::MatMul>(half), std::vector{DType::F16});
}

TEST(Precision, DoubleIsDoubleInside) {
    Graph graph;
    const Var x = graph.input("x", DType::F32, Shape::of({4}));
    graph.output("y", exp(x) - x);
    const Graph wide = to_precision(graph, DType::F64);
    EXPECT_EQ(types_of<op::Unary>(wide), std::vector{DType::F64});
    EXPECT_EQ(types_of<op::Binary>(wide), std::vector{DType::F64});
    EXPECT_EQ(wide.dtype(wide.inputs().at(0).value), DType::F32);
}

}  // namespace
}  // namespace kn::test
