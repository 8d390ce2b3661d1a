// Rows that a product reads normalised: x / sqrt(mean(x^2) + epsilon) or (x - mean) / sqrt(variance
// + epsilon) along k, times and plus vectors along k.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include <kn/graph/graph.h>

namespace kn::cuda {

struct NormalizedRows {
    Value x;  ///< [..., k]
    NormKind kind = NormKind::MeanSquare;
    double epsilon = 0;
    std::shared_ptr<const ConstantData> scale, shift;  ///< of k elements, or none
    std::vector<Value> path;  ///< from the product's operand [m, k] to the normalisation
};

/// What a product's first operand is made of, if it is that: constants, Reshapes that leave the
/// rows, Casts between floating point types.
std::optional<NormalizedRows> normalized_rows(const Graph& graph, Value operand);

}  // namespace kn::cuda
