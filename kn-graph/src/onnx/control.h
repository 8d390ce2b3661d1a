// Bodies of loops: imported until the shapes of the carried values are the same before and after an
// iteration.
#pragma once

#include <functional>
#include <set>

#include "onnx/loader.h"
#include "onnx/node_reader.h"

namespace kn::onnx {

/// Outputs of a node whose bodies have problems, which are reported already.
inline std::vector<Slot> poisoned(const NodeReader& node) {
    return std::vector<Slot>(node.output_count());
}

/// Whether a dim uses a symbol that the body's own operations bind.
bool is_local(const Graph& body, const Dim& dim);

struct LoopBody {
    std::shared_ptr<Graph>
        graph;  ///< inputs: iteration, condition, carried, captures; outputs not yet set
    Value condition_passed;
    std::vector<Slot> outputs;  ///< as the subgraph lists them
    std::vector<Value> captures;
    std::vector<Type> results;      ///< of the carried values
    std::set<std::string> varying;  ///< symbols of carried sizes that differ between iterations
};

class LoopImporter {
  public:
    /// Gives the subgraph's input names their values; called once for each attempt.
    using BindInputs = std::function<void(Scope& scope, Value iteration, Value condition,
                                          const std::vector<Value>& carried)>;

    LoopImporter(Loader& loader, NodeReader& node, const pb::GraphProto& body,
                 std::size_t first_carried, BindInputs bind)
        : loader_(loader),
          node_(node),
          body_(body),
          first_carried_(first_carried),
          bind_inputs_(std::move(bind)) {}

    /// None if a node of the body has a problem.
    std::optional<LoopBody> import(const std::vector<Value>& start);
    /// The type of a scanned output over `count` iterations.
    Type stacked(const LoopBody& body, const Slot& output, const Dim& count);

  private:
    Loader& loader_;
    NodeReader& node_;
    const pb::GraphProto& body_;
    std::size_t
        first_carried_;  ///< the index of the first carried value among the subgraph's outputs
    BindInputs bind_inputs_;
};

}  // namespace kn::onnx
