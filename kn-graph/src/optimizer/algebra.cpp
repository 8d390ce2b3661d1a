// Elementwise identities.
#include <cmath>
#include <limits>

#include "optimizer/rules.h"

namespace kn::optimizer {

namespace {

/// Sums of many terms: the sign of a zero in their results means nothing.
bool is_sum(const Rewriter& r, Value v) {
    while (true) {
        if (const auto* reshape = r.graph.get_if<op::Reshape>(v))
            v = reshape->x;
        else if (const auto* permute = r.graph.get_if<op::Permute>(v))
            v = permute->x;
        else
            break;
    }
    return r.is<op::MatMul>(v) || r.is<op::Conv>(v) || r.is<op::ConvTranspose>(v) ||
           r.is<op::Norm>(v);
}

std::optional<Value> neutral_number(Rewriter& r, const op::Binary& op, Value v) {
    if (const auto w = r.with_number(v, op.op)) {
        switch (op.op) {
            case BinaryOp::Mul:
            case BinaryOp::Div:
            case BinaryOp::Pow:
                if (w->number == 1) return w->x;
                break;
            case BinaryOp::Sub:
                // -0 - 0 is -0, so that this one is exact; x + 0 is not for x = -0, but x + -0 is.
                if (w->number == 0 && !std::signbit(w->number)) return w->x;
                break;
            case BinaryOp::Add:
                if (w->number == 0 &&
                    (!is_float(r.dtype(v)) || std::signbit(w->number) || is_sum(r, w->x)))
                    return w->x;
                break;
            case BinaryOp::Max:
                if (is_float(r.dtype(v)) && w->number == -std::numeric_limits<double>::infinity())
                    return w->x;
                break;
            case BinaryOp::Min:
                if (is_float(r.dtype(v)) && w->number == std::numeric_limits<double>::infinity())
                    return w->x;
                break;
            default: break;
        }
    }
    return std::nullopt;
}

std::optional<Value> neutral_bool(Rewriter& r, const op::Binary& op) {
    for (const auto& [x, other] : {std::pair(op.a, op.b), std::pair(op.b, op.a)}) {
        const auto c = r.uniform(other);
        if (!c) continue;
        const bool truth = *c != 0;
        if (op.op == BinaryOp::And) return truth ? x : other;
        if (op.op == BinaryOp::Or) return truth ? other : x;
        if (op.op == BinaryOp::Xor && !truth) return x;
    }
    if (op.a == op.b && (op.op == BinaryOp::And || op.op == BinaryOp::Or)) return op.a;
    return std::nullopt;
}

}  // namespace

std::optional<Value> neutral_elements(Rewriter& r, Value v) {
    if (const auto unary = r.get<op::Unary>(v)) {
        const bool undoes_itself =
            unary->op == UnaryOp::Neg || unary->op == UnaryOp::Not || unary->op == UnaryOp::BitNot;
        return undoes_itself ? r.unary(unary->x, unary->op) : std::nullopt;
    }
    if (const auto select = r.get<op::Select>(v)) {
        if (select->a == select->b) return select->a;
        if (const auto c = r.uniform(select->condition)) return *c != 0 ? select->a : select->b;
        if (const auto negated = r.unary(select->condition, UnaryOp::Not))
            return r.graph.add(op::Select{*negated, select->b, select->a});
        return std::nullopt;
    }
    const auto binary = r.get<op::Binary>(v);
    if (!binary) return std::nullopt;
    if (binary->op == BinaryOp::And || binary->op == BinaryOp::Or || binary->op == BinaryOp::Xor)
        return neutral_bool(r, *binary);
    if (binary->a == binary->b && (binary->op == BinaryOp::Min || binary->op == BinaryOp::Max))
        return binary->a;
    return neutral_number(r, *binary, v);
}

namespace {

std::optional<Value> cheaper_power(Rewriter& r, Value v) {
    const auto pow = r.with_number(v, BinaryOp::Pow);
    if (!pow) return std::nullopt;
    const Var x = r.var(pow->x);
    if (pow->number == 2) return square(x);
    if (pow->number == 3) return x * square(x);
    if (!is_float(x.dtype())) return std::nullopt;
    if (pow->number == 0.5) return sqrt(x);
    if (pow->number == -0.5) return unary(UnaryOp::Rsqrt, x);
    if (pow->number == -1) return unary(UnaryOp::Reciprocal, x);
    return std::nullopt;
}

/// A power of two whose reciprocal is a normal number, even in a half type.
bool is_power_of_two(double x) {
    int exponent = 0;
    return std::abs(std::frexp(x, &exponent)) == 0.5 && std::abs(exponent) <= 14;
}

std::optional<Value> cheaper_division(Rewriter& r, Value v) {
    const auto operands = r.binary(v, BinaryOp::Div);
    if (!operands || !is_float(r.dtype(v))) return std::nullopt;
    const auto [a, b] = *operands;
    if (const auto c = r.uniform(b); c && is_power_of_two(*c)) return r.var(a) * (1 / *c);
    if (r.is_uniform(a, 1)) return unary(UnaryOp::Reciprocal, r.var(b));
    return std::nullopt;
}

std::optional<Value> cheaper_unary(Rewriter& r, Value v) {
    if (const auto x = r.unary(v, UnaryOp::Reciprocal)) {
        if (const auto y = r.unary(*x, UnaryOp::Sqrt)) return unary(UnaryOp::Rsqrt, r.var(*y));
        if (const auto y = r.unary(*x, UnaryOp::Exp)) return exp(-r.var(*y));
    }
    if (const auto x = r.unary(v, UnaryOp::Sqrt))
        if (const auto y = r.unary(*x, UnaryOp::Reciprocal))
            return unary(UnaryOp::Rsqrt, r.var(*y));
    return std::nullopt;
}

}  // namespace

std::optional<Value> strength_reduction(Rewriter& r, Value v) {
    if (r.is<op::Unary>(v)) return cheaper_unary(r, v);
    const auto binary = r.get<op::Binary>(v);
    if (!binary) return std::nullopt;
    const Var a = r.var(binary->a);
    const Var b = r.var(binary->b);
    switch (binary->op) {
        case BinaryOp::Pow: return cheaper_power(r, v);
        case BinaryOp::Div: return cheaper_division(r, v);
        case BinaryOp::Mul: {
            if (binary->a == binary->b) return square(a);
            if (r.is_uniform(b, -1) && accepts(Accepts::Signed, a.dtype())) return -a;
            if (r.is_uniform(a, -1) && accepts(Accepts::Signed, b.dtype())) return -b;
            if (const auto y = r.unary(b, UnaryOp::Reciprocal)) return a / r.var(*y);
            if (const auto y = r.unary(a, UnaryOp::Reciprocal)) return b / r.var(*y);
            return std::nullopt;
        }
        case BinaryOp::Add: {
            if (const auto y = r.unary(b, UnaryOp::Neg)) return a - r.var(*y);
            if (const auto y = r.unary(a, UnaryOp::Neg)) return b - r.var(*y);
            return std::nullopt;
        }
        case BinaryOp::Sub: {
            if (const auto y = r.unary(b, UnaryOp::Neg)) return a + r.var(*y);
            return std::nullopt;
        }
        default: return std::nullopt;
    }
}

namespace {

/// Bounds of min(max(x, low), high) in whatever order it is written.
struct Clamp {
    Value x;
    double low = -std::numeric_limits<double>::infinity();
    double high = std::numeric_limits<double>::infinity();
    int links = 0;
};

Clamp clamp_of(Rewriter& r, Value v) {
    Clamp clamp{v};
    while (true) {
        // What comes earlier is bounded by what was found so far.
        const auto inside = [&](double c) { return std::min(std::max(c, clamp.low), clamp.high); };
        if (const auto max = r.with_number(clamp.x, BinaryOp::Max);
            max && !std::isnan(max->number)) {
            clamp.low = inside(max->number);
            clamp.x = max->x;
        } else if (const auto min = r.with_number(clamp.x, BinaryOp::Min);
                   min && !std::isnan(min->number)) {
            clamp.high = inside(min->number);
            clamp.x = min->x;
        } else {
            return clamp;
        }
        ++clamp.links;
    }
}

}  // namespace

std::optional<Value> clamp_fusion(Rewriter& r, Value v) {
    const auto binary = r.get<op::Binary>(v);
    if (!binary || (binary->op != BinaryOp::Min && binary->op != BinaryOp::Max))
        return std::nullopt;
    if (!is_float(r.dtype(v))) return std::nullopt;
    const Clamp clamp = clamp_of(r, v);
    const int needed = std::isfinite(clamp.low) + std::isfinite(clamp.high);
    const bool in_order = binary->op == BinaryOp::Min || needed < 2;
    if (clamp.links <= needed && in_order) return std::nullopt;
    return kn::clamp(r.var(clamp.x), clamp.low, clamp.high);
}

}  // namespace kn::optimizer
