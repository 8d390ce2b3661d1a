// Which operations become one library step, and why not.
#include "cuda_eval/plan/support.h"
#include "planner/placement.h"
#include "planner/prepare.h"

namespace kn::test {

namespace {

using namespace kn::cuda;
using Kind = Group::Kind;

struct Grouped {
    std::unique_ptr<Graph> graph;
    std::unique_ptr<Grouping> grouping;
    PlanOptions options;
    DeviceProperties device = h200();

    std::size_t count(Kind kind) const {
        std::size_t n = 0;
        for (const Group& group : grouping->groups()) n += group.kind == kind;
        return n;
    }
    const Group& only(Kind kind) const {
        EXPECT_EQ(count(kind), 1u) << graph->to_string();
        for (const Group& group : grouping->groups())
            if (group.kind == kind) return group;
        throw GraphError("no group of the kind");
    }
    bool refused(const std::string& rule, const std::string& reason) const {
        for (const Decision& d : grouping->decisions())
            if (d.rule == rule && !d.taken && d.reason.find(reason) != std::string::npos)
                return true;
        return false;
    }
};

std::unique_ptr<Grouped> group(Graph graph, Precision precision = Precision::F32) {
    auto out = std::make_unique<Grouped>();
    out->options.precision = precision;
    out->graph = std::make_unique<Graph>(prepare(optimize(graph), out->options));
    out->grouping = std::make_unique<Grouping>(*out->graph, out->device, out->options);
    apply_rules(*out->grouping);
    return out;
}

Graph residual_block(Precision, bool relu_twice = false) {
    Graph g;
    const Var x = g.input("x", DType::F32, {2, 64, 8, 8});
    const ConvOptions same{.pads = {1, 1, 1, 1}};
    const Var y = relu(conv(x, weight(g, {64, 64, 3, 3}), weight(g, {64}), same));
    const Var z = conv(y, weight(g, {64, 64, 3, 3}, DType::F32, 2), weight(g, {64}), same);
    const Var sum = relu(z + y);
    g.output("y", relu_twice ? sum * 2.0 + z : sum);
    return g;
}

TEST(ConvolutionRule, TakesResidualBiasAndRelu) {
    for (const Precision p : {Precision::F32, Precision::TF32, Precision::F16, Precision::BF16}) {
        const auto found = group(residual_block(p), p);
        EXPECT_EQ(found->count(Kind::Conv), 2u) << name_of(p) << "\n" << found->graph->to_string();
        std::size_t residuals = 0;
        for (const Group& g : found->grouping->groups()) {
            if (g.kind != Kind::Conv) continue;
            EXPECT_TRUE(g.roles.count("bias"));
            EXPECT_EQ(g.epilogue.activation, Activation::Relu);
            EXPECT_FALSE(g.epilogue.bias_first);
            EXPECT_EQ(g.channels_last, p != Precision::F32);
            residuals += g.roles.count("residual");
        }
        EXPECT_EQ(residuals, 1u);
    }
}

TEST(ConvolutionRule, LeavesWhatOthersRead) {
    // The second convolution's sum with its bias is read twice, so relu and residual stay outside.
    const auto found = group(residual_block(Precision::F32, true));
    EXPECT_EQ(found->count(Kind::Conv), 2u);
    for (const Group& g : found->grouping->groups())
        EXPECT_FALSE(g.kind == Kind::Conv && g.roles.count("residual"));
}

TEST(ConvolutionRule, RefusesDoubles) {
    Graph g;
    const Var x = g.input("x", DType::F64, {1, 4, 8, 8});
    g.output("y", conv(x, weight(g, {4, 4, 3, 3}, DType::F64)));
    EXPECT_TRUE(group(std::move(g))->refused("convolution", "f64"));
}

TEST(ProductRule, TakesBiasResidualAndRelu) {
    Graph g;
    const Var x = g.input("x", DType::F32, {6, 16}), r = g.input("r", DType::F32, {6, 8});
    g.output("y", relu(linear(x, weight(g, {16, 8}), weight(g, {8})) + r));
    const auto found = group(std::move(g));
    const Group& product = found->only(Kind::MatMul);
    EXPECT_TRUE(product.roles.count("bias"));
    EXPECT_TRUE(product.roles.count("residual"));
    EXPECT_EQ(product.matmul_epilogue, MatmulEpilogue::Relu);
    EXPECT_EQ(found->grouping->groups().size(), 1u);
}

TEST(ProductRule, TakesTanhGeluAndLeavesErfGelu) {
    for (const bool tanh_form : {true, false}) {
        Graph g;
        const Var x = g.input("x", DType::F32, {6, 16});
        const Var y = linear(x, weight(g, {16, 8}), weight(g, {8}));
        g.output("y", tanh_form ? gelu_tanh(y) : gelu(y));
        const auto found = group(std::move(g));
        EXPECT_EQ(found->only(Kind::MatMul).matmul_epilogue,
                  tanh_form ? MatmulEpilogue::GeluTanh : MatmulEpilogue::None);
        EXPECT_EQ(found->grouping->groups().size(), tanh_form ? 1u : 2u);
    }
}

TEST(ProductRule, RefusesIntegersAndOuterProducts) {
    Graph g;
    const Var x = g.input("x", DType::I32, {4, 4});
    g.output("y", matmul(x, x));
    EXPECT_TRUE(group(std::move(g))->refused("product", "i32"));
    Graph h;
    const Var a = h.input("a", DType::F32, {4, 1}), b = h.input("b", DType::F32, {1, 4});
    h.output("y", matmul(a, b));
    const auto found = group(std::move(h));
    EXPECT_EQ(found->count(Kind::MatMul), 0u);
}

Graph attention_graph(std::int64_t width, DType mask) {
    Graph g;
    const Var q = g.input("q", DType::F32, {2, 4, 16, width});
    const Var k = g.input("k", DType::F32, {2, 2, 24, width});
    const Var v = g.input("v", DType::F32, {2, 2, 24, width});
    g.output("y", attention(q, k, v, g.input("m", mask, {2, 1, 1, 24})));
    return g;
}

TEST(AttentionRule, TakesHalvesWithAnyMask) {
    for (const DType mask : {DType::F32, DType::Bool}) {
        const auto found = group(attention_graph(64, mask), Precision::F16);
        const Group& attention = found->only(Kind::Attention);
        const Value bias = attention.roles.at("bias");
        EXPECT_EQ(found->graph->dtype(bias), DType::F16);
        EXPECT_EQ(found->graph->shape(bias), (Shape{2, 1, 16, 24}));
    }
}

TEST(AttentionRule, RefusesFloatsAndOddHeads) {
    EXPECT_TRUE(group(attention_graph(64, DType::F32))->refused("library-attention", "half"));
    EXPECT_TRUE(group(attention_graph(20, DType::F32), Precision::F16)
                    ->refused("library-attention", "multiple of 8"));
}

TEST(OutputRule, WritesRenamedValuesInPlace) {
    Graph g;
    const Var x = g.input("x", DType::F32, {6, 16});
    g.output("y", reshape(matmul(x, weight(g, {16, 8})), {2, 3, 8}));
    const auto found = group(std::move(g));
    EXPECT_EQ(found->grouping->groups().size(), 1u);
}

TEST(Plan, NamesWhatItCannotDoAllAtOnce) {
    Graph g;
    const Var x = g.input("x", DType::F32, {4});
    g.set_origins({"first"});
    const Value a = g.add(op::NonZero{x, "n"});
    g.set_origins({"second"});
    const Value b = g.add(op::NonZero{relu(x), "m"});
    g.output("a", a);
    g.output("b", b);
    try {
        cuda::plan(g, h200());
        FAIL() << "planned";
    } catch (const GraphError& error) {
        EXPECT_NE(std::string(error.what()).find("first"), std::string::npos) << error.what();
        EXPECT_NE(std::string(error.what()).find("second"), std::string::npos) << error.what();
    }
}

TEST(Plan, WantsNumbers) {
    Graph g;
    g.output("y", relu(g.input("x", DType::F32, {Dim::symbol("batch"), 4})));
    EXPECT_THROW(cuda::plan(g, h200()), GraphError);
    EXPECT_THROW(cuda::plan(g.bind({{"batch", 2}}), h200(), {.disabled_rules = {"no-such-rule"}}),
                 GraphError);
}

}  // namespace

}  // namespace kn::test
