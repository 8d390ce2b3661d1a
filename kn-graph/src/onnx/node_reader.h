// NodeReader: one NodeProto in its scope, as importers see it.
#pragma once

#include "onnx/loader.h"

namespace kn::onnx {

class NodeReader final : public Node {
  public:
    /// Looks up the inputs: a Failure if one is not defined.
    NodeReader(Loader& loader, Scope& scope, const pb::NodeProto& proto, std::string name);

    const pb::NodeProto& proto() const { return proto_; }
    Scope& scope() { return scope_; }
    const std::string& name() const { return name_; }
    /// Whether an input has a problem that is reported already.
    bool is_poisoned() const;
    const Slot& slot(std::size_t i) const { return inputs_.at(i); }
    void set_opset(std::int64_t opset) { opset_ = opset; }
    const pb::GraphProto& attr_graph(const std::string& attribute);
    /// The attribute itself, references of a function resolved; null if it is not given. Counts as
    /// reading it.
    const pb::AttributeProto* attribute(const std::string& attribute);
    /// All attributes as they stand in a call.
    AttributeBindings attributes() const;
    /// Throws Failure (unsupported) with the inputs and attributes that nobody asked for.
    void check_all_read() const;

    Graph& graph() override { return scope_.graph; }
    const std::string& op_type() const override { return proto_.op_type(); }
    std::int64_t opset() const override { return opset_; }
    std::size_t input_count() const override { return inputs_.size(); }
    bool has_input(std::size_t i) const override;
    Var input(std::size_t i) override;
    std::optional<Var> optional_input(std::size_t i) override;
    std::vector<Var> all_inputs() override;
    std::optional<Tensor> known_tensor(std::size_t i) override;
    std::vector<Dim> input_dims(std::size_t i, std::int64_t minimum) override;
    std::optional<std::vector<Dim>> known_dims(std::size_t i) override;
    Ints input_ints(std::size_t i) override;
    std::vector<double> input_floats(std::size_t i) override;
    bool has_attr(const std::string& attribute) override;
    std::int64_t attr_int(const std::string& attribute) override;
    std::int64_t attr_int(const std::string& attribute, std::int64_t otherwise) override;
    double attr_float(const std::string& attribute, double otherwise) override;
    std::string attr_string(const std::string& attribute, const std::string& otherwise) override;
    std::optional<Ints> attr_ints(const std::string& attribute) override;
    std::optional<std::vector<double>> attr_floats(const std::string& attribute) override;
    std::optional<std::vector<std::string>> attr_strings(const std::string& attribute) override;
    std::optional<Tensor> attr_tensor(const std::string& attribute) override;
    std::optional<DType> attr_dtype(const std::string& attribute) override;
    void ignore_attr(const std::string& attribute) override;
    std::size_t output_count() const override {
        return static_cast<std::size_t>(proto_.output_size());
    }
    bool wants_output(std::size_t i) const override;
    [[noreturn]] void broken(const std::string& reason) override { fail_broken(reason); }
    [[noreturn]] void unsupported(const std::string& reason) override { fail_unsupported(reason); }

  private:
    struct Attribute {
        std::string name;
        const pb::AttributeProto* proto;
        bool read = false;
    };
    Attribute* find(const std::string& attribute);
    const pb::AttributeProto* typed(const std::string& attribute,
                                    pb::AttributeProto::AttributeType type);
    Var integer_vector(std::size_t i);

    Loader& loader_;
    Scope& scope_;
    const pb::NodeProto& proto_;
    std::string name_;
    std::int64_t opset_ = 0;
    std::vector<Slot> inputs_;
    std::vector<bool> inputs_read_;
    std::vector<Attribute> attributes_;
};

}  // namespace kn::onnx
