#include "onnx/attention.h"

#include <cmath>
#include <limits>

#include <fmt/core.h>

#include "onnx/import_util.h"

namespace kn::onnx {

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

/// k or v with each head repeated for the queries that share it: [B, G, T, D] -> [B, H, T, D].
Var repeat_heads(Var x, const Dim& heads) {
    const Shape shape = x.shape();
    if (shape[1] == heads) return x;
    const Dim sharing = floor_div(heads, shape[1]);
    Var spread = broadcast_to(unsqueeze(x, {2}), {shape[0], shape[1], sharing, shape[2], shape[3]});
    return reshape(spread, {shape[0], heads, shape[2], shape[3]});
}

Var causal_mask(Graph& g, CausalMask kind, const Dim& queries, const Dim& keys) {
    Var last = query_positions(g, queries);
    if (kind == CausalMask::BottomRight) last = last + scalar_dim(g, keys - queries);
    return less_equal(key_positions(g, keys), last);
}

/// Whether op::Attention computes the softmax at least as precisely as asked for.
bool softmax_fits(const AttentionCall& call) {
    const DType own = wide_dtype(call.q.dtype());
    return !call.softmax_dtype || *call.softmax_dtype == own ||
           *call.softmax_dtype == call.q.dtype();
}

AttentionOutput decomposed(const AttentionCall& call, const std::optional<Var>& mask,
                           const std::optional<Var>& seen) {
    const DType dtype = call.q.dtype();
    Var k = repeat_heads(call.k, call.q.shape()[1]);
    Var v = repeat_heads(call.v, call.q.shape()[1]);
    Var scores = matmul(call.q * call.scale, transpose(k));
    AttentionOutput output{scores, {}};
    auto emit = [&](ScoresOutput stage, Var value) {
        if (call.scores == stage) output.scores = cast(value, dtype);
    };
    emit(ScoresOutput::Raw, scores);
    if (call.softcap > 0) scores = tanh(scores / call.softcap) * call.softcap;
    emit(ScoresOutput::Capped, scores);
    if (mask) {
        Var none = scalar_like(scores, -infinity);
        scores = mask->dtype() == DType::Bool ? select(*mask, scores, none) : scores + *mask;
    }
    emit(ScoresOutput::Masked, scores);
    const DType wide = call.softmax_dtype.value_or(dtype);
    Var weights = softmax(cast(scores, wide));
    if (seen) weights = select(*seen, weights, scalar_like(weights, 0));
    weights = cast(weights, dtype);
    emit(ScoresOutput::Softmax, weights);
    output.y = matmul(weights, v);
    return output;
}

}  // namespace

std::optional<Var> both(std::optional<Var> a, std::optional<Var> b) {
    if (a && b) return logical_and(*a, *b);
    return a ? a : b;
}

Var query_positions(Graph& graph, const Dim& length) { return unsqueeze(iota(graph, length), {1}); }
Var key_positions(Graph& graph, const Dim& length) { return unsqueeze(iota(graph, length), {0}); }

AttentionOutput build_attention(const AttentionCall& call) {
    Graph& g = *call.q.graph;
    const bool fused = call.softcap <= 0 && call.scores == ScoresOutput::None && softmax_fits(call);
    std::optional<Var> allowed = call.allowed;
    CausalMask causal = call.causal;
    if (causal != CausalMask::None && (!fused || allowed || call.bias)) {
        allowed = both(allowed, causal_mask(g, causal, call.q.shape()[2], call.k.shape()[2]));
        causal = CausalMask::None;
    }
    std::optional<Var> mask = allowed;
    if (call.bias)
        mask =
            allowed ? select(*allowed, *call.bias, scalar_like(*call.bias, -infinity)) : *call.bias;
    // A row that sees nothing gives 0, where the softmax would give NaN.
    std::optional<Var> seen;
    if (mask) {
        Var best = reduce(ReduceOp::Max, *mask, {-1}, true);
        seen = mask->dtype() == DType::Bool ? best : greater(best, scalar_like(best, -infinity));
    }
    if (!fused) return decomposed(call, mask, seen);
    Var y = attention(call.q, call.k, call.v, mask, call.scale, causal);
    if (seen) y = select(*seen, y, scalar_like(y, 0));
    return {y, {}};
}

double read_scale(Node& node, Var q, const char* name) {
    if (const double scale = node.attr_float(name, 0); scale != 0) return scale;
    const Dim head = q.shape()[q.rank() - 1];
    if (!head.is_constant())
        node.unsupported(fmt::format("the head size {}, which must be fixed", head.to_string()));
    return 1 / std::sqrt(static_cast<double>(head.value()));
}

Var split_heads(Var x, std::int64_t heads) {
    const Shape shape = x.shape();
    if (x.rank() != 3)
        throw GraphError(fmt::format("heads of a tensor {} of rank {}, 3 is needed",
                                     shape.to_string(), x.rank()));
    return permute(reshape(x, {shape[0], shape[1], heads, floor_div(shape[2], heads)}),
                   {0, 2, 1, 3});
}

Var merge_heads(Var x) {
    const Shape shape = x.shape();
    return reshape(permute(x, {0, 2, 1, 3}), {shape[0], shape[2], shape[1] * shape[3]});
}

Var rotate(Var x, Var cos, Var sin, bool interleaved) {
    const Shape shape = x.shape();
    const auto last = static_cast<std::int64_t>(x.rank()) - 1;
    const Dim size = shape[x.rank() - 1];
    const Dim half = cos.shape()[cos.rank() - 1];
    const Dim rotated = half * 2;
    Var a = interleaved ? slice(x, last, 0, rotated, 2) : slice(x, last, 0, half);
    Var b = interleaved ? slice(x, last, 1, rotated, 2) : slice(x, last, half, rotated);
    Var real = a * cos - b * sin;
    Var imaginary = b * cos + a * sin;
    Var y = concat({real, imaginary}, last);
    if (interleaved) {
        Shape turned = shape;
        turned[x.rank() - 1] = rotated;
        y = reshape(concat({unsqueeze(real, {-1}), unsqueeze(imaginary, {-1})}, last + 1), turned);
    }
    return rotated == size ? y : concat({y, slice(x, last, rotated, size)}, last);
}

}  // namespace kn::onnx
