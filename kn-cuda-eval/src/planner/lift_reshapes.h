// Elementwise operations behind a product, at the product's own shape.
#pragma once

#include <kn/graph/graph.h>

namespace kn::cuda {

/// The same network, where elementwise operations that follow a Reshape of a product come before
/// it, so that they meet the product itself and can be its epilogue. Other operands are reshaped
/// the other way.
Graph lift_over_reshapes(const Graph& graph);

}  // namespace kn::cuda
