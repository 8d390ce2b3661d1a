// Constant factors and terms: merged with each other, and into the weights in front of them.
#include <algorithm>

#include "optimizer/rules.h"

namespace kn::optimizer {

namespace {

/// The constant under a broadcast.
std::optional<Value> constant_operand(const Rewriter& r, Value v) {
    if (const auto* broadcast = r.graph.get_if<op::Broadcast>(v)) v = broadcast->x;
    return r.is<op::Constant>(v) ? std::optional(v) : std::nullopt;
}

/// x op constant, for Add, Sub, Mul, Div.
struct Affine {
    BinaryOp op;
    Value x;
    Value constant;  ///< of x's rank; its dims are x's or 1
};

std::optional<Affine> affine_of(const Rewriter& r, Value v) {
    const auto binary = r.get<op::Binary>(v);
    if (!binary || !is_float(r.dtype(v))) return std::nullopt;
    const bool commutes = binary->op == BinaryOp::Add || binary->op == BinaryOp::Mul;
    if (!commutes && binary->op != BinaryOp::Sub && binary->op != BinaryOp::Div)
        return std::nullopt;
    if (const auto c = constant_operand(r, binary->b)) return Affine{binary->op, binary->a, *c};
    if (!commutes) return std::nullopt;
    if (const auto c = constant_operand(r, binary->a)) return Affine{binary->op, binary->b, *c};
    return std::nullopt;
}

/// a op b of two constants, computed; nothing if it would be larger than both.
std::optional<Var> combined(Rewriter& r, BinaryOp op, Value a, Value b) {
    const auto size = [&](Value v) { return r.shape(v).size().value(); };
    const Value c = r.folded(binary(op, r.var(a), r.var(b)));
    if (!r.is<op::Constant>(c) || size(c) > std::max(size(a), size(b))) return std::nullopt;
    return r.var(c);
}

bool is_additive(BinaryOp op) { return op == BinaryOp::Add || op == BinaryOp::Sub; }

}  // namespace

std::optional<Value> affine_merge(Rewriter& r, Value v) {
    const auto outer = affine_of(r, v);
    if (!outer || !r.single_use(outer->x)) return std::nullopt;
    const auto inner = affine_of(r, outer->x);
    if (!inner || is_additive(inner->op) != is_additive(outer->op)) return std::nullopt;
    const bool sums = is_additive(outer->op);
    const BinaryOp plain = sums ? BinaryOp::Add : BinaryOp::Mul;
    const BinaryOp reverse = sums ? BinaryOp::Sub : BinaryOp::Div;
    const Var x = r.var(inner->x);
    if (inner->op == reverse && outer->op == reverse) {
        const auto c = combined(r, plain, inner->constant, outer->constant);
        return c ? std::optional<Value>(binary(reverse, x, *c)) : std::nullopt;
    }
    // The one that is added (multiplied) comes first.
    const bool swap = inner->op == reverse;
    const bool mixed = inner->op != outer->op;
    const auto c = combined(r, mixed ? reverse : plain, swap ? outer->constant : inner->constant,
                            swap ? inner->constant : outer->constant);
    return c ? std::optional<Value>(binary(plain, x, *c)) : std::nullopt;
}

namespace {

/// A factor that varies along `from_axis` alone, as one of `rank` dims that varies along `axis`.
std::optional<Var> along(Rewriter& r, Value factor, std::size_t from_axis, std::size_t rank,
                         std::size_t axis) {
    const Shape shape = r.shape(factor);
    for (std::size_t i = 0; i < shape.rank(); ++i)
        if (i != from_axis && !(shape[i] == 1)) return std::nullopt;
    std::vector<Dim> dims(rank, Dim(1));
    dims[axis] = shape[from_axis];
    return reshape(r.var(factor), Shape(std::move(dims)));
}

/// The layer with `weights` (one of its operands) multiplied or divided by the factor, which goes
/// with the layer's axis `from_axis` and the weights' `axis`.
template <class Layer>
std::optional<Value> scaled(Rewriter& r, Layer layer, Value Layer::*weights, BinaryOp op,
                            Value factor, std::size_t from_axis, std::size_t axis) {
    const auto c = along(r, factor, from_axis, r.shape(layer.*weights).rank(), axis);
    if (!c) return std::nullopt;
    layer.*weights = r.folded(binary(op, r.var(layer.*weights), *c));
    return r.is<op::Constant>(layer.*weights) ? std::optional(r.graph.add(layer)) : std::nullopt;
}

/// The layer with its weights multiplied (divided) by a factor per output channel.
std::optional<Value> scaled_layer(Rewriter& r, Value layer, BinaryOp op, Value factor) {
    if (!r.single_use(layer)) return std::nullopt;
    if (const auto conv = r.get<op::Conv>(layer))
        return scaled(r, *conv, &op::Conv::w, op, factor, 1, 0);
    if (const auto conv = r.get<op::ConvTranspose>(layer)) {
        // Axis 1 of the weights counts the channels of one group only.
        if (conv->groups != 1 && !(r.shape(factor).size() == 1)) return std::nullopt;
        return scaled(r, *conv, &op::ConvTranspose::w, op, factor, 1, 1);
    }
    if (const auto matmul = r.get<op::MatMul>(layer)) {
        const std::size_t last = r.shape(layer).rank() - 1;
        return scaled(r, *matmul, &op::MatMul::b, op, factor, last, last);
    }
    return std::nullopt;
}

}  // namespace

std::optional<Value> affine_into_weights(Rewriter& r, Value v) {
    if (!r.session.late) return std::nullopt;
    const auto scale = affine_of(r, v);
    if (!scale || is_additive(scale->op)) return std::nullopt;
    if (const auto layer = scaled_layer(r, scale->x, scale->op, scale->constant)) return layer;
    // (layer + bias) * scale: both are scaled.
    const auto shift = affine_of(r, scale->x);
    if (!shift || !is_additive(shift->op) || !r.single_use(scale->x)) return std::nullopt;
    const auto bias = combined(r, scale->op, shift->constant, scale->constant);
    if (!bias) return std::nullopt;
    const auto layer = scaled_layer(r, shift->x, scale->op, scale->constant);
    return layer ? std::optional<Value>(binary(shift->op, r.var(*layer), *bias)) : std::nullopt;
}

}  // namespace kn::optimizer
