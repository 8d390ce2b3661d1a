// Softmax, Norm and Attention as reductions and elementwise operations.
#include <limits>

#include "ir/decompose_parts.h"

namespace kn::decomposition {

namespace {

/// Along the last axis or any other; x in its compute type.
Var plain_softmax(Var x, std::int64_t axis, bool logarithm) {
    const Var shifted = x - reduce(ReduceOp::Max, x, {axis}, true);
    const Var exponentials = exp(shifted);
    const Var total = sum(exponentials, {axis}, true);
    return logarithm ? shifted - log(total) : exponentials / total;
}

/// Where position s of S may see position t of T: [S, T].
Var causal_mask(Graph& graph, CausalMask kind, const Dim& rows, const Dim& columns) {
    Var last_seen = unsqueeze(iota(graph, rows), {1});
    if (kind == CausalMask::BottomRight) last_seen = last_seen + scalar_dim(graph, columns - rows);
    return less_equal(unsqueeze(iota(graph, columns), {0}), last_seen);
}

}  // namespace

Vars parts(const op::Softmax& op, Graph& graph) {
    const Var x = widened(graph, op.x);
    return {cast(plain_softmax(x, op.axis, op.log), graph.dtype(op.x))};
}

Vars parts(const op::Norm& op, Graph& graph) {
    Var x = widened(graph, op.x);
    if (op.kind == NormKind::MeanVariance) x = x - mean(x, op.axes, true);
    const Var variance = mean(square(x), op.axes, true);
    return {cast(x / sqrt(variance + op.epsilon), graph.dtype(op.x))};
}

Vars parts(const op::Attention& op, Graph& graph) {
    Var q = widened(graph, op.q);
    const Var k = widened(graph, op.k);
    const Var v = widened(graph, op.v);
    const Shape shape = q.shape();  // [B, H, S, D]
    const Dim groups = k.shape()[1];
    const Dim tokens = k.shape()[2];
    const bool grouped = shape[1] != groups;
    const Dim rows = grouped ? floor_div(shape[1], groups) * shape[2] : shape[2];
    // The heads that share keys become more rows of one product.
    if (grouped) q = reshape(q, {shape[0], groups, rows, shape[3]});
    Var scores = matmul(q, transpose(k)) * op.scale;
    if (grouped) scores = reshape(scores, {shape[0], shape[1], shape[2], tokens});

    const Var nothing = scalar_like(scores, -std::numeric_limits<double>::infinity());
    if (op.mask) {
        const Var mask = graph.var(*op.mask);
        scores = mask.dtype() == DType::Bool ? select(mask, scores, nothing)
                                             : scores + widened(graph, mask);
    }
    if (op.causal != CausalMask::None)
        scores = select(causal_mask(graph, op.causal, shape[2], tokens), scores, nothing);

    Var weights = plain_softmax(scores, 3, false);
    if (grouped) weights = reshape(weights, {shape[0], groups, rows, tokens});
    Var result = matmul(weights, v);
    if (grouped) result = reshape(result, {shape[0], shape[1], shape[2], v.shape()[3]});
    return {cast(result, graph.dtype(op.q))};
}

}  // namespace kn::decomposition
