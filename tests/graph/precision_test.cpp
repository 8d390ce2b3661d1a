// Which operations a lowered graph does in which type.
#include <kn/graph/precision.h>

#include <limits>

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

// A tensor quantised by its own range: the scale and the quotient are as exact as in float32, so
// that nearly every integer is the same.
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

// 10 bits of mantissa, to the nearest, ties away from zero; the sum keeps what float32 keeps.
TEST(Precision, Tf32RoundsOperandsOfProducts) {
    const float unit = 0x1p-10f, infinity = std::numeric_limits<float>::infinity();
    const std::vector<std::pair<float, float>> cases = {
        {1 + unit, 1 + unit},        {1 + 0.49f * unit, 1},
        {1 + 0.5f * unit, 1 + unit}, {-1 - 0.5f * unit, -1 - unit},
        {0x1.fffffep127f, infinity}, {-infinity, -infinity},
        {0x1.004p-130f, 0x1p-130f},  {0, 0}};
    for (const auto& [given, expected] : cases) {
        Graph graph;
        const Var x = graph.input("x", DType::F32, Shape::of({1, 1}));
        const Var y = graph.input("y", DType::F32, Shape::of({1, 1}));
        graph.output("product", matmul(x, y));
        graph.output("sum", x + y);
        const auto got =
            cpu::run(to_tf32(graph), {Tensor::from_span<float>({1, 1}, std::vector{given}),
                                      Tensor::from_span<float>({1, 1}, std::vector{1.0f})});
        EXPECT_EQ(got[0].at(0), expected) << given;
        EXPECT_EQ(got[1].at(0), given + 1.0f) << given;
    }
}

TEST(Precision, Tf32TakesAttentionApartAndLeavesOtherTypes) {
    Graph graph;
    const Var q = graph.input("q", DType::F32, {Dim::symbol("batch"), Dim(2), Dim(5), Dim(8)});
    graph.output("y",
                 graph.var(graph.add(op::Attention{q, q, q, std::nullopt, 0.3, CausalMask::None})));
    const Var h = graph.input("h", DType::F16, Shape::of({3, 3}));
    graph.output("z", matmul(h, h));
    const Graph lowered = to_tf32(graph);
    EXPECT_TRUE(types_of<op::Attention>(lowered).empty());
    EXPECT_EQ(types_of<op::MatMul>(lowered), (std::vector{DType::F32, DType::F32, DType::F16}));
    EXPECT_EQ(types_of<op::BitCast>(lowered).size(),
              6u);  // of q, its transpose and the softmax, there and back
    const std::vector<Tensor> inputs = {random(DType::F32, {4, 2, 5, 8}, 1),
                                        random(DType::F16, {3, 3}, 2)};
    const auto exact = cpu::run(graph, inputs), got = cpu::run(lowered, inputs);
    const auto difference = [&](std::size_t output) {
        double most = 0;
        for (std::int64_t i = 0; i < got[output].size(); ++i)
            most = std::max(most, std::abs(got[output].at(i) - exact[output].at(i)));
        return most;
    };
    EXPECT_LT(difference(0), 2e-3);
    EXPECT_GT(difference(0), 1e-6);
    EXPECT_EQ(difference(1), 0);
}

}  // namespace
}  // namespace kn::test
