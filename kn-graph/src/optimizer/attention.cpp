// Attention written out: MatMul, scale, mask, Softmax, MatMul.
#include <cmath>
#include <limits>

#include "optimizer/rules.h"

namespace kn::optimizer {

namespace {

/// What lies between the product of q and k and its softmax.
struct Scores {
    Value q;
    Value k_transposed;
    double scale = 1;
    std::optional<Var>
        mask;  ///< added, of q's dtype or bool (false: excluded); each dim 1 or the scores'
};

/// A mask as small as it is known: axes that it was broadcast along are 1 again.
Var small_mask(Rewriter& r, Value mask) {
    const auto* broadcast = r.graph.get_if<op::Broadcast>(mask);
    return r.var(broadcast ? broadcast->x : mask);
}

/// Adding a number this low to a score gives the number itself, so that a score may be replaced by
/// adding.
bool swallows_scores(double number, DType dtype) {
    return std::isinf(number) ? number < 0 : dtype == DType::F32 && number < -1e30;
}

class ScoresMatcher {
  public:
    explicit ScoresMatcher(Rewriter& r) : r_(r) {}

    std::optional<Scores> match(Value v) {
        double factor = 1;  // of everything below
        while (true) {
            if (const auto product = r_.get<op::MatMul>(v)) {
                scores_.q = product->a;
                scores_.k_transposed = product->b;
                scores_.scale = factor;
                return finish();
            }
            if (const auto mul = r_.with_number(v, BinaryOp::Mul)) {
                factor *= mul->number;
                v = mul->x;
            } else if (const auto div = r_.with_number(v, BinaryOp::Div)) {
                factor /= div->number;
                v = div->x;
            } else if (const auto narrow = below_cast(v)) {
                v = *narrow;
            } else if (const auto sum = r_.binary(v, BinaryOp::Add)) {
                const bool first = leads_to_product(sum->first);
                if (!first && !leads_to_product(sum->second)) return std::nullopt;
                const Var mask = small_mask(r_, first ? sum->second : sum->first);
                if (!add_mask(factor == 1 ? mask : mask * factor)) return std::nullopt;
                v = first ? sum->first : sum->second;
            } else if (const auto select = r_.get<op::Select>(v)) {
                const auto next = below_select(*select);
                if (!next) return std::nullopt;
                v = *next;
            } else {
                return std::nullopt;
            }
        }
    }

  private:
    /// Scores may be widened before the softmax: Attention works in f32 anyway.
    std::optional<Value> below_cast(Value v) const {
        const auto cast = r_.get<op::Cast>(v);
        const bool widens = cast && cast->dtype == DType::F32 && is_half(r_.dtype(cast->x));
        return widens ? std::optional(cast->x) : std::nullopt;
    }

    bool leads_to_product(Value v, int depth = 8) const {
        if (const auto* product = r_.graph.get_if<op::MatMul>(v)) {
            return r_.shape(product->a).rank() >= 3;
        }
        if (depth == 0) return false;
        const auto below = [&](Value next) { return leads_to_product(next, depth - 1); };
        if (const auto narrow = below_cast(v)) return below(*narrow);
        if (const auto mul = r_.with_number(v, BinaryOp::Mul)) return below(mul->x);
        if (const auto div = r_.with_number(v, BinaryOp::Div)) return below(div->x);
        if (const auto sum = r_.binary(v, BinaryOp::Add)) {
            return below(sum->first) || below(sum->second);
        }
        const auto select = r_.get<op::Select>(v);
        return select && below(r_.uniform(select->a) ? select->b : select->a);
    }

    bool add_mask(Var mask) {
        if (!scores_.mask) {
            scores_.mask = mask;
            return true;
        }
        if (scores_.mask->dtype() != mask.dtype()) return false;
        scores_.mask =
            mask.dtype() == DType::Bool ? logical_and(*scores_.mask, mask) : *scores_.mask + mask;
        return true;
    }

