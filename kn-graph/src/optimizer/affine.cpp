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
    if (!commutes && binary->op != BinaryOp::Sub && binary->op != BinaryOp::Div) return std::nullopt;
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

/// The factor as a shape that only the output channels of `layer` vary; nothing if others do.
std::optional<Var> per_channel(Rewriter& r, Value factor, std::size_t channel_axis, const Shape& target) {
    const Shape shape = r.shape(factor);
    for (std::size_t axis = 0; axis < shape.rank(); ++axis)
        if (axis != channel_axis && !(shape[axis] == 1)) return std::nullopt;
    const Dim channels = shape[channel_axis];
    Shape wanted = target;
    for (std::size_t axis = 0; axis < wanted.rank(); ++axis)
        if (!(wanted[axis] == -1))
            wanted[axis] = 1;
        else
            wanted[axis] = channels;
    return reshape(r.var(factor), wanted);
}

std::optional<Value> scaled_weights(Rewriter& r, BinaryOp op, Value weights, Var factor) {
    const Value scaled = r.folded(binary(op, r.var(weights), factor));
    return r.is<op::Constant>(scaled) ? std::optional(scaled) : std::nullopt;
}

/// The layer with its weights multiplied (divided) by a factor per output channel.
std::optional<Value> scaled_layer(Rewriter& r, Value layer, BinaryOp op, Value factor) {
    if (!r.single_use(layer)) return std::nullopt;
    if (auto conv = r.get<op::Conv>(layer)) {
        // w [M, C/groups, kernel...]
        Shape target = keep_shape(r.shape(conv->w), {});
        for (std::size_t axis = 0; axis < target.rank(); ++axis) target[axis] = axis == 0 ? -1 : 1;
        const auto c = per_channel(r, factor, 1, target);
        const auto w = c ? scaled_weights(r, op, conv->w, *c) : std::nullopt;
        if (!w) return std::nullopt;
        conv->w = *w;
        return r.graph.add(*conv);
    }
    if (auto conv = r.get<op::ConvTranspose>(layer)) {
        // w [C, M/groups, kernel...]
        const Shape w_shape = r.shape(conv->w);
        if (conv->groups != 1 && !(r.shape(factor).size() == 1)) return std::nullopt;
        Shape target = w_shape;
        for (std::size_t axis = 0; axis < target.rank(); ++axis) target[axis] = axis == 1 ? -1 : 1;
        const auto c = per_channel(r, factor, 1, target);
        const auto w = c ? scaled_weights(r, op, conv->w, *c) : std::nullopt;
        if (!w) return std::nullopt;
        conv->w = *w;
        return r.graph.add(*conv);
    }
    if (auto matmul = r.get<op::MatMul>(layer)) {
        const std::size_t rank = r.shape(matmul->b).rank();
        Shape target = r.shape(matmul->b);
        for (std::size_t axis = 0; axis < rank; ++axis) target[axis] = axis + 1 == rank ? -1 : 1;
        const auto c = per_channel(r, factor, rank - 1, target);
        const auto b = c ? scaled_weights(r, op, matmul->b, *c) : std::nullopt;
        if (!b) return std::nullopt;
        matmul->b = *b;
        return r.graph.add(*matmul);
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
