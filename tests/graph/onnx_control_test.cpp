// If, Loop, Scan and local functions: what is inlined, what becomes an operation, and what they
// compute.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <kn/graph/cpu.h>

#include "graph/onnx_builder.h"

namespace kn::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
constexpr int F32 = pb::TensorProto::FLOAT, I64 = pb::TensorProto::INT64,
              BOOL = pb::TensorProto::BOOL;

Tensor vec(const std::vector<float>& values) {
    return Tensor::from_span<float>({static_cast<std::int64_t>(values.size())}, values);
}

std::vector<double> elements(const Tensor& t) {
    std::vector<double> out;
    for (std::int64_t i = 0; i < t.size(); ++i) out.push_back(t.at(i));
    return out;
}

bool has(const Graph& graph, std::string_view operation) {
    for (const Value value : graph.live())
        if (name_of(graph[value].operation) == operation) return true;
    return false;
}

/// A branch: output "r" of one node over outer values.
pb::GraphProto branch(const std::string& op, const std::vector<std::string>& inputs) {
    pb::GraphProto graph;
    GraphBuilder(graph).node(op, inputs, {"r"}).output("r");
    return graph;
}

pb::NodeProto if_node(const std::string& condition, const pb::GraphProto& then_branch,
                      const pb::GraphProto& else_branch, const std::string& output = "y") {
    return node_proto(
        "If", {condition}, {output},
        {attribute("then_branch", then_branch), attribute("else_branch", else_branch)});
}

pb::TensorProto bool_proto(const std::string& name, bool value) {
    pb::TensorProto proto = tensor_proto(name, BOOL, {});
    proto.add_int32_data(value);
    return proto;
}

// ---- If ----

TEST(OnnxIf, AKnownConditionIsInlined) {
    ModelBuilder m;
    auto g = m.graph();
    g.input("x", F32, {"n"})
        .node("Shape", {"x"}, {"s"})
        .node("Size", {"s"}, {"rank"})
        .initializer(integers("one", {}, {1}))
        .node("Equal", {"rank", "one"}, {"c"});
    *g.proto().add_node() = if_node("c", branch("Neg", {"x"}), branch("Frobnicate", {"x"}));
    g.output("y");
    const Graph graph = m.load();
    EXPECT_FALSE(has(graph, "If")) << graph.to_string();
    EXPECT_THAT(elements(cpu::run(graph, {vec({1, -2})})[0]), ElementsAre(-1, 2));
}

TEST(OnnxIf, OnData) {
    ModelBuilder m;
    auto g = m.graph();
    g.input("c", BOOL, {}).input("x", F32, {"n"}).input("z", F32, {"n"});
    *g.proto().add_node() = if_node("c", branch("Add", {"x", "z"}), branch("Neg", {"z"}));
    g.output("y");
    const Graph graph = m.load();
    EXPECT_EQ(graph.shape(graph.outputs()[0].value).to_string(), "[n]");
    EXPECT_THAT(elements(cpu::run(graph, {Tensor::scalar(true), vec({1, 2}), vec({3, 4})})[0]),
                ElementsAre(4, 6));
    EXPECT_THAT(elements(cpu::run(graph, {Tensor::scalar(false), vec({1, 2}), vec({3, 4})})[0]),
                ElementsAre(-3, -4));
}

TEST(OnnxIf, BranchesOfOtherSizesGiveAFreshSymbol) {
    ModelBuilder m;
    auto g = m.graph();
    pb::GraphProto twice;
    GraphBuilder(twice)
        .node("Concat", {"x", "x"}, {"r"}, {attribute("axis", std::int64_t{0})})
        .output("r");
    g.input("c", BOOL, {}).input("x", F32, {"n"});
    *g.proto().add_node() = if_node("c", twice, branch("Neg", {"x"}), "h");
    g.node("Relu", {"h"}, {"y"}).output("y");
    const Graph graph = m.load();
    EXPECT_THAT(elements(cpu::run(graph, {Tensor::scalar(true), vec({1, 2})})[0]),
                ElementsAre(1, 2, 1, 2));
    EXPECT_THAT(elements(cpu::run(graph, {Tensor::scalar(false), vec({1, -2})})[0]),
                ElementsAre(0, 2));
}

