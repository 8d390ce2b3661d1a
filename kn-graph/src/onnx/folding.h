// What is known of values while a model is loaded: shape arithmetic, constants, and small
// operations over constants.
//
//     folding.settle(graph, value);          // the value itself, or a constant or shape in its
//     place folding.known_tensor(graph, value);    // elements, if constants decide them
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include <kn/graph/graph.h>

namespace kn::onnx {

class Folding {
  public:
    /// For results of a node: small integer and bool tensors that are known become constants, or
    /// shapes made of Dims.
    Value settle(Graph& graph, Value value);
    /// The elements, if they follow from constants alone and are few. Marks the constants that were
    /// looked at as frozen.
    std::optional<Tensor> known_tensor(const Graph& graph, Value value);
    /// The elements of an integer tensor as Dims, row-major.
    std::optional<std::vector<Dim>> known_dims(const Graph& graph, Value value);

    /// A constant of the loader's, which `known_tensor` can mark.
    Value constant(Graph& graph, Tensor tensor, const std::string& name);

  private:
    bool is_constant(const Graph& graph, Value value);
    std::optional<Tensor> evaluate(const Graph& graph, Value value);

    std::unordered_map<const Graph*, std::vector<bool>>
        constant_;  // by value: constants alone decide it
    std::unordered_map<const ConstantData*, std::shared_ptr<ConstantData>> own_;
};

}  // namespace kn::onnx
