// Normalisations inside the products that read their rows.
#pragma once

#include "lower/tensor_product.h"
#include "planner/normalized_rows.h"

namespace kn::cuda {

/// The normalisation that our kernel should do with a MatMul by a weight that ends in `end`; none
/// if there is none, or it should be a kernel of its own: then with a decision.
std::optional<NormalizedRows> rows_to_normalize(Grouping& grouping, Value product, Value end,
                                                const ProductTail& tail);

/// Makes them the group's, and demands what they are made of.
void normalize_rows(Grouping& grouping, Group& group, const NormalizedRows& rows);

}  // namespace kn::cuda
