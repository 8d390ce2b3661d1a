// One product for several that share their first operand: Q, K and V, the gate and the other half
// of a gated layer.
#pragma once

#include <memory>
#include <vector>

#include <kn/graph/graph.h>

namespace kn::cuda {

/// What a Constant, or a Concat of Constants, consists of; empty for other values. Both are
/// uploaded as one weight.
std::vector<std::shared_ptr<const ConstantData>> constant_parts(const Graph& graph, Value value);

/// Whether the value is made of such parts, or is a permutation of them: Placement::constant stores
/// them as is wanted.
bool is_weight(const Graph& graph, Value value);

/// The same network, with products of one value and several constant matrices as one product of
/// that value and their concatenation along the columns; biases behind all of them are concatenated
/// and added before the columns are taken apart (by Slice, which costs nothing).
Graph merge_products(const Graph& graph);

}  // namespace kn::cuda
