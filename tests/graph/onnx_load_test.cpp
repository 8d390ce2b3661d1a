// Names, versions, inputs, options: what a model says and how trouble is told.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "graph/onnx_builder.h"

namespace kn::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
constexpr int F32 = pb::TensorProto::FLOAT, I64 = pb::TensorProto::INT64;

TEST(OnnxLoad, ARealGraph) {
    ModelBuilder m;
    m.graph()
        .input("x", F32, {"batch", 4})
        .initializer(floats("w", {4, 2}, std::vector<float>(8, 1)))
        .node("MatMul", {"x", "w"}, {"h"})
        .node("Relu", {"h"}, {"y"})
        .output("y");
    const Graph g = m.load();
    ASSERT_EQ(g.inputs().size(), 1u);
    EXPECT_EQ(g.inputs()[0].name, "x");
    EXPECT_EQ(g.outputs()[0].name, "y");
    EXPECT_EQ(g.shape(g.outputs()[0].value).to_string(), "[batch, 2]");
    EXPECT_THAT(g[g.outputs()[0].value].origins, ElementsAre("Relu_1"));
}

TEST(OnnxLoad, ShapeChainsVanish) {
    ModelBuilder m;
    m.graph()
        .input("x", F32, {"batch", "seq", 6})
        .initializer(integers("zero", {1}, {0}))
        .initializer(integers("tail", {2}, {-1, 3}))
        .node("Shape", {"x"}, {"s"})
        .node("Gather", {"s", "zero"}, {"b"})
        .node("Concat", {"b", "tail"}, {"to"}, {attribute("axis", std::int64_t{0})})
        .node("Reshape", {"x", "to"}, {"y"})
        .output("y");
    const Graph g = m.load();
    EXPECT_EQ(g.shape(g.outputs()[0].value).to_string(), "[batch, 2*seq, 3]");
    EXPECT_EQ(g.live().size(), 2u) << g.to_string();
}

TEST(OnnxLoad, AllProblemsAtOnce) {
    ModelBuilder m;
    m.graph()
        .input("x", F32, {2})
        .node("Frobnicate", {"x"}, {"a"})
        .node("Relu", {"a"}, {"b"})
        .node("Add", {"x", "nothing"}, {"c"})
        .node("Relu", {"x"}, {"d"}, {attribute("slope", 1.0f)})
        .output("b")
        .output("gone");
    const std::string text = m.problems();
    EXPECT_THAT(
        text,
        HasSubstr("broken: node 'Frobnicate_0' (Frobnicate): the operator is not supported\n"));
    EXPECT_THAT(text, HasSubstr("node 'Add_2' (Add): input 'nothing' is not defined\n"));
    EXPECT_THAT(text,
                HasSubstr("node 'Relu_3' (Relu): not supported at opset 17: attribute 'slope'\n"));
    EXPECT_THAT(text, HasSubstr("output 'gone': no node makes it"));
    EXPECT_THAT(text, Not(HasSubstr("Relu_1"))) << "what follows from a problem is none of its own";
}

TEST(OnnxLoad, WhoIsAtFault) {
    ModelBuilder m;
    m.graph().input("x", F32, {2}).node("Frobnicate", {"x"}, {"y"}).output("y");
    EXPECT_THAT(m.problems(), HasSubstr("unsupported: "));
    m.graph().node("Relu", {"x"}, {"y"});
    EXPECT_THAT(m.problems(), HasSubstr("broken: "));
}

TEST(OnnxLoad, OrderAndNames) {
    const auto problems = [](const std::vector<pb::NodeProto>& nodes,
                             const std::string& output = "y") {
        ModelBuilder m;
        auto g = m.graph();
        g.input("x", F32, {2});
        for (const auto& node : nodes) *g.proto().add_node() = node;
        g.output(output);
        return m.problems();
    };
    EXPECT_THAT(problems({node_proto("Relu", {"a"}, {"y"}), node_proto("Relu", {"x"}, {"a"})}),
                HasSubstr("Relu_0' (Relu): input 'a' is made by no earlier node"));
    EXPECT_THAT(problems({node_proto("Add", {"x", "y"}, {"y"})}), HasSubstr("a cycle"));
    EXPECT_THAT(problems({node_proto("Relu", {"x"}, {"y"}), node_proto("Relu", {"x"}, {"y"})}),
                HasSubstr("'y' is defined twice"));
    EXPECT_THAT(problems({node_proto("Relu", {"x"}, {"x"})}, "x"),
                HasSubstr("'x' is defined twice"));
    EXPECT_THAT(problems({node_proto("Relu", {"x"}, {""})}, ""), HasSubstr("has no name"));
    EXPECT_THAT(problems({node_proto("Relu", {""}, {"y"})}), HasSubstr("input 0 is missing"));
    EXPECT_THAT(problems({node_proto("Relu", {"x"}, {"y", "z"})}), HasSubstr("output 1"));
}

