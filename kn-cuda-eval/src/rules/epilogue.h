// The pattern activation(main + bias + residual), in whatever order the sums stand.
#pragma once

#include "planner/group.h"

namespace kn::cuda {

struct EpiloguePattern {
    Value main;
    std::optional<Value> bias;      ///< 1 in all axes but one
    std::optional<Value> residual;  ///< of the result's shape
    bool relu = false, gelu_tanh = false;
    std::vector<Value> swallowed;  ///< what lies between, main included if it is not the end
};

/// The element of a constant that has the same one everywhere, seen through Broadcast and Reshape.
std::optional<double> uniform_constant(const Graph& graph, Value value);

/// The value of one axis that `value` repeats along all others: a Broadcast's operand.
std::optional<Value> bias_along(const Graph& graph, Value value, std::size_t axis);

/// Matches with `value` as the end; `is_main` says which operations may be at the heart, and the
/// bias runs along `axis`. What lies between has no other user.
std::optional<EpiloguePattern> match_epilogue(const Grouping& grouping, Value value,
                                              std::size_t axis, bool (*is_main)(const Operation&));

}  // namespace kn::cuda
