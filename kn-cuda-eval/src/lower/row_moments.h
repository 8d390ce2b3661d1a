// Norms of whole rows inside the products that read these: their statistics by the product that
// writes the rows, of as many parts of each as its tiles cut it into (kernels/row_moments.cu).
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "lower/product_epilogue.h"
#include "planner/placement.h"

namespace kn::cuda {

constexpr PlannerRule row_moments_rule = {
    "rows' norms beside products",
    "Statistics of rows that a product normalises by the convolution or product that writes the "
    "rows"};

/// The matrix [m, k], or the image [N, k, H, W], of which `x` is a view through Reshapes and
/// Permutes; nothing if it is of no such one.
std::optional<Value> matrix_of(const Graph& graph, Value x, std::int64_t k,
                               const std::function<bool(Value)>& is_stored);

/// Whether a product gains by statistics that come with its rows. Those of squares cost little to
/// take: LLaMA's layers 0.6 us in two products. Gated ones gain nothing: 27.2 us for 512x10240x1280,
/// 27.1 with the norm apart, as they have no time at their tiles' ends.
bool gains_by_moments(const Graph& graph, Value product, Value end, NormKind kind);

/// Asks for statistics of rows where groups can take them.
void want_row_moments(Placement& placement, const std::vector<Group>& groups);

/// Those of the rows of `x`, a view that lies as [m, k] with so many elements from row to row: [k /
/// columns, m, 2].
std::optional<MatrixParts> row_moments(const Placement& placement, Value x,
                                       const ProductSizes& sizes, std::int64_t row_stride);

}  // namespace kn::cuda
