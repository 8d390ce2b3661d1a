#include "lower/row_moments.h"

#include "planner/normalized_rows.h"
#include "planner/views.h"

namespace kn::cuda {

std::optional<Value> matrix_of(const Graph& graph, Value x, std::int64_t k,
                               const std::function<bool(Value)>& is_stored) {
    while (!is_stored(x) && is_any_of<op::Reshape, op::Permute>(graph[x].operation))
        x = *viewed(graph, x);
    const Shape& shape = graph.shape(x);
    if ((shape.rank() != 2 && shape.rank() != 4) || shape[1] != Dim(k)) return std::nullopt;
    return x;
}

bool gains_by_moments(const Graph& graph, Value product, Value end, NormKind kind) {
    return kind == NormKind::MeanVariance && graph.shape(end) == graph.shape(product);
}

void want_row_moments(Placement& placement, const std::vector<Group>& groups) {
    const Graph& graph = placement.graph();
    for (const Group& group : groups) {
        if (group.in_front.empty()) continue;
        const auto rows = normalized_rows(graph, inputs_of(graph[group.anchor].operation)[0]);
        if (!gains_by_moments(graph, group.anchor, group.outputs[0], rows.value().kind)) continue;
        const std::int64_t k = product_sizes(graph, group.anchor).k;
        const auto x = matrix_of(graph, group.roles.at("a"), k,
                                 [&](Value value) { return placement.is_stored(value); });
        if (x && placement.is_stored(*x) && !placement.wanted_parts(*x))
            placement.want_parts(*x, {1, k});
    }
}

std::optional<MatrixParts> row_moments(const Placement& placement, Value x,
                                       const ProductSizes& sizes, std::int64_t row_stride) {
    const auto view = placement.view(x);
    const auto matrix = matrix_of(placement.graph(), x, sizes.k,
                                  [&](Value value) { return placement.is_stored(value); });
    if (!view || !matrix) return std::nullopt;
    const auto parts = placement.parts(*matrix);
    if (!parts || parts->rows != 1) return std::nullopt;
    const TensorRef& y = placement.stored(*matrix);
    const bool same = view->buffer == y.buffer && view->offset == y.offset &&
                      checked_size(y.shape) == sizes.m * sizes.k &&
                      row_stride_of(placement.plan(), y) == row_stride;
    return same ? parts : std::nullopt;
}

}  // namespace kn::cuda
