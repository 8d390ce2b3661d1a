// Loader: turns the messages of one model into a graph.
//
//     Loader loader(file.proto, options, external, std::move(file.large));
//     Graph g = loader.load();   // or throws the problems of the whole file
#pragma once

#include <optional>
#include <set>

#include <kn/graph/onnx.h>

#include "onnx/folding.h"
#include "onnx/node.h"
#include "onnx/problems.h"
#include "onnx/scope.h"
#include "onnx/tensor_proto.h"

namespace kn::onnx {

class NodeReader;

/// Nesting of subgraphs and function calls beyond this is refused.
constexpr int max_depth = 50;

class Loader {
  public:
    Loader(const pb::ModelProto& model, const LoadOptions& options, ExternalReader external,
           LargeData large);

    Graph load();
    std::uint64_t weight_bytes() const { return weights_.bytes(); }

    // ---- for nodes ----

    /// Nothing if the name is defined nowhere.
    std::optional<Slot> resolve(Scope& scope, const std::string& name);
    std::string why_undefined(Scope& scope, const std::string& name) const;
    Folding& folding() { return folding_; }
    Weights& weights() { return weights_; }
    /// Symbols for the elements of a value that only the data decide.
    std::vector<Dim> read_dims(Graph& graph, Value value, std::int64_t minimum);
    /// Throws the Failure of a value that must be known at load, naming the inputs that decide it.
    [[noreturn]] void needs_value(const Graph& graph, Value value, const std::string& what);

    // ---- control flow (control.cpp, scan.cpp) ----

    /// Each gives the outputs of the node.
    std::vector<Slot> import_if(NodeReader& node);
    std::vector<Slot> import_loop(NodeReader& node);
    std::vector<Slot> import_scan(NodeReader& node);

    /// Imports a subgraph into the scope and gives its outputs; none if one of them has a problem.
    std::optional<std::vector<Slot>> import_body(Scope& scope, const pb::GraphProto& graph);
    /// Keeps a body until the load ends, since notes on graphs go by address.
    std::shared_ptr<Graph> keep(std::shared_ptr<Graph> body) {
        return bodies_.emplace_back(std::move(body));
    }

  private:
    // load.cpp
    void read_opsets();
    void read_functions();
    void check_options() const;
    void import_inputs(Scope& scope);
    void import_input(Scope& scope, const pb::ValueInfoProto& info);
    void import_outputs(Scope& scope);

    // nodes.cpp
    void import_initializers(Scope& scope, const pb::GraphProto& graph);
    void import_nodes(Scope& scope, const google::protobuf::RepeatedPtrField<pb::NodeProto>& nodes);
    void import_node(Scope& scope, const pb::NodeProto& proto, const std::string& name,
                     const std::string& where);
    std::vector<Slot> outputs_of_node(NodeReader& node);
    std::vector<Slot> call_function(NodeReader& node, const pb::FunctionProto& function);
    std::vector<Slot> import_constant(NodeReader& node);
    std::vector<Slot> import_by_table(NodeReader& node);
    void define(Scope& scope, const std::string& name, Slot slot);
    Slot capture(Scope& scope, Slot outer);
    const pb::FunctionProto* find_function(const pb::NodeProto& node) const;
    void spend_node(const Graph& graph);

    const pb::ModelProto& model_;
    const LoadOptions& options_;
    Problems problems_;
    Weights weights_;
    Folding folding_;
    Graph graph_;
    std::unordered_map<std::string, std::int64_t> opsets_;
    std::unordered_map<std::string, const pb::FunctionProto*> functions_;
    std::vector<const pb::FunctionProto*> call_stack_;
    std::map<std::tuple<const Graph*, std::uint32_t, std::int64_t>, std::vector<Dim>> dims_read_;
    std::set<std::string> input_names_;
    std::set<std::string> symbols_;  // of the inputs' dims, before options replace them
    std::vector<std::shared_ptr<Graph>> bodies_;
    std::size_t nodes_left_;
};

/// Throws Failure. Dims without a name are called "input.axis".
Shape declared_shape(const std::string& input, const pb::TensorShapeProto& proto);

std::string function_key(const std::string& domain, const std::string& name,
                         const std::string& overload);

/// "ai.onnx" is the same domain as "".
std::string normal_domain(const std::string& domain);

/// Throws Failure (unsupported) for a stamp outside the versions that kn knows.
void check_stamp(const std::string& domain, const std::string& op, std::int64_t opset);

/// The row for an operator at a version: the newest that is not newer. Throws Failure: an operator
/// that kn does not have, or not at that version.
const ImportRow& find_row(const std::string& domain, const std::string& op, std::int64_t opset);

}  // namespace kn::onnx