TEST(OnnxIf, NestedBranchesReachOutwards) {
    ModelBuilder m;
    auto g = m.graph();
    pb::GraphProto outer;
    GraphBuilder(outer).node("Mul", {"x", "w"}, {"inner"});
    *outer.add_node() =
        if_node("d", branch("Add", {"inner", "x"}), branch("Sub", {"inner", "w"}), "o");
    GraphBuilder(outer).output("o");
    g.input("c", BOOL, {})
        .input("d", BOOL, {})
        .input("x", F32, {2})
        .initializer(floats("w", {2}, {10, 20}));
    *g.proto().add_node() = if_node("c", outer, branch("Neg", {"x"}));
    g.output("y");
    const Graph graph = m.load();
    const auto run = [&](bool c, bool d) {
        return elements(cpu::run(graph, {Tensor::scalar(c), Tensor::scalar(d), vec({1, 2})})[0]);
    };
    EXPECT_THAT(run(true, true), ElementsAre(11, 42));
    EXPECT_THAT(run(true, false), ElementsAre(0, 20));
    EXPECT_THAT(run(false, true), ElementsAre(-1, -2));
}

TEST(OnnxIf, Trouble) {
    const auto problems = [](const pb::GraphProto& then_branch, const pb::GraphProto& else_branch) {
        ModelBuilder m;
        auto g = m.graph();
        g.input("c", BOOL, {}).input("x", F32, {2});
        *g.proto().add_node() = if_node("c", then_branch, else_branch);
        g.output("y");
        return m.problems();
    };
    pb::GraphProto no_output, other_type;
    GraphBuilder(other_type).node("Shape", {"x"}, {"r"}).output("r");
    const pb::GraphProto good = branch("Neg", {"x"});
    EXPECT_THAT(problems(good, no_output), HasSubstr("a branch has 0 outputs"));
    EXPECT_THAT(problems(good, other_type), HasSubstr("f32 in one branch and i64 in the other"));
    EXPECT_EQ(problems(good, branch("Frobnicate", {"x"})),
              "unsupported: node 'If_0/Frobnicate_0' (Frobnicate): the operator is not supported");
    EXPECT_THAT(problems(good, branch("Neg", {"w"})), HasSubstr("'w' is not defined"));
    pb::GraphProto deep = good;
    for (int i = 0; i < 60; ++i) {
        pb::GraphProto next;
        *next.add_node() = if_node("c", deep, good, "r");
        GraphBuilder(next).output("r");
        deep = next;
    }
    EXPECT_THAT(problems(deep, good), HasSubstr("deeper than"));
}

// ---- Loop ----

/// for (i < count and c) { v = v + v; scanned = v * i; c = condition }
pb::GraphProto doubling(const std::string& condition = "c") {
    pb::GraphProto body;
    GraphBuilder(body)
        .input("i", I64, {})
        .input("c", BOOL, {})
        .input("v", F32, {"n"})
        .node("Add", {"v", "v"}, {"v2"})
        .node("Cast", {"i"}, {"f"}, {attribute("to", std::int64_t{F32})})
        .node("Mul", {"v2", "f"}, {"s"})
        .node("Identity", {condition}, {"c2"})
        .output("c2")
        .output("v2")
        .output("s");
    return body;
}

TEST(OnnxLoop, CountsAndStacks) {
    ModelBuilder m;
    m.graph()
        .input("count", I64, {})
        .input("x", F32, {"n"})
        .node("Loop", {"count", "", "x"}, {"y", "s"}, {attribute("body", doubling())})
        .output("y")
        .output("s");
    const Graph g = m.load();
    const auto run = [&](std::int64_t count) {
        return cpu::run(g, {Tensor::scalar(count), vec({1, 3})});
    };
    EXPECT_THAT(elements(run(3)[0]), ElementsAre(8, 24));
    EXPECT_THAT(elements(run(3)[1]), ElementsAre(0, 0, 4, 12, 16, 48));
    EXPECT_THAT(elements(run(0)[0]), ElementsAre(1, 3));
    EXPECT_EQ(run(0)[1].shape(), (Ints{0, 2}));
    EXPECT_EQ(run(-5)[1].shape(), (Ints{0, 2}));
}

