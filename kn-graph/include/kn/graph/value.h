// What operations are made of: handles to values, their types, and constants.
//
//     const kn::Type type{kn::DType::F32, {kn::Dim::symbol("batch"), 3}};
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include <kn/graph/tensor.h>

namespace kn {

/// A handle to one result inside one graph. Using it with another graph throws GraphError.
struct Value {
    std::uint32_t index = 0;
    std::uint32_t graph = 0;  // the graph's check number; 0: no value
    bool operator==(const Value&) const = default;
};

/// What is known of a value.
struct Type {
    DType dtype = DType::F32;
    Shape shape;
    bool operator==(const Type&) const = default;
};

/// A tensor fixed at load time. Equal small tensors are one constant; large ones are told apart by
/// their storage.
struct ConstantData {
    Tensor tensor;
    std::string name;  ///< the initializer's name, empty if it has none
    /// For a folded constant: how it was computed (an operation whose operand i is inputs[i]), so
    /// that it can be recomputed.
    struct Recipe;
    std::shared_ptr<const Recipe> recipe;
    /// A rule looked at the elements: the graph is only right for these, so the constant cannot be
    /// exchanged.
    bool frozen = false;
};

}  // namespace kn
