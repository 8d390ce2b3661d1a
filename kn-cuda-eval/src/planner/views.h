// Views as arithmetic on strides: what a Permute, Slice, Reshape, ... of a strided tensor is.
//
//     std::optional<TensorRef> y = view_of(graph, permute, stored_x);
//
// Sizes are numbers: the graph is static.
#pragma once

#include <optional>

#include <kn/cuda_eval/plan.h>

namespace kn::cuda {

/// The operand of an operation that only renames elements (Reshape, Permute, Broadcast, Slice,
/// Window, BitCast).
std::optional<Value> viewed(const Graph& graph, Value value);

/// The view `value` of its operand, which lies at `x`; none if strides cannot express it or it is
/// no view.
std::optional<TensorRef> view_of(const Graph& graph, Value value, const TensorRef& x);

/// Strides under which the elements of a strided tensor, in row-major order, have another shape;
/// none if there are none.
std::optional<Ints> reshape_strides(const Ints& shape, const Ints& strides, const Ints& to);

/// Where the operand of a Reshape or Permute must lie so that `value` lies at `y`; none if that
/// cannot be.
std::optional<TensorRef> unview_of(const Graph& graph, Value value, const TensorRef& y);

}  // namespace kn::cuda
