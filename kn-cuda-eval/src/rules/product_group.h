// What the rules for our own products have in common.
#pragma once

#include <string>

#include "planner/group.h"

namespace kn::cuda {

/// The group of a MatMul or Conv by a weight that ends in `end`, in a kernel of our own: with the
/// roles a and b, or x, w and y.
Group product_group(const Graph& graph, const std::string& rule, Value product, Value end);

/// Demands what the operations behind a product read: the value itself, or what is broadcast.
void demand_operand(Grouping& grouping, Value operand);

}  // namespace kn::cuda
