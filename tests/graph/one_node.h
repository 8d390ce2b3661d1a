// A model of one ONNX node, for tests of the importers.
//
//     OneNode node("Slice", 9);
//     node.input({"n", 4}).ints("starts", {1}).ints("ends", {-1});
//     EXPECT_EQ(node.type(), "f32[max(n - 2, 0), 4]");
#pragma once

#include <variant>

#include <kn/graph/cpu.h>
#include <kn/graph/onnx.h>
#include <kn_onnx.pb.h>

namespace kn::test {

namespace pb = kn::onnx_pb;

class OneNode {
  public:
    OneNode(const std::string& op, int opset, int outputs = 1) {
        model_.set_ir_version(8);
        model_.add_opset_import()->set_version(opset);
        model_.mutable_graph()->set_name("test");
        model_.mutable_graph()->add_node()->set_op_type(op);
        for (int i = 0; i < outputs; ++i) {
            const std::string name = "y" + std::to_string(i);
            node().add_output(name);
            model_.mutable_graph()->add_output()->set_name(name);
        }
    }

    using Size = std::variant<int, const char*>;

    OneNode& input(const std::vector<Size>& dims, DType dtype = DType::F32) {
        pb::ValueInfoProto* info = model_.mutable_graph()->add_input();
        info->set_name(next_input());
        pb::TypeProto::Tensor* type = info->mutable_type()->mutable_tensor_type();
        type->set_elem_type(proto_type(dtype));
        for (const Size& size : dims) {
            auto* dim = type->mutable_shape()->add_dim();
            if (const int* number = std::get_if<int>(&size))
                dim->set_dim_value(*number);
            else
                dim->set_dim_param(std::get<const char*>(size));
        }
        return *this;
    }
    OneNode& constant(const Tensor& tensor) {
        *model_.mutable_graph()->add_initializer() = proto_of(tensor, next_input());
        return *this;
    }
    OneNode& indices(const Ints& values) {
        return constant(
            Tensor::from_span<std::int64_t>({static_cast<std::int64_t>(values.size())}, values));
    }
    OneNode& absent() {
        node().add_input("");
        return *this;
    }

    OneNode& integer(const char* name, std::int64_t value) {
        attribute(name, pb::AttributeProto::INT)->set_i(value);
        return *this;
    }
    OneNode& number(const char* name, float value) {
        attribute(name, pb::AttributeProto::FLOAT)->set_f(value);
        return *this;
    }
    OneNode& text(const char* name, const char* value) {
        attribute(name, pb::AttributeProto::STRING)->set_s(value);
        return *this;
    }
    OneNode& ints(const char* name, const Ints& values) {
        pb::AttributeProto* proto = attribute(name, pb::AttributeProto::INTS);
        for (const std::int64_t value : values) proto->add_ints(value);
        return *this;
    }

    OneNode& floats(const char* name, const std::vector<float>& values) {
        pb::AttributeProto* proto = attribute(name, pb::AttributeProto::FLOATS);
        for (const float value : values) proto->add_floats(value);
        return *this;
    }
    OneNode& texts(const char* name, const std::vector<std::string>& values) {
        pb::AttributeProto* proto = attribute(name, pb::AttributeProto::STRINGS);
        for (const std::string& value : values) proto->add_strings(value);
        return *this;
    }

    Graph load() const {
        const std::string bytes = model_.SerializeAsString();
        return load_onnx(std::as_bytes(std::span(bytes)));
    }
    /// Of output i: "f32[n, 4]".
    std::string type(std::size_t i = 0) const {
        const Graph graph = load();
        const Value value = graph.outputs().at(i).value;
        return std::string(name_of(graph.dtype(value))) + graph.shape(value).to_string();
    }
    std::vector<Tensor> run(const std::vector<Tensor>& inputs) const {
        return cpu::run(load(), inputs);
    }
    /// Elements of output 0 for one f32 input.
    std::vector<float> run_f32(const Ints& shape, const std::vector<float>& x) const {
        const Tensor y = run({Tensor::from_span<float>(shape, x)}).at(0);
        return {y.data<float>().begin(), y.data<float>().end()};
    }
    /// What loading says is wrong.
    std::string problem() const {
        try {
            (void)load();
        } catch (const OnnxError& error) {
            return error.what();
        }
        return "nothing";
    }

  private:
    pb::NodeProto& node() { return *model_.mutable_graph()->mutable_node(0); }
    std::string next_input() {
        const std::string name = "x" + std::to_string(node().input_size());
        node().add_input(name);
        return name;
    }
    pb::AttributeProto* attribute(const char* name, pb::AttributeProto::AttributeType type) {
        pb::AttributeProto* proto = node().add_attribute();
        proto->set_name(name);
        proto->set_type(type);
        return proto;
    }
    static int proto_type(DType dtype) {
        switch (dtype) {
            case DType::F32: return pb::TensorProto::FLOAT;
            case DType::F64: return pb::TensorProto::DOUBLE;
            case DType::I32: return pb::TensorProto::INT32;
            case DType::I64: return pb::TensorProto::INT64;
            case DType::Bool: return pb::TensorProto::BOOL;
            default: throw std::logic_error("OneNode has no such dtype");
        }
    }
    static pb::TensorProto proto_of(const Tensor& tensor, const std::string& name) {
        pb::TensorProto proto;
        proto.set_name(name);
        proto.set_data_type(proto_type(tensor.dtype()));
        for (const std::int64_t dim : tensor.shape()) proto.add_dims(dim);
        proto.set_raw_data(tensor.bytes().data(), tensor.byte_size());
        return proto;
    }

    pb::ModelProto model_;
};

}  // namespace kn::test
