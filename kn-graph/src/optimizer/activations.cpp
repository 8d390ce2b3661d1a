// Activation functions written out.
#include "optimizer/rules.h"

namespace kn::optimizer {

namespace {

/// exp(x) + 1: x.
std::optional<Value> one_plus_exp(Rewriter& r, Value v) {
    const auto sum = r.with_number(v, BinaryOp::Add);
    return sum && sum->number == 1 ? r.unary(sum->x, UnaryOp::Exp) : std::nullopt;
}

/// exp(-x) + 1: x.
std::optional<Value> one_plus_exp_minus(Rewriter& r, Value v) {
    const auto x = one_plus_exp(r, v);
    return x ? r.unary(*x, UnaryOp::Neg) : std::nullopt;
}

/// f(x) for one operand of a product, the other being `x`: whether it holds.
template <class F>
std::optional<Value> self_product(Rewriter& r, Value v, F&& inner) {
    const auto ab = r.binary(v, BinaryOp::Mul);
    if (!ab) return std::nullopt;
    for (const auto& [x, f] : {*ab, std::pair(ab->second, ab->first)})
        if (inner(f) == std::optional(x)) return x;
    return std::nullopt;
}

}  // namespace

std::optional<Value> sigmoid_family(Rewriter& r, Value v) {
    if (const auto y = r.unary(v, UnaryOp::Reciprocal))
        if (const auto x = one_plus_exp_minus(r, *y)) return sigmoid(r.var(*x));
    if (const auto y = r.binary(v, BinaryOp::Div)) {
        const auto x = one_plus_exp_minus(r, y->second);
        if (x && r.is_uniform(y->first, 1)) return sigmoid(r.var(*x));
        if (x && *x == y->first) return silu(r.var(*x));
    }
    if (const auto y = r.unary(v, UnaryOp::Log))
        if (const auto x = one_plus_exp(r, *y)) return unary(UnaryOp::Softplus, r.var(*x));
    if (const auto y = r.unary(v, UnaryOp::Log1p))
        if (const auto x = r.unary(*y, UnaryOp::Exp)) return unary(UnaryOp::Softplus, r.var(*x));
    const auto of_sigmoid = [&](Value f) { return r.unary(f, UnaryOp::Sigmoid); };
    if (const auto x = self_product(r, v, of_sigmoid)) return silu(r.var(*x));
    const auto of_tanh_softplus = [&](Value f) {
        const auto y = r.unary(f, UnaryOp::Tanh);
        return y ? r.unary(*y, UnaryOp::Softplus) : std::nullopt;
    };
    if (const auto x = self_product(r, v, of_tanh_softplus)) return unary(UnaryOp::Mish, r.var(*x));
    return std::nullopt;
}

namespace {

constexpr double sqrt_half = 0.70710678118654752440;
constexpr double sqrt_2_over_pi = 0.79788456080286535588;
constexpr double cubic = 0.044715;

/// erf(x / sqrt 2) + 1
bool is_erf_part(Rewriter& r, Value v, Value x) {
    const auto sum = r.with_number(v, BinaryOp::Add);
    if (!sum || sum->number != 1) return false;
    const auto argument = r.unary(sum->x, UnaryOp::Erf);
    if (!argument) return false;
    const Product p = product_of(r, *argument);
    return p.factors == std::vector{x} && is_close(p.number, sqrt_half, r.dtype(x));
}

/// 0.044715 times `power` factors of x
bool is_cubic_term(Rewriter& r, Value v, Value x, std::size_t power) {
    const Product p = product_of(r, v);
    return p.factors == std::vector<Value>(power, x) && is_close(p.number, cubic, r.dtype(x));
}

/// x + 0.044715 x^3
bool is_cubic(Rewriter& r, Value v, Value x) {
    const auto sum = r.binary(v, BinaryOp::Add);
    if (!sum) return false;
    return (sum->first == x && is_cubic_term(r, sum->second, x, 3)) ||
           (sum->second == x && is_cubic_term(r, sum->first, x, 3));
}

/// tanh(sqrt(2/pi) (x + 0.044715 x^3)) + 1
bool is_tanh_part(Rewriter& r, Value v, Value x) {
    const auto sum = r.with_number(v, BinaryOp::Add);
    if (!sum || sum->number != 1) return false;
    const auto argument = r.unary(sum->x, UnaryOp::Tanh);
    if (!argument) return false;
    const Product p = product_of(r, *argument);
    if (!is_close(p.number, sqrt_2_over_pi, r.dtype(x))) return false;
    if (p.factors.size() == 1) return is_cubic(r, p.factors[0], x);
    // x (1 + 0.044715 x^2)
    if (p.factors.size() != 2) return false;
    for (std::size_t i = 0; i < 2; ++i) {
        const auto inner = r.with_number(p.factors[1 - i], BinaryOp::Add);
        if (p.factors[i] == x && inner && inner->number == 1 && is_cubic_term(r, inner->x, x, 2))
            return true;
    }
    return false;
}

}  // namespace

std::optional<Value> gelu_forms(Rewriter& r, Value v) {
    if (!r.is<op::Binary>(v) || !is_float(r.dtype(v))) return std::nullopt;
    const Product p = product_of(r, v);
    if (p.factors.size() != 2 || p.number != 0.5) return std::nullopt;
    for (std::size_t i = 0; i < 2; ++i) {
        const Value x = p.factors[i];
        const Value part = p.factors[1 - i];
        if (is_erf_part(r, part, x)) return gelu(r.var(x));
        if (is_tanh_part(r, part, x)) return gelu_tanh(r.var(x));
    }
    return std::nullopt;
}

}  // namespace kn::optimizer
