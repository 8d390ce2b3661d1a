#include "planner/normalized_rows.h"

namespace kn::cuda {

namespace {

/// The constant that a value repeats along all axes but the last.
std::shared_ptr<const ConstantData> vector_of(const Graph& graph, Value value) {
    const auto* broadcast = graph.get_if<op::Broadcast>(value);
    Value small = broadcast ? broadcast->x : value;
    const Ints shape = graph.shape(small).to_ints();
    if (shape.empty() || checked_size(shape) != shape.back() ||
        shape.back() != graph.shape(value).dims().back().value())
        return nullptr;
    while (const auto* reshape = graph.get_if<op::Reshape>(small)) small = reshape->x;
    const auto* constant = graph.get_if<op::Constant>(small);
    return constant ? constant->data : nullptr;
}

bool same_rows(const Graph& graph, Value a, Value b) {
    const Shape& x = graph.shape(a);
    return x.rank() > 0 && x.dims().back() == graph.shape(b).dims().back();
}

}  // namespace

std::optional<NormalizedRows> normalized_rows(const Graph& graph, Value operand) {
    NormalizedRows rows;
    for (Value at = operand;;) {
        rows.path.push_back(at);
        if (const auto* norm = graph.get_if<op::Norm>(at)) {
            const auto last = static_cast<std::int64_t>(graph.shape(at).rank()) - 1;
            if (norm->axes != Ints{last}) return std::nullopt;
            rows.x = norm->x;
            rows.kind = norm->kind;
            rows.epsilon = norm->epsilon;
            const auto* cast = graph.get_if<op::Cast>(rows.x);
            if (cast && graph.dtype(cast->x) == graph.dtype(operand)) {
                rows.path.push_back(rows.x);
                rows.x = cast->x;
            }
            return rows;
        }
        if (const auto* reshape = graph.get_if<op::Reshape>(at)) {
            if (!same_rows(graph, at, reshape->x)) return std::nullopt;
            at = reshape->x;
        } else if (const auto* cast = graph.get_if<op::Cast>(at)) {
            if (!is_float(graph.dtype(cast->x))) return std::nullopt;
            at = cast->x;
        } else if (const auto* binary = graph.get_if<op::Binary>(at)) {
            const bool times = binary->op == BinaryOp::Mul;
            auto& factor = times ? rows.scale : rows.shift;
            // (x scale) + shift, each once.
            if ((!times && (binary->op != BinaryOp::Add || rows.scale)) || factor)
                return std::nullopt;
            factor = vector_of(graph, binary->b);
            at = factor ? binary->a : binary->b;
            if (!factor) factor = vector_of(graph, binary->a);
            if (!factor) return std::nullopt;
        } else {
            return std::nullopt;
        }
    }
}

}  // namespace kn::cuda