TEST(OnnxLoop, AKnownCountGivesTheShape) {
    ModelBuilder m;
    m.graph()
        .input("x", F32, {"n"})
        .initializer(integers("count", {1}, {4}))
        .initializer(bool_proto("go", true))
        .node("Loop", {"count", "go", "x"}, {"y", "s"}, {attribute("body", doubling())})
        .output("s");
    const Graph g = m.load();
    EXPECT_EQ(g.shape(g.outputs()[0].value).to_string(), "[4, n]");
}

TEST(OnnxLoop, StopsByItsCondition) {
    pb::GraphProto body;
    GraphBuilder(body)
        .input("i", I64, {})
        .input("c", BOOL, {})
        .input("v", F32, {})
        .node("Add", {"v", "v"}, {"v2"})
        .node("Less", {"v2", "limit"}, {"c2"})
        .output("c2")
        .output("v2")
        .output("v2");
    ModelBuilder m;
    m.graph()
        .input("limit", F32, {})
        .input("go", BOOL, {})
        .initializer(floats("one", {}, {1}))
        .node("Loop", {"", "go", "one"}, {"y", "all"}, {attribute("body", body)})
        .output("y")
        .output("all");
    const Graph g = m.load();
    EXPECT_THAT(elements(cpu::run(g, {Tensor::scalar(10.0f), Tensor::scalar(true)})[1]),
                ElementsAre(2, 4, 8, 16));
    EXPECT_THAT(elements(cpu::run(g, {Tensor::scalar(10.0f), Tensor::scalar(false)})[0]),
                ElementsAre(1));
}

TEST(OnnxLoop, CarriedValuesMayGrow) {
    pb::GraphProto body;
    GraphBuilder(body)
        .input("i", I64, {})
        .input("c", BOOL, {})
        .input("v", F32, {""})
        .node("Concat", {"v", "x"}, {"v2"}, {attribute("axis", std::int64_t{0})})
        .node("Identity", {"c"}, {"c2"})
        .output("c2")
        .output("v2");
    ModelBuilder m;
    m.graph()
        .input("count", I64, {})
        .input("x", F32, {"n"})
        .node("Neg", {"x"}, {"start"})
        .node("Loop", {"count", "", "start"}, {"y"}, {attribute("body", body)})
        .node("Relu", {"y"}, {"z"})
        .output("z");
    const Graph g = m.load();
    EXPECT_THAT(elements(cpu::run(g, {Tensor::scalar(std::int64_t{2}), vec({1, 2})})[0]),
                ElementsAre(0, 0, 1, 2, 1, 2));
}

TEST(OnnxLoop, Trouble) {
    const auto problems = [](const pb::GraphProto& body, const std::vector<std::string>& inputs,
                             const std::vector<std::string>& outputs) {
        ModelBuilder m;
        m.graph()
            .input("count", I64, {})
            .input("x", F32, {"n"})
            .node("Loop", inputs, outputs, {attribute("body", body)})
            .output(outputs[0]);
        return m.problems();
    };
    EXPECT_THAT(problems(doubling(), {"count", ""}, {"y"}),
                HasSubstr("the body has 3 inputs, 2 are passed"));
    EXPECT_THAT(problems(doubling(), {"count", "", "x"}, {"y", "s", "t"}),
                HasSubstr("the body has 3 outputs, 4 are needed"));
    EXPECT_THAT(problems(doubling("v"), {"count", "", "x"}, {"y"}), HasSubstr("broken"));
    EXPECT_THAT(problems(doubling(), {"x", "", "x"}, {"y"}), HasSubstr("trip count"));
}

// ---- Scan ----

/// state = state + x; scanned = state
pb::GraphProto running_sum() {
    pb::GraphProto body;
    GraphBuilder(body)
        .input("state", F32, {})
        .input("x", F32, {})
        .node("Add", {"state", "x"}, {"sum"})
        .node("Identity", {"sum"}, {"all"})
        .output("sum")
        .output("all");
    return body;
}

