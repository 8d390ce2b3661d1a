#include <gtest/gtest.h>

#include <kn/graph/builder.h>

namespace kn {
namespace {

const Dim batch = Dim::symbol("batch"), seq = Dim::symbol("seq");

TEST(Graph, SameOperationIsOneValue) {
    Graph g;
    const Var x = g.input("x", DType::F32, {batch, 4});
    EXPECT_EQ(exp(x).value, exp(x).value);
    EXPECT_FALSE(exp(x).value == log(x).value);
    EXPECT_EQ(scalar(g, DType::F32, 2).value, scalar(g, DType::F32, 2).value);
}

TEST(Graph, ValuesOfAnotherGraphAreRefused) {
    Graph g, other;
    const Var x = g.input("x", DType::F32, {4});
    EXPECT_THROW(static_cast<void>(other.add(op::Unary{UnaryOp::Exp, x})), GraphError);
}

TEST(Graph, BindGivesAStaticGraphAndSharesConstants) {
    Graph g;
    const Var x = g.input("x", DType::F32, {batch, seq, 8});
    const Var w = g.constant(Tensor::zeros(DType::F32, {8, 16}), "w");
    g.output("y", reshape(matmul(x, w), {batch * seq, 16}));
    const Graph bound = g.bind({{"batch", 2}, {"seq", 5}});
    EXPECT_EQ(bound.shape(bound.outputs()[0].value).to_string(), "[10, 16]");
    const auto* constant = [&]() -> const op::Constant* {
        for (const Value& v : bound.live())
            if (const auto* c = bound.get_if<op::Constant>(v)) return c;
        return nullptr;
    }();
    ASSERT_NE(constant, nullptr);
    EXPECT_EQ(constant->data, g.get_if<op::Constant>(w)->data);
}

TEST(Graph, BindChecksWhatCouldNotBeProved) {
    Graph g;
    g.set_origins({"/block/Add"});
    const Var a = g.input("a", DType::F32, {batch}), b = g.input("b", DType::F32, {seq});
    g.output("y", a + b);
    const Graph bound = g.bind({{"batch", 1}, {"seq", 3}});
    EXPECT_EQ(bound.shape(bound.outputs()[0].value).to_string(), "[3]");
    try {
        g.bind({{"batch", 2}, {"seq", 3}});
        FAIL() << "2 and 3 broadcast";
    } catch (const GraphError& error) {
        EXPECT_NE(std::string(error.what()).find("/block/Add"), std::string::npos) << error.what();
    }
}

TEST(Graph, BindNamesUnknownDims) {
    Graph g;
    g.output("y", g.input("x", DType::F32, {batch}));
    try {
        g.bind({{"bacth", 1}});
        FAIL() << "no such dim";
    } catch (const GraphError& error) {
        EXPECT_NE(std::string(error.what()).find("the network has: batch"), std::string::npos)
            << error.what();
    }
}

TEST(Graph, SymbolsFollowFromShapes) {
    Graph g;
    g.output("y", g.input("x", DType::F32, {batch, seq + Dim::symbol("past")}));
    g.output("z", g.input("p", DType::F32, {2 * Dim::symbol("past")}));
    const Bindings found = g.infer_bindings({{3, 7}, {8}});
    EXPECT_EQ(found, (Bindings{{"batch", 3}, {"past", 4}, {"seq", 3}}));
    EXPECT_THROW(g.infer_bindings({{3, 7}, {7}}), GraphError);
    EXPECT_THROW(g.infer_bindings({{3, 7, 1}, {8}}), GraphError);
}

TEST(Graph, CallInsertsAGraphWithItsSymbolsReplaced) {
    Graph inner;
    inner.output("y", relu(inner.input("x", DType::F32, {batch, 4})));
    Graph outer;
    const Var a = outer.input("a", DType::F32, {seq, 4});
    const std::vector<Var> once = call(inner, {a}), twice = call(inner, {once[0] + 1.0});
    EXPECT_EQ(twice[0].shape().to_string(), "[seq, 4]");
    EXPECT_THROW(call(inner, {outer.input("c", DType::F32, {seq, 5})}), GraphError);
}

TEST(Graph, ExtractCutsAPartOut) {
    Graph g;
    const Var x = g.input("x", DType::F32, {4}), middle = exp(x), y = sqrt(middle + 1.0);
    g.output("y", y);
    const Graph part = extract(g, {{"m", middle}}, {{"y", y}});
    ASSERT_EQ(part.inputs().size(), 1u);
    EXPECT_EQ(part.inputs()[0].name, "m");
    EXPECT_EQ(part.to_string().find("exp"), std::string::npos) << part.to_string();
}

TEST(Graph, DeadOperationsAreNotLive) {
    Graph g;
    const Var x = g.input("x", DType::F32, {4});
    const Var dead = exp(x);
    g.output("y", log(x));
    for (const Value& v : g.live()) EXPECT_FALSE(v == dead.value);
}

TEST(Graph, TextNamesShapesAndOrigins) {
    Graph g;
    const Var x = g.input("x", DType::F32, {batch, 4});
    g.set_origins({"/act/Exp"});
    g.output("y", exp(x));
    EXPECT_EQ(g.to_string(),
              "%0 = Input(name='x', dtype=f32, shape=[batch, 4]) : f32[batch, 4]\n"
              "%1 = Unary(op=exp, x=%0) : f32[batch, 4]  # /act/Exp\n"
              "output 'y' = %1\n");
}

}  // namespace
}  // namespace kn
