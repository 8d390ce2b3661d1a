// The builder: which operations and sizes its functions give.
#include <gtest/gtest.h>

#include <kn/graph.h>

namespace kn {
namespace {

const Dim batch = Dim::symbol("batch");

std::size_t count(const Graph& graph, std::string_view name) {
    std::size_t found = 0;
    for (std::size_t i = 0; i < graph.size(); ++i)
        found += name_of(graph[graph.value_at(i)].operation) == name;
    return found;
}

TEST(Builder, BroadcastsAsNumPy) {
    Graph g;
    const Var a = g.input("a", DType::F32, {batch, 1, 3});
    const Var b = g.input("b", DType::F32, {4, 1});
    EXPECT_EQ((a + b).shape(), (Shape{batch, 4, 3}));
    EXPECT_EQ((2.0 * a).shape(), a.shape());
    EXPECT_TRUE(g.constraints().empty());
    EXPECT_THROW((void)(a + g.input("c", DType::F32, {2})), GraphError);
    EXPECT_THROW((void)(a + g.input("i", DType::I32, {3})), GraphError) << "dtypes differ";
}

TEST(Builder, WhatCannotBeProvedIsAConstraint) {
    Graph g;
    const Var a = g.input("a", DType::F32, {Dim::symbol("n")});
    const Var b = g.input("b", DType::F32, {Dim::symbol("m")});
    g.output("y", a + b);
    ASSERT_FALSE(g.constraints().empty());
    const Graph fixed = g.bind({{"n", 3}, {"m", 1}});
    EXPECT_EQ(fixed.shape(fixed.outputs()[0].value), (Shape{3}));
    EXPECT_THROW((void)g.bind({{"n", 3}, {"m", 2}}), GraphError);
}

TEST(Builder, GraphsDoNotMix) {
    Graph g, h;
    EXPECT_THROW((void)(g.input("x", DType::F32, {1}) + h.input("x", DType::F32, {1})), GraphError);
}

TEST(Builder, NothingIsAddedWhereNothingHappens) {
    Graph g;
    const Var x = g.input("x", DType::F32, {batch, 3});
    const std::size_t before = g.size();
    EXPECT_EQ(reshape(x, {batch, 3}).value, x.value);
    EXPECT_EQ(permute(x, {0, 1}).value, x.value);
    EXPECT_EQ(cast(x, DType::F32).value, x.value);
    EXPECT_EQ(slice(x, 1, 0, 3).value, x.value);
    EXPECT_EQ(pad(x, {0, 0}, {0, 0}).value, x.value);
    EXPECT_EQ(broadcast_to(x, x.shape()).value, x.value);
    EXPECT_EQ(concat({x}, 0).value, x.value);
    EXPECT_EQ(tile(x, {1, 1}).value, x.value);
    EXPECT_LE(g.size(), before + 1) << "at most the pad's scalar";
}

TEST(Builder, ViewsHaveTheirShapes) {
    Graph g;
    const Var x = g.input("x", DType::F32, {batch, 6, 4});
    EXPECT_EQ(transpose(x).shape(), (Shape{batch, 4, 6}));
    EXPECT_EQ(unsqueeze(x, {0, -1}).shape(), (Shape{1, batch, 6, 4, 1}));
    EXPECT_EQ(squeeze(unsqueeze(x, {2}), {2}).shape(), x.shape());
    EXPECT_EQ(flatten(x, 1).shape(), (Shape{batch, 24}));
    EXPECT_EQ(flatten(x, 3).shape(), (Shape{24 * batch, 1}));
    EXPECT_EQ(slice(x, 1, 1, 6, 2).shape(), (Shape{batch, 3, 4}));
    EXPECT_EQ(slice(x, 1, 5, -1, -2).shape(), (Shape{batch, 3, 4}));
    EXPECT_EQ(flip(x, 0).shape(), x.shape());
    EXPECT_EQ(tile(x, {2, 1, 3}).shape(), (Shape{2 * batch, 6, 12}));
    EXPECT_EQ(pad(x, {0, 1, -1}, {0, 2, 0}).shape(), (Shape{batch, 9, 3}));
    const auto parts = split(x, 1, {2, 4});
    EXPECT_EQ(parts[1].shape(), (Shape{batch, 4, 4}));
    EXPECT_EQ(concat({parts[0], parts[1]}, 1).shape(), x.shape());
    EXPECT_THROW((void)split(x, 1, {2, 3}), GraphError);
    EXPECT_THROW((void)slice(x, 1, 1, 7), GraphError);
    EXPECT_THROW((void)permute(x, {0, 0, 1}), GraphError);
}

TEST(Builder, OneMatrixMakesOneProduct) {
    Graph g;
    const Var x = g.input("x", DType::F32, {batch, 5, 8});
    const Var w = g.input("w", DType::F32, {8, 16});
    const Var y = matmul(x, w);
    EXPECT_EQ(y.shape(), (Shape{batch, 5, 16}));
    const auto* outer = g.get_if<op::Reshape>(y);
    ASSERT_NE(outer, nullptr);
    EXPECT_EQ(g.shape(outer->x), (Shape{5 * batch, 16}));
    EXPECT_EQ(matmul(x, g.input("v", DType::F32, {8})).shape(), (Shape{batch, 5}));
    EXPECT_EQ(matmul(g.input("u", DType::F32, {5}), x).shape(), (Shape{batch, 8}));
    EXPECT_EQ(matmul(x, g.input("z", DType::F32, {3, 1, 8, 2})).shape(), (Shape{3, batch, 5, 2}));
    EXPECT_THROW((void)matmul(x, g.input("bad", DType::F32, {7, 2})), GraphError);
}

TEST(Builder, ConvolutionAndPooling) {
    Graph g;
    const Var x = g.input("x", DType::F32, {batch, 4, 8, 9});
    const Var w = g.constant(Tensor::zeros(DType::F32, {6, 2, 3, 3}));
    const Var b = g.constant(Tensor::zeros(DType::F32, {6}));
    EXPECT_EQ(conv(x, w, b, {.strides = {2, 1}, .pads = {1, 1, 1, 1}, .groups = 2}).shape(),
              (Shape{batch, 6, 4, 9}));
    const Var t = g.constant(Tensor::zeros(DType::F32, {4, 3, 2, 2}));
    EXPECT_EQ(conv_transpose(x, t, {}, {.strides = {2, 2}, .groups = 2}).shape(),
              (Shape{batch, 6, 16, 18}));
    EXPECT_EQ(max_pool(x, {3, 3}, {.strides = {2, 2}, .pads = {1, 1, 1, 1}}).shape(),
              (Shape{batch, 4, 4, 5}));
    EXPECT_EQ(average_pool(x, {2, 2}, {.strides = {2, 2}}).shape(), (Shape{batch, 4, 4, 4}));
    EXPECT_EQ(count(g, "Window"), 2u);
    EXPECT_EQ(average_pool(x, {3, 3}, {.pads = {1, 1, 1, 1}}).shape(), x.shape());
    EXPECT_THROW((void)conv(x, w, b, {.strides = {1}}), GraphError);
    EXPECT_THROW((void)conv(x, w), GraphError) << "channels do not fit without groups";
}

TEST(Builder, NormsAndAttention) {
    Graph g;
    const Var x = g.input("x", DType::F32, {batch, 6, 4, 4});
    const Var c = g.constant(Tensor::zeros(DType::F32, {6}));
    EXPECT_EQ(group_norm(x, 3, c, c).shape(), x.shape());
    EXPECT_THROW((void)group_norm(x, 4, c, c), GraphError);
    const Var scale = g.constant(Tensor::zeros(DType::F32, {4, 4}));
    EXPECT_EQ(layer_norm(x, scale, scale).shape(), x.shape());
    const auto* norm = g.get_if<op::Norm>(normalize(NormKind::MeanSquare, x, {-1, 1}, 1e-6));
    ASSERT_NE(norm, nullptr);
    EXPECT_EQ(norm->axes, (Ints{1, 3}));
    const Var q = g.input("q", DType::F32, {batch, 8, 5, 16});
    const Var k = g.input("k", DType::F32, {batch, 2, Dim::symbol("t"), 16});
    const Var mask = g.input("mask", DType::F32, {5, 1});
    const Var y = attention(q, k, k, mask);
    EXPECT_EQ(y.shape(), q.shape());
    EXPECT_EQ(g.get_if<op::Attention>(y)->scale, 0.25);
    EXPECT_THROW((void)attention(q, g.input("k3", DType::F32, {batch, 3, 7, 16}), k), GraphError)
        << "8 heads on 3";
}

TEST(Builder, ReductionsKeepDims) {
    Graph g;
    const Var x = g.input("x", DType::F32, {batch, 3, 5});
    EXPECT_EQ(mean(x, {-1}, true).shape(), (Shape{batch, 3, 1}));
    EXPECT_EQ(sum(x, {0, 2}).shape(), (Shape{3}));
    EXPECT_EQ(arg_max(x, 1, true).shape(), (Shape{batch, 1, 5}));
    EXPECT_EQ(top_k(x, 2).indices.shape(), (Shape{batch, 3, 2}));
    EXPECT_EQ(top_k(x, 2).indices.dtype(), DType::I64);
    EXPECT_THROW((void)sum(x, {1, -2}), GraphError) << "the same axis twice";
}

TEST(Builder, CallsAnotherGraph) {
    Graph inner;
    const Var p = inner.input("p", DType::F32, {Dim::symbol("n"), 3});
    inner.output("q", relu(p) + 1.0);
    Graph g;
    const Var x = g.input("x", DType::F32, {batch, 3});
    const std::vector<Var> y = call(inner, {x});
    ASSERT_EQ(y.size(), 1u);
    EXPECT_EQ(y[0].shape(), x.shape());
    EXPECT_THROW((void)call(inner, {}), GraphError);
}

TEST(Builder, ShapeValuesAreConstantsWhereKnown) {
    Graph g;
    EXPECT_NE(g.get_if<op::Constant>(shape_value(g, {2, 3})), nullptr);
    EXPECT_NE(g.get_if<op::ShapeValue>(shape_value(g, {batch, 3})), nullptr);
    EXPECT_EQ(full(g, DType::I32, {batch, 2}, 7).shape(), (Shape{batch, 2}));
    EXPECT_EQ(iota(g, batch + 1).shape(), (Shape{batch + 1}));
}

}  // namespace
}  // namespace kn
