// Small ONNX models written in tests.
//
//     ModelBuilder m;
//     m.input("x", F32, {"n", 4}).node("Relu", {"x"}, {"y"}).output("y");
//     Graph g = m.load();
#pragma once

#include <string>
#include <variant>
#include <vector>

#include <kn_onnx.pb.h>

#include <kn/graph/onnx.h>

namespace kn::test {

namespace pb = kn::onnx_pb;

using FileDims = std::vector<std::variant<int, std::string>>;  // "" is a dim without a name

inline void set_type(pb::ValueInfoProto& info, int element_type, const FileDims& dims) {
    auto* type = info.mutable_type()->mutable_tensor_type();
    type->set_elem_type(element_type);
    auto* shape = type->mutable_shape();
    for (const auto& dim : dims) {
        auto* entry = shape->add_dim();
        if (const int* number = std::get_if<int>(&dim))
            entry->set_dim_value(*number);
        else if (!std::get<std::string>(dim).empty())
            entry->set_dim_param(std::get<std::string>(dim));
    }
}

inline pb::TensorProto tensor_proto(const std::string& name, int element_type, const Ints& dims) {
    pb::TensorProto proto;
    proto.set_name(name);
    proto.set_data_type(element_type);
    for (const std::int64_t dim : dims) proto.add_dims(dim);
    return proto;
}

inline pb::TensorProto floats(const std::string& name, const Ints& dims,
                              const std::vector<float>& values) {
    pb::TensorProto proto = tensor_proto(name, pb::TensorProto::FLOAT, dims);
    for (const float value : values) proto.add_float_data(value);
    return proto;
}

inline pb::TensorProto integers(const std::string& name, const Ints& dims, const Ints& values) {
    pb::TensorProto proto = tensor_proto(name, pb::TensorProto::INT64, dims);
    for (const std::int64_t value : values) proto.add_int64_data(value);
    return proto;
}

inline pb::AttributeProto attribute(const std::string& name, std::int64_t value) {
    pb::AttributeProto proto;
    proto.set_name(name);
    proto.set_type(pb::AttributeProto::INT);
    proto.set_i(value);
    return proto;
}

inline pb::AttributeProto attribute(const std::string& name, float value) {
    pb::AttributeProto proto;
    proto.set_name(name);
    proto.set_type(pb::AttributeProto::FLOAT);
    proto.set_f(value);
    return proto;
}

inline pb::AttributeProto attribute(const std::string& name, const Ints& values) {
    pb::AttributeProto proto;
    proto.set_name(name);
    proto.set_type(pb::AttributeProto::INTS);
    for (const std::int64_t value : values) proto.add_ints(value);
    return proto;
}

inline pb::AttributeProto attribute(const std::string& name, const pb::GraphProto& graph) {
    pb::AttributeProto proto;
    proto.set_name(name);
    proto.set_type(pb::AttributeProto::GRAPH);
    *proto.mutable_g() = graph;
    return proto;
}

inline pb::AttributeProto reference(const std::string& name, const std::string& of_function) {
    pb::AttributeProto proto;
    proto.set_name(name);
    proto.set_type(pb::AttributeProto::FLOAT);
    proto.set_ref_attr_name(of_function);
    return proto;
}

inline pb::NodeProto node_proto(const std::string& op, const std::vector<std::string>& inputs,
                                const std::vector<std::string>& outputs,
                                const std::vector<pb::AttributeProto>& attributes = {},
                                const std::string& domain = "") {
    pb::NodeProto proto;
    proto.set_op_type(op);
    proto.set_domain(domain);
    for (const std::string& input : inputs) proto.add_input(input);
    for (const std::string& output : outputs) proto.add_output(output);
    for (const auto& attribute : attributes) *proto.add_attribute() = attribute;
    return proto;
}

class GraphBuilder {
  public:
    explicit GraphBuilder(pb::GraphProto& graph) : graph_(graph) {}
    GraphBuilder& input(const std::string& name, int element_type, const FileDims& dims) {
        auto* info = graph_.add_input();
        info->set_name(name);
        set_type(*info, element_type, dims);
        return *this;
    }
    GraphBuilder& output(const std::string& name) {
        graph_.add_output()->set_name(name);
        return *this;
    }
    GraphBuilder& node(const std::string& op, const std::vector<std::string>& inputs,
                       const std::vector<std::string>& outputs,
                       const std::vector<pb::AttributeProto>& attributes = {},
                       const std::string& domain = "") {
        *graph_.add_node() = node_proto(op, inputs, outputs, attributes, domain);
        return *this;
    }
    GraphBuilder& initializer(const pb::TensorProto& proto) {
        *graph_.add_initializer() = proto;
        return *this;
    }
    pb::GraphProto& proto() { return graph_; }

  private:
    pb::GraphProto& graph_;
};

class ModelBuilder {
  public:
    explicit ModelBuilder(std::int64_t opset = 17) {
        proto.set_ir_version(8);
        import("", opset);
    }
    void import(const std::string& domain, std::int64_t version) {
        auto* opset = proto.add_opset_import();
        opset->set_domain(domain);
        opset->set_version(version);
    }
    GraphBuilder graph() { return GraphBuilder(*proto.mutable_graph()); }
    std::string bytes() const { return proto.SerializeAsString(); }
    Graph load(const LoadOptions& options = {}) const {
        const std::string text = bytes();
        return load_onnx(std::as_bytes(std::span(text)), options);
    }
    /// What loading says is wrong; empty if nothing.
    std::string problems(const LoadOptions& options = {}) const {
        try {
            (void)load(options);
            return "";
        } catch (const OnnxError& error) {
            return (error.kind() == OnnxError::Kind::BrokenFile ? "broken: " : "unsupported: ") +
                   std::string(error.what());
        }
    }

    pb::ModelProto proto;
};

/// The constant that an output is.
inline const Tensor& constant_output(const Graph& graph, std::size_t i = 0) {
    const auto* constant = graph.get_if<op::Constant>(graph.outputs().at(i).value);
    if (constant == nullptr) throw GraphError("output is no constant:\n" + graph.to_string());
    return constant->data->tensor;
}

}  // namespace kn::test
