// What the rules for our own products have in common.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "lower/tensor_product.h"
#include "planner/group.h"

namespace kn::cuda {

/// The group of a MatMul or Conv by a weight that ends in `end`, in a kernel of our own: with the
/// roles a and b, or x, w and y.
Group product_group(const Graph& graph, const std::string& rule, Value product, Value end);

/// Demands what the operations behind a product read: the value itself, or what is broadcast.
void demand_operand(Grouping& grouping, Value operand);

/// Whether one operation alone reads the value, which is neither in a group nor stored.
bool is_inner(const Grouping& grouping, Value value);

/// A product or convolution and what lies between it and the end of a pattern.
struct FoundProduct {
    Value main;
    /// Between the end and the product, the end left out; with the product, if it is not the end.
    std::vector<Value> swallowed;
    std::vector<Value> others;  ///< further operands of the elementwise operations
};

/// Goes up from the end through elementwise operations whose results nobody else reads.
std::optional<FoundProduct> find_product(const Grouping& grouping, Value end);

/// What the kernel of a product that ends in `end` would do behind it.
ProductTail tail_of(const Grouping& grouping, Value end, const FoundProduct& found);

/// A product with all behind it, and another one that is added to it on the way, if any.
struct ProductSum {
    FoundProduct found;  ///< what is behind either
    std::optional<Value> also;
};

/// The product found below `end` with the first one that suits and has nothing but sums behind it.
ProductSum with_also(const Grouping& grouping, const FoundProduct& found, Value end,
                     const std::function<bool(Value)>& suits);

/// What an image is computed from, element by element with constants, on the way to the kernel.
Value image_source(const Grouping& grouping, Value value);

}  // namespace kn::cuda