TEST(OnnxLoad, TextOfTheFileIsMadeSafe) {
    ModelBuilder m;
    m.graph().input("x", F32, {2}).node("\x1b[2J\nEvil", {"x"}, {"y"}).output("y");
    const std::string text = m.problems();
    EXPECT_THAT(text, HasSubstr("\\x1B[2J\\x0AEvil"));
    EXPECT_EQ(text.find('\x1b'), std::string::npos);
    EXPECT_EQ(text.find('\n'), std::string::npos);
}

TEST(OnnxLoad, Versions) {
    const auto problems = [](std::int64_t opset, const std::string& op = "Relu") {
        ModelBuilder m(opset);
        m.graph().input("x", F32, {2}).node(op, {"x"}, {"y"}).output("y");
        return m.problems();
    };
    for (const int opset : {7, 13, 28, 29, 40}) EXPECT_EQ(problems(opset), "") << opset;
    EXPECT_THAT(problems(6), HasSubstr("opset 6 is older than 7"));
    EXPECT_THAT(problems(29, "HardSwish"), HasSubstr("opset 29 is newer than 28"));
    EXPECT_THAT(problems(13, "HardSwish"), HasSubstr("only from 14 on"));
    EXPECT_THAT(problems(0), HasSubstr("broken: opset_import: version 0"));
    EXPECT_THAT(problems(std::int64_t{1} << 62), HasSubstr("broken"));
    ModelBuilder m;
    m.graph().input("x", F32, {2}).node("Relu", {"x"}, {"y"}, {}, "org.example").output("y");
    EXPECT_THAT(m.problems(), HasSubstr("domain 'org.example' is not imported"));
    m.import("", 16);
    EXPECT_THAT(m.problems(), HasSubstr("imported twice"));
}

TEST(OnnxLoad, InputDims) {
    ModelBuilder m;
    m.graph().input("x", F32, {"n", "", 3, "2*n + 1"}).node("Relu", {"x"}, {"y"}).output("y");
    const Graph f = m.load();
    EXPECT_EQ(f.shape(f.inputs()[0].value).to_string(), "[n, x.1, 3, 2*n + 1]");
    const Graph g = m.load({.dims = {{"n", 5}, {"x.1", 7}}});
    EXPECT_EQ(g.shape(g.outputs()[0].value).to_string(), "[5, 7, 3, 11]");
    const Graph h = m.load({.input_shapes = {{"x", {1, 2, 3, 4}}}});
    EXPECT_EQ(h.shape(h.outputs()[0].value).to_string(), "[1, 2, 3, 4]");
    EXPECT_THROW((void)m.load({.dims = {{"batch", 5}}}), GraphError);
    EXPECT_THROW((void)m.load({.input_shapes = {{"z", {1}}}}), GraphError);
    EXPECT_THROW((void)m.load({.input_shapes = {{"x", {1}}}}), GraphError)
        << "the rank is the file's";
}

TEST(OnnxLoad, InputsWithoutShape) {
    ModelBuilder m;
    m.graph().input("x", F32, {}).node("Relu", {"x"}, {"y"}).output("y");
    m.proto.mutable_graph()->mutable_input(0)->mutable_type()->mutable_tensor_type()->clear_shape();
    EXPECT_THAT(m.problems(), HasSubstr("unsupported: input 'x': its shape is not given"));
    EXPECT_EQ(m.problems({.input_shapes = {{"x", {2, Dim::symbol("k")}}}}), "");
}