TEST(OnnxScan, ForwardsAndBackwards) {
    for (const bool reverse : {false, true}) {
        ModelBuilder m;
        std::vector<pb::AttributeProto> attributes = {attribute("num_scan_inputs", std::int64_t{1}),
                                                      attribute("body", running_sum())};
        if (reverse) attributes.push_back(attribute("scan_input_directions", Ints{1}));
        if (reverse) attributes.push_back(attribute("scan_output_directions", Ints{1}));
        m.graph()
            .input("x", F32, {"t"})
            .initializer(floats("zero", {}, {0}))
            .node("Scan", {"zero", "x"}, {"y", "all"}, attributes)
            .output("y")
            .output("all");
        const Graph g = m.load();
        EXPECT_EQ(g.shape(g.outputs()[1].value).to_string(), "[t]");
        const auto out = cpu::run(g, {vec({1, 2, 4})});
        EXPECT_THAT(elements(out[0]), ElementsAre(7));
        if (reverse)
            EXPECT_THAT(elements(out[1]), ElementsAre(7, 6, 4));
        else
            EXPECT_THAT(elements(out[1]), ElementsAre(1, 3, 7));
    }
}

TEST(OnnxScan, AlongOtherAxes) {
    ModelBuilder m;
    m.graph()
        .input("x", F32, {2, 3})
        .initializer(floats("zero", {2}, {0, 0}))
        .node("Scan", {"zero", "x"}, {"y", "all"},
              {attribute("num_scan_inputs", std::int64_t{1}), attribute("body", running_sum()),
               attribute("scan_input_axes", Ints{-1}), attribute("scan_output_axes", Ints{1})})
        .output("all");
    const Graph g = m.load();
    const std::vector<float> x = {1, 2, 3, 10, 20, 30};
    EXPECT_THAT(elements(cpu::run(g, {Tensor::from_span<float>({2, 3}, x)})[0]),
                ElementsAre(1, 3, 6, 10, 30, 60));
}

TEST(OnnxScan, Trouble) {
    const auto problems = [](std::int64_t scans, const std::vector<pb::AttributeProto>& more) {
        ModelBuilder m;
        std::vector<pb::AttributeProto> attributes = {attribute("num_scan_inputs", scans),
                                                      attribute("body", running_sum())};
        attributes.insert(attributes.end(), more.begin(), more.end());
        m.graph()
            .input("x", F32, {"t"})
            .initializer(floats("zero", {}, {0}))
            .node("Scan", {"zero", "x"}, {"y", "all"}, attributes)
            .output("all");
        return m.problems();
    };
    EXPECT_EQ(problems(1, {}), "");
    EXPECT_THAT(problems(0, {}), HasSubstr("num_scan_inputs is 0"));
    EXPECT_THAT(problems(3, {}), HasSubstr("num_scan_inputs is 3"));
    EXPECT_THAT(problems(1, {attribute("scan_input_axes", Ints{5})}), HasSubstr("scan_input_axes"));
    EXPECT_THAT(problems(1, {attribute("scan_output_axes", Ints{0, 0})}),
                HasSubstr("2 entries, 1 are needed"));
}

// ---- functions ----

pb::FunctionProto& add_function(ModelBuilder& m, const std::string& name,
                                const std::vector<std::string>& inputs,
                                const std::vector<std::string>& outputs,
                                const std::vector<pb::NodeProto>& nodes) {
    auto* function = m.proto.add_functions();
    function->set_name(name);
    function->set_domain("local");
    for (const std::string& input : inputs) function->add_input(input);
    for (const std::string& output : outputs) function->add_output(output);
    for (const auto& node : nodes) *function->add_node() = node;
    for (const auto& [domain, version] : {std::pair<std::string, int>{"", 17}, {"local", 1}}) {
        auto* opset = function->add_opset_import();
        opset->set_domain(domain);
        opset->set_version(version);
    }
    return *function;
}

