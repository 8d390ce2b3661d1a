// Squeeze and excite as rules find it: an image with its mean's way through two small products back
// to it.
#pragma once

#include <optional>
#include <vector>

#include "planner/group.h"

namespace kn::cuda {

struct SqueezePattern {
    Value image, mean, first, second;  ///< the products are `first` and `second`
    std::vector<Value> heads;          ///< rows that the result reads
    std::vector<Value> swallowed;      ///< between the image and the result
    std::vector<Value> others;         ///< further operands
};

/// The pattern that ends in `end`. The image is in memory or free; nobody else reads what lies
/// between.
std::optional<SqueezePattern> find_squeeze(const Grouping& grouping, Value end);

/// The roles that squeeze_of (lower/squeeze.h) wants.
void add_roles(Group& group, const SqueezePattern& parts);

/// Demands what the pattern reads beside the image.
void demand_operands(Grouping& grouping, const SqueezePattern& parts);

}  // namespace kn::cuda