TEST(OnnxLoad, InputsWithDefaults) {
    ModelBuilder m;
    m.graph()
        .input("x", F32, {2})
        .input("w", F32, {2})
        .initializer(floats("w", {2}, {1, 2}))
        .node("Add", {"x", "w"}, {"y"})
        .output("y");
    const std::string bytes = m.bytes();
    const OnnxModel model = load_onnx_model(std::as_bytes(std::span(bytes)));
    EXPECT_EQ(model.graph.inputs().size(), 1u);
    EXPECT_THAT(model.info.defaulted_inputs, ElementsAre("w"));
    EXPECT_EQ(model.info.inputs.size(), 2u);
    const Graph g = m.load({.override_defaults = {"w"}});
    ASSERT_EQ(g.inputs().size(), 2u);
    EXPECT_EQ(g.inputs()[1].name, "w");
    EXPECT_THROW((void)m.load({.override_defaults = {"x"}}), GraphError);
    EXPECT_THROW((void)m.load({.values = {{"w", Tensor::zeros(DType::F32, {2})}}}), GraphError);
}

TEST(OnnxLoad, FixedValues) {
    ModelBuilder m;
    m.graph()
        .input("x", F32, {2, 3})
        .input("axes", I64, {1})
        .node("ReduceSum", {"x", "axes"}, {"y"})
        .output("y");
    try {
        (void)m.load();
        FAIL() << "the axes are not known";
    } catch (const NeedsValues& error) {
        EXPECT_THAT(error.inputs_to_fix(), ElementsAre("axes"));
        EXPECT_EQ(error.kind(), OnnxError::Kind::Unsupported);
    }
    const Graph g = m.load({.values = {{"axes", Tensor::from_span<std::int64_t>({1}, Ints{1})}}});
    EXPECT_EQ(g.inputs().size(), 2u) << "it stays in the signature";
    EXPECT_EQ(g.shape(g.outputs()[0].value).to_string(), "[2, 1]");
    EXPECT_THROW((void)m.load({.values = {{"axes", Tensor::scalar(1.0f)}}}), GraphError);
}

TEST(OnnxLoad, SizesThatTheDataDecide) {
    ModelBuilder m;
    m.graph()
        .input("x", F32, {12})
        .input("shape", I64, {2})
        .node("Reshape", {"x", "shape"}, {"y"})
        .output("y");
    const Graph g = m.load();
    EXPECT_EQ(g.shape(g.outputs()[0].value).rank(), 2u);
    EXPECT_FALSE(g.run_time_symbols().empty()) << g.to_string();
}

TEST(OnnxLoad, Info) {
    ModelBuilder m(18);
    m.proto.set_producer_name("pytorch");
    m.proto.set_producer_version("2.9");
    auto* entry = m.proto.add_metadata_props();
    entry->set_key("names");
    entry->set_value("{0: 'cat'}");
    m.graph()
        .input("x", F32, {"n"})
        .initializer(floats("w", {1}, {1}))
        .node("Add", {"x", "w"}, {"y"})
        .output("y");
    const std::string bytes = m.bytes();
    const OnnxInfo info = load_onnx_model(std::as_bytes(std::span(bytes))).info;
    EXPECT_EQ(info.producer, "pytorch 2.9");
    EXPECT_EQ(info.opsets.at(""), 18);
    EXPECT_EQ(info.metadata.at("names"), "{0: 'cat'}");
    EXPECT_EQ(info.operators.at("Add"), 1u);
    EXPECT_EQ(info.weight_bytes, 4u);
    EXPECT_EQ(read_onnx_info(std::as_bytes(std::span(bytes))).weight_bytes, 4u);
}

TEST(OnnxLoad, NotAModel) {
    for (const std::string& bytes : {std::string(), std::string("This is no model."),
                                     std::string(100, '\0'), std::string(50, '\x80')})
        EXPECT_THROW((void)load_onnx(std::as_bytes(std::span(bytes))), OnnxError) << bytes;
    EXPECT_THAT(check_onnx("/nonexistent/model.onnx"), ElementsAre(HasSubstr("No such file")));
    EXPECT_THAT(check_onnx("/"), ElementsAre(HasSubstr("no regular file")));
}

}  // namespace
}  // namespace kn::test
