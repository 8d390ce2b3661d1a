// Normalisations and softmax written out.
#include "optimizer/rules.h"

namespace kn::optimizer {

namespace {

Value without_reshapes(const Rewriter& r, Value v) {
    while (const auto* reshape = r.graph.get_if<op::Reshape>(v)) v = reshape->x;
    return v;
}

/// v is a reduction of something of shape `full`, its axes kept, broadcast back to it.
std::optional<op::Reduce> kept_reduce(const Rewriter& r, Value v, ReduceOp op, const Shape& full) {
    const auto* broadcast = r.graph.get_if<op::Broadcast>(v);
    const Value small = broadcast ? broadcast->x : v;
    const auto reduce = r.get<op::Reduce>(without_reshapes(r, small));
    if (!reduce || reduce->op != op || !(r.shape(reduce->x) == full)) return std::nullopt;
    if (!(r.shape(small) == keep_shape(full, reduce->axes))) return std::nullopt;
    return reduce;
}

/// sqrt(mean(y^2) + epsilon), or one over it, with the reduced axes kept and broadcast back.
struct Deviation {
    Value y;
    Ints axes;
    double epsilon;
    bool inverse;
};

std::optional<Deviation> deviation_of(Rewriter& r, Value v, const Shape& full) {
    const auto* broadcast = r.graph.get_if<op::Broadcast>(v);
    const Value small = broadcast ? broadcast->x : v;
    const Value root = without_reshapes(r, small);
    std::optional<Value> inside = r.unary(root, UnaryOp::Sqrt);
    const bool inverse = !inside;
    if (!inside) inside = r.unary(root, UnaryOp::Rsqrt);
    if (!inside) return std::nullopt;
    double epsilon = 0;
    Value mean = without_reshapes(r, *inside);
    if (const auto sum = r.with_number(mean, BinaryOp::Add)) {
        epsilon = sum->number;
        mean = without_reshapes(r, sum->x);
    }
    const auto reduce = r.get<op::Reduce>(mean);
    if (!reduce || reduce->op != ReduceOp::Mean || !(r.shape(reduce->x) == full) || epsilon < 0)
        return std::nullopt;
    if (!(r.shape(small) == keep_shape(full, reduce->axes))) return std::nullopt;
    const Product squares = product_of(r, reduce->x);
    if (squares.number != 1 || squares.factors.size() != 2 ||
        !(squares.factors[0] == squares.factors[1]))
        return std::nullopt;
    return Deviation{squares.factors[0], reduce->axes, epsilon, inverse};
}

/// y / sqrt(mean(y^2) + epsilon) in any writing.
std::optional<Deviation> normalized(Rewriter& r, Value v) {
    const auto binary = r.get<op::Binary>(v);
    if (!binary || !is_float(r.dtype(v))) return std::nullopt;
    const Shape full = r.shape(v);
    const auto fits = [&](Value y, Value d, bool inverse) -> std::optional<Deviation> {
        const auto deviation = deviation_of(r, d, full);
        return deviation && deviation->inverse == inverse && deviation->y == y ? deviation
                                                                               : std::nullopt;
    };
    if (binary->op == BinaryOp::Div) return fits(binary->a, binary->b, false);
    if (binary->op != BinaryOp::Mul) return std::nullopt;
    const auto found = fits(binary->a, binary->b, true);
    return found ? found : fits(binary->b, binary->a, true);
}

}  // namespace

std::optional<Value> layer_norm(Rewriter& r, Value v) {
    const auto found = normalized(r, v);
    if (!found) return std::nullopt;
    const auto difference = r.binary(found->y, BinaryOp::Sub);
    if (!difference) return std::nullopt;
    const Value x = difference->first;
    const auto mean = kept_reduce(r, difference->second, ReduceOp::Mean, r.shape(x));
    if (!mean || !(mean->x == x) || mean->axes != found->axes) return std::nullopt;
    return normalize(NormKind::MeanVariance, r.var(x), found->axes, found->epsilon);
}

std::optional<Value> rms_norm(Rewriter& r, Value v) {
    const auto found = normalized(r, v);
    if (!found) return std::nullopt;
    return normalize(NormKind::MeanSquare, r.var(found->y), found->axes, found->epsilon);
}

namespace {

bool all_equal(Rewriter& r, Value v, double value) {
    const auto data = r.constant(v);
    constexpr std::int64_t max_elements = 4096;
    if (!data || data->tensor.size() > max_elements) return false;
    for (std::int64_t i = 0; i < data->tensor.size(); ++i)
        if (data->tensor.at(i) != value) return false;
    r.looked_at(data);
    return true;
}

}  // namespace

// Exporters write a group normalisation as an instance normalisation of [N, groups, rest] with
// trivial parameters. The same parameters elsewhere are weights that only happen to be so, and
// stay.
std::optional<Value> unit_scale(Rewriter& r, Value v) {
    const auto binary = r.get<op::Binary>(v);
    if (!binary || (binary->op != BinaryOp::Mul && binary->op != BinaryOp::Add))
        return std::nullopt;
    const auto norm = r.get<op::Norm>(binary->a);
    if (!norm || !r.is<op::Reshape>(norm->x) || norm->axes.empty() || norm->axes[0] != 2)
        return std::nullopt;
    const auto* broadcast = r.graph.get_if<op::Broadcast>(binary->b);
    const Value constant = broadcast ? broadcast->x : binary->b;
    if (!all_equal(r, constant, binary->op == BinaryOp::Mul ? 1 : 0)) return std::nullopt;
    return binary->a;
}

std::optional<Value> softmax_form(Rewriter& r, Value v) {
    const auto division = r.binary(v, BinaryOp::Div);
    if (!division) return std::nullopt;
    const Shape full = r.shape(v);
    const auto sum = kept_reduce(r, division->second, ReduceOp::Sum, full);
    if (!sum || !(sum->x == division->first) || sum->axes.size() != 1) return std::nullopt;
    const auto argument = r.unary(division->first, UnaryOp::Exp);
    if (!argument) return std::nullopt;
    const auto difference = r.binary(*argument, BinaryOp::Sub);
    if (!difference) return std::nullopt;
    const auto max = kept_reduce(r, difference->second, ReduceOp::Max, full);
    if (!max || !(max->x == difference->first) || max->axes != sum->axes) return std::nullopt;
    return softmax(r.var(difference->first), sum->axes[0]);
}

// Both operations work in f32 inside and round once, so that the casts say nothing new.
std::optional<Value> half_casts(Rewriter& r, Value v) {
    const auto outer = r.get<op::Cast>(v);
    if (!outer || !is_half(outer->dtype)) return std::nullopt;
    const auto source = [&](Value wide) -> std::optional<Value> {
        const auto inner = r.get<op::Cast>(wide);
        const bool fits = inner && inner->dtype == DType::F32 && r.dtype(inner->x) == outer->dtype;
        return fits ? std::optional(inner->x) : std::nullopt;
    };
    if (auto norm = r.get<op::Norm>(outer->x)) {
        const auto x = source(norm->x);
        if (!x) return std::nullopt;
        norm->x = *x;
        return r.graph.add(*norm);
    }
    if (auto softmax = r.get<op::Softmax>(outer->x)) {
        const auto x = source(softmax->x);
        if (!x) return std::nullopt;
        softmax->x = *x;
        return r.graph.add(*softmax);
    }
    return std::nullopt;
}

}  // namespace kn::optimizer