    /// select(c, scores, -inf) and select(c, -inf, scores), or another number that no score matters
    /// beside.
    std::optional<Value> below_select(const op::Select& select) {
        const bool keep = !r_.uniform(select.a);
        const Value inner = keep ? select.a : select.b;
        const auto fill = r_.uniform(keep ? select.b : select.a);
        // A mask found so far would be added to the fill too.
        if (!fill || !swallows_scores(*fill, r_.dtype(inner)) || scores_.mask) return std::nullopt;
        Var condition = small_mask(r_, select.condition);
        if (!keep) condition = logical_not(condition);
        if (std::isinf(*fill)) return add_mask(condition) ? std::optional(inner) : std::nullopt;
        const Var added = kn::select(condition, scalar(r_.graph, r_.dtype(inner), 0),
                                     scalar(r_.graph, r_.dtype(inner), *fill));
        return add_mask(added) ? std::optional(inner) : std::nullopt;
    }

    std::optional<Scores> finish() const {
        const DType dtype = r_.dtype(scores_.q);
        if (scores_.mask && scores_.mask->dtype() != DType::Bool && scores_.mask->dtype() != dtype)
            return std::nullopt;
        return scores_;
    }

    Rewriter& r_;
    Scores scores_;
};

/// Whether no element can be infinite or NaN: a choice between finite numbers, seen through views.
bool is_finite(Rewriter& r, Value v, int depth = 8) {
    if (depth == 0) return false;
    if (const auto c = r.uniform(v)) return std::isfinite(*c);
    if (r.dtype(v) == DType::Bool) return false;
    const Node& node = r.graph[v];
    if (const auto* select = std::get_if<op::Select>(&node.operation)) {
        const op::Select copy = *select;
        return is_finite(r, copy.a, depth - 1) && is_finite(r, copy.b, depth - 1);
    }
    if (const auto* broadcast = std::get_if<op::Broadcast>(&node.operation))
        return is_finite(r, broadcast->x, depth - 1);
    if (const auto* reshape = std::get_if<op::Reshape>(&node.operation))
        return is_finite(r, reshape->x, depth - 1);
    if (const auto* slice = std::get_if<op::Slice>(&node.operation))
        return is_finite(r, slice->x, depth - 1);
    if (const auto* permute = std::get_if<op::Permute>(&node.operation))
        return is_finite(r, permute->x, depth - 1);
    return false;
}

/// The softmax behind the weights of the second product; `guarded` if rows of NaN were replaced by
/// zeros.
struct Weights {
    Value scores;
    bool guarded = false;
};

std::optional<Weights> weights_of(Rewriter& r, Value v) {
    Weights weights{};
    if (const auto cast = r.get<op::Cast>(v);
        cast && is_half(cast->dtype) && r.dtype(cast->x) == DType::F32)
        v = cast->x;
    if (const auto select = r.get<op::Select>(v)) {
        const bool zero = r.is_uniform(select->a, 0);
        const auto checked = r.unary(select->condition, UnaryOp::IsNan);
        if (!zero || checked != std::optional(select->b)) return std::nullopt;
        weights.guarded = true;
        v = select->b;
    }
    const auto softmax = r.get<op::Softmax>(v);
    if (!softmax || softmax->log ||
        softmax->axis + 1 != static_cast<std::int64_t>(r.shape(v).rank()))
        return std::nullopt;
    weights.scores = softmax->x;
    return weights;
}

/// [N, S, D] as [N, 1, S, D].
Var to_four(Var x) { return x.rank() == 3 ? unsqueeze(x, {1}) : x; }

}  // namespace

std::optional<Value> attention(Rewriter& r, Value v) {
    const auto product = r.get<op::MatMul>(v);
    if (!product) return std::nullopt;
    // Scores that something else needs too would be computed twice.
    const auto weights = r.single_use(product->a) ? weights_of(r, product->a) : std::nullopt;
    if (!weights) return std::nullopt;
    const auto scores = ScoresMatcher(r).match(weights->scores);
    if (!scores) return std::nullopt;
    const Shape result = r.shape(v);
    const std::size_t rank = result.rank();
    if ((rank != 3 && rank != 4) || r.dtype(scores->q) != r.dtype(v) || !is_float(r.dtype(v)))
        return std::nullopt;
    const Var q = r.var(scores->q);
    const Var k = transpose(r.var(scores->k_transposed));
    std::optional<Var> mask = scores->mask;
    if (mask && rank == 3) mask = to_four(*mask);
    const bool can_be_nan = weights->guarded && mask && !is_finite(r, *mask);
    Var y = kn::attention(to_four(q), to_four(k), to_four(r.var(product->b)), mask, scores->scale);
    // Rows in which nothing is seen; where the mask is finite there are none.
    if (can_be_nan) y = select(unary(UnaryOp::IsNan, y), scalar_like(y, 0), y);
    return reshape(y, result);
}

namespace {

/// A numeric factor of a value, seen through views and taken out of it.
struct Factored {
    double factor = 1;
    Value rest;
};

std::optional<Factored> take_factor(Rewriter& r, Value v, int depth = 8) {
    if (depth == 0) return std::nullopt;
    if (const auto mul = r.with_number(v, BinaryOp::Mul)) return Factored{mul->number, mul->x};
    if (const auto div = r.with_number(v, BinaryOp::Div)) return Factored{1 / div->number, div->x};
    const Operation operation = r.graph[v].operation;
    const bool view = is_any_of<op::Reshape, op::Permute, op::Broadcast>(operation);
    if (!view) return std::nullopt;
    auto inner = take_factor(r, inputs_of(operation)[0], depth - 1);
    if (!inner) return std::nullopt;
    inner->rest = r.graph.add(map_inputs(operation, [&](Value) { return inner->rest; }));
    return inner;
}

}  // namespace

std::optional<Value> attention_scale(Rewriter& r, Value v) {
    auto attention = r.get<op::Attention>(v);
    if (!attention) return std::nullopt;
    bool found = false;
    for (Value* operand : {&attention->q, &attention->k}) {
        const auto factored = take_factor(r, *operand);
        if (!factored || !std::isfinite(factored->factor) || factored->factor == 0) continue;
        attention->scale *= factored->factor;
        *operand = factored->rest;
        found = true;
    }
    return found ? std::optional(r.graph.add(*attention)) : std::nullopt;
}

namespace {

/// x [B, G, T, D], if v is x with each head repeated `repeats` times in a row: one head broadcast
/// to all, or Reshape of Broadcast of [B, G, 1, T, D] to [B, G, repeats, T, D].
std::optional<Var> unrepeated(Rewriter& r, Value v, Dim& repeats) {
    const auto merge = r.get<op::Reshape>(v);
    const auto broadcast = r.get<op::Broadcast>(merge ? merge->x : v);
    if (!broadcast || broadcast->shape.rank() != (merge ? 5 : 4)) return std::nullopt;
    const Shape small = r.shape(broadcast->x);
    const Shape full = broadcast->shape;
    const std::size_t repeated = merge ? 2 : 1;
    for (std::size_t axis = 0; axis < full.rank(); ++axis)
        if (axis == repeated ? !(small[axis] == 1) || full[axis] == 1
                             : !(small[axis] == full[axis]))
            return std::nullopt;
    repeats = full[repeated];
    if (!merge) return r.var(broadcast->x);
    if (!(merge->shape == Shape{full[0], full[1] * full[2], full[3], full[4]})) return std::nullopt;
    return reshape(r.var(broadcast->x), {full[0], full[1], full[3], full[4]});
}

}  // namespace

std::optional<Value> attention_heads(Rewriter& r, Value v) {
    auto attention = r.get<op::Attention>(v);
    if (!attention) return std::nullopt;
    Dim k_repeats, v_repeats;
    const auto k = unrepeated(r, attention->k, k_repeats);
    const auto values = k ? unrepeated(r, attention->v, v_repeats) : std::nullopt;
    if (!values || !(k_repeats == v_repeats)) return std::nullopt;
    attention->k = *k;
    attention->v = *values;
    return r.graph.add(*attention);
}

}  // namespace kn::optimizer