TEST(OnnxFunction, AttributesAreHandedOn) {
    ModelBuilder m;
    m.import("local", 1);
    auto& leaky =
        add_function(m, "Leaky", {"x"}, {"y"},
                     {node_proto("LeakyRelu", {"x"}, {"y"}, {reference("alpha", "slope")})});
    *leaky.add_attribute_proto() = attribute("slope", 0.5f);
    add_function(m, "Twice", {"x"}, {"y"},
                 {node_proto("Leaky", {"x"}, {"t"}, {reference("slope", "outer")}, "local"),
                  node_proto("Leaky", {"t"}, {"y"}, {}, "local")})
        .add_attribute("outer");
    m.graph()
        .input("x", F32, {1})
        .node("Twice", {"x"}, {"y"}, {attribute("outer", 0.25f)}, "local")
        .node("Twice", {"x"}, {"z"}, {}, "local")
        .output("y")
        .output("z");
    const auto out = cpu::run(m.load(), {vec({-8})});
    EXPECT_THAT(elements(out[0]), ElementsAre(-1)) << "0.25 then the default 0.5";
    EXPECT_THAT(elements(out[1]), ElementsAre(-2))
        << "an attribute that is not given leaves the default";
}

TEST(OnnxFunction, HasItsOwnNamesAndVersions) {
    ModelBuilder m(13);
    m.import("local", 1);
    add_function(m, "F", {"a", "b"}, {"x"},
                 {node_proto("HardSwish", {"a"}, {"t"}), node_proto("Sub", {"t", "b"}, {"x"})});
    m.graph()
        .input("x", F32, {1})
        .node("Neg", {"x"}, {"t"})
        .node("F", {"x", "t"}, {"y"}, {}, "local")
        .output("y");
    const Graph g = m.load();
    EXPECT_THAT(elements(cpu::run(g, {vec({3})})[0]), ElementsAre(6))
        << "HardSwish is of opset 14, which the function imports";
    EXPECT_THAT(g[g.outputs()[0].value].origins, ElementsAre("F_1/Sub_1"));
}

TEST(OnnxFunction, OptionalInputs) {
    ModelBuilder m;
    m.import("local", 1);
    add_function(m, "F", {"x", "low", "high"}, {"y"},
                 {node_proto("Clip", {"x", "low", "high"}, {"y"})});
    m.graph()
        .input("x", F32, {2})
        .initializer(floats("one", {}, {1}))
        .node("F", {"x", "", "one"}, {"y"}, {}, "local")
        .output("y");
    EXPECT_THAT(elements(cpu::run(m.load(), {vec({-3, 3})})[0]), ElementsAre(-3, 1));
}

TEST(OnnxFunction, Trouble) {
    const auto problems = [](const std::vector<pb::NodeProto>& nodes,
                             const std::vector<std::string>& inputs = {"x"}) {
        ModelBuilder m;
        m.import("local", 1);
        add_function(m, "F", {"x"}, {"y"}, nodes);
        m.graph().input("x", F32, {2}).node("F", inputs, {"y"}, {}, "local").output("y");
        return m.problems();
    };
    EXPECT_THAT(problems({node_proto("F", {"x"}, {"y"}, {}, "local")}),
                HasSubstr("function 'F' calls itself"));
    EXPECT_THAT(problems({node_proto("Relu", {"x"}, {"z"})}),
                HasSubstr("does not define its output 'y'"));
    EXPECT_THAT(problems({node_proto("Relu", {"x"}, {"y"})}, {"x", "x"}),
                HasSubstr("2 inputs for a function of 1"));
    EXPECT_THAT(problems({node_proto("LeakyRelu", {"x"}, {"y"}, {reference("alpha", "slope")})}),
                HasSubstr("refers to 'slope'"));
    EXPECT_THAT(problems({node_proto("Frobnicate", {"x"}, {"y"})}),
                HasSubstr("node 'F_0/Frobnicate_0'"));
}

TEST(OnnxFunction, DoublingsAreStopped) {
    ModelBuilder m;
    m.import("local", 1);
    for (int i = 0; i < 40; ++i) {
        const std::string next = i == 39 ? "Relu" : "F" + std::to_string(i + 1),
                          domain = i == 39 ? "" : "local";
        add_function(m, "F" + std::to_string(i), {"x"}, {"y"},
                     {node_proto(next, {"x"}, {"t"}, {}, domain),
                      node_proto(next, {"t"}, {"y"}, {}, domain)});
    }
    m.graph().input("x", F32, {2}).node("F0", {"x"}, {"y"}, {}, "local").output("y");
    EXPECT_THAT(m.problems(), HasSubstr("too many nodes"));
}

}  // namespace
}  // namespace kn::test
