#include <cmath>

#include "builder/common.h"

namespace kn {

using builder::add;

Var unary(UnaryOp op, Var x) { return add(x, op::Unary{op, x}); }

Var binary(BinaryOp op, Var a, Var b) {
    builder::check_same_graph(a, b);
    const Shape shape = broadcast_shapes(*a.graph, a.shape(), b.shape());
    return add(a, op::Binary{op, broadcast_to(a, shape), broadcast_to(b, shape)});
}

Var select(Var condition, Var a, Var b) {
    builder::check_same_graph(condition, a);
    builder::check_same_graph(a, b);
    Graph& graph = *a.graph;
    const Shape shape =
        broadcast_shapes(graph, broadcast_shapes(graph, a.shape(), b.shape()), condition.shape());
    return add(a, op::Select{broadcast_to(condition, shape), broadcast_to(a, shape),
                             broadcast_to(b, shape)});
}

Var cast(Var x, DType dtype) { return x.dtype() == dtype ? x : add(x, op::Cast{x, dtype}); }
Var bit_cast(Var x, DType dtype) { return x.dtype() == dtype ? x : add(x, op::BitCast{x, dtype}); }

Var operator+(Var a, Var b) { return binary(BinaryOp::Add, a, b); }
Var operator-(Var a, Var b) { return binary(BinaryOp::Sub, a, b); }
Var operator*(Var a, Var b) { return binary(BinaryOp::Mul, a, b); }
Var operator/(Var a, Var b) { return binary(BinaryOp::Div, a, b); }
Var operator-(Var a) { return unary(UnaryOp::Neg, a); }
Var operator+(Var a, double b) { return a + scalar_like(a, b); }
Var operator-(Var a, double b) { return a - scalar_like(a, b); }
Var operator*(Var a, double b) { return a * scalar_like(a, b); }
Var operator/(Var a, double b) { return a / scalar_like(a, b); }
Var operator+(double a, Var b) { return scalar_like(b, a) + b; }
Var operator-(double a, Var b) { return scalar_like(b, a) - b; }
Var operator*(double a, Var b) { return scalar_like(b, a) * b; }
Var operator/(double a, Var b) { return scalar_like(b, a) / b; }

Var equal(Var a, Var b) { return binary(BinaryOp::Equal, a, b); }
Var not_equal(Var a, Var b) { return logical_not(equal(a, b)); }
Var less(Var a, Var b) { return binary(BinaryOp::Less, a, b); }
Var less_equal(Var a, Var b) { return binary(BinaryOp::LessEqual, a, b); }
Var greater(Var a, Var b) { return less(b, a); }
Var greater_equal(Var a, Var b) { return less_equal(b, a); }
Var logical_and(Var a, Var b) { return binary(BinaryOp::And, a, b); }
Var logical_or(Var a, Var b) { return binary(BinaryOp::Or, a, b); }
Var logical_not(Var a) { return unary(UnaryOp::Not, a); }
Var minimum(Var a, Var b) { return binary(BinaryOp::Min, a, b); }
Var maximum(Var a, Var b) { return binary(BinaryOp::Max, a, b); }
Var pow(Var a, Var b) { return binary(BinaryOp::Pow, a, b); }

Var relu(Var x) { return maximum(x, scalar_like(x, 0)); }

Var clamp(Var x, double low, double high) {
    if (low != -INFINITY) x = maximum(x, scalar_like(x, low));
    if (high != INFINITY) x = minimum(x, scalar_like(x, high));
    return x;
}

Var leaky_relu(Var x, double slope) { return select(less(x, scalar_like(x, 0)), x * slope, x); }

Var elu(Var x, double alpha) {
    return select(less(scalar_like(x, 0), x), x, unary(UnaryOp::Expm1, x) * alpha);
}

Var hard_sigmoid(Var x, double alpha, double beta) { return clamp(x * alpha + beta, 0, 1); }

Var exp(Var x) { return unary(UnaryOp::Exp, x); }
Var log(Var x) { return unary(UnaryOp::Log, x); }
Var sqrt(Var x) { return unary(UnaryOp::Sqrt, x); }
Var abs(Var x) { return unary(UnaryOp::Abs, x); }
Var sin(Var x) { return unary(UnaryOp::Sin, x); }
Var cos(Var x) { return unary(UnaryOp::Cos, x); }
Var tanh(Var x) { return unary(UnaryOp::Tanh, x); }
Var sigmoid(Var x) { return unary(UnaryOp::Sigmoid, x); }
Var silu(Var x) { return unary(UnaryOp::Silu, x); }
Var gelu(Var x) { return unary(UnaryOp::Gelu, x); }
Var gelu_tanh(Var x) { return unary(UnaryOp::GeluTanh, x); }
Var square(Var x) { return unary(UnaryOp::Square, x); }

}  // namespace kn
