// Elementwise operations as table rows: name, allowed dtypes, result, one C expression.
//
// The CPU compiles the expression as C++; the CUDA kernels paste its text. `x` (and `a`, `b`) have
// the *compute type*: the element type, but float for f16 and bf16, and the result is rounded back.
// Helpers beyond <cmath> (kn_sigmoid, ...) exist on both sides. The expression is the definition:
// NaN and infinities flow as it says.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include <kn/graph/dtype.h>

namespace kn {

/// Which dtypes a row accepts.
enum class Accepts : std::uint8_t { Float, Signed, Numeric, Int, Bool, BoolInt, Any };
/// The result's dtype: the operands' or bool.
enum class Gives : std::uint8_t { Same, Bool };

// clang-format off
// X(Name, "text", accepts, gives, expression in x)
// The approximation of Gelu is x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).
#define KN_UNARY_OPS(X) \
    X(Neg,        "neg",        Signed,  Same, kn_neg(x))        /* integers wrap */ \
    X(Abs,        "abs",        Numeric, Same, kn_abs(x))        \
    X(Sign,       "sign",       Numeric, Same, kn_sign(x))       /* -1, 0, 1; NaN stays */ \
    X(Not,        "not",        Bool,    Same, !x)               \
    X(BitNot,     "bit_not",    Int,     Same, ~x)               \
    X(Floor,      "floor",      Float,   Same, floor(x))         \
    X(Ceil,       "ceil",       Float,   Same, ceil(x))          \
    X(Round,      "round",      Float,   Same, rint(x))          /* halves to even */ \
    X(Trunc,      "trunc",      Float,   Same, trunc(x))         \
    X(Sqrt,       "sqrt",       Float,   Same, sqrt(x))          \
    X(Rsqrt,      "rsqrt",      Float,   Same, kn_rsqrt(x))      \
    X(Reciprocal, "reciprocal", Float,   Same, kn_reciprocal(x)) \
    X(Square,     "square",     Numeric, Same, kn_mul(x, x))     \
    X(Exp,        "exp",        Float,   Same, exp(x))           \
    X(Expm1,      "expm1",      Float,   Same, expm1(x))         \
    X(Log,        "log",        Float,   Same, log(x))           \
    X(Log1p,      "log1p",      Float,   Same, log1p(x))         \
    X(Sin,        "sin",        Float,   Same, sin(x))           \
    X(Cos,        "cos",        Float,   Same, cos(x))           \
    X(Tan,        "tan",        Float,   Same, tan(x))           \
    X(Asin,       "asin",       Float,   Same, asin(x))          \
    X(Acos,       "acos",       Float,   Same, acos(x))          \
    X(Atan,       "atan",       Float,   Same, atan(x))          \
    X(Sinh,       "sinh",       Float,   Same, sinh(x))          \
    X(Cosh,       "cosh",       Float,   Same, cosh(x))          \
    X(Tanh,       "tanh",       Float,   Same, tanh(x))          \
    X(Asinh,      "asinh",      Float,   Same, asinh(x))         \
    X(Acosh,      "acosh",      Float,   Same, acosh(x))         \
    X(Atanh,      "atanh",      Float,   Same, atanh(x))         \
    X(Erf,        "erf",        Float,   Same, erf(x))           \
    X(Sigmoid,    "sigmoid",    Float,   Same, kn_sigmoid(x))    /* 1 / (1 + exp(-x)) */ \
    X(Silu,       "silu",       Float,   Same, kn_silu(x))       /* x * sigmoid(x) */ \
    X(Softplus,   "softplus",   Float,   Same, kn_softplus(x))   /* log(1 + exp(x)), finite */ \
    X(Softsign,   "softsign",   Float,   Same, kn_softsign(x))   /* x / (1 + |x|) */ \
    X(Mish,       "mish",       Float,   Same, kn_mish(x))       /* x * tanh(softplus(x)) */ \
    X(Gelu,       "gelu",       Float,   Same, kn_gelu(x))       /* x/2 (1 + erf(x / sqrt 2)) */ \
    X(GeluTanh,   "gelu_tanh",  Float,   Same, kn_gelu_tanh(x))  /* approximates Gelu */ \
    X(IsNan,      "is_nan",     Float,   Bool, x != x)           \
    X(IsInf,      "is_inf",     Float,   Bool, kn_is_inf(x))

// X(Name, "text", accepts, gives, expression in a and b)
#define KN_BINARY_OPS(X) \
    X(Add,        "add",         Numeric, Same, kn_add(a, b))     /* integers wrap */ \
    X(Sub,        "sub",         Numeric, Same, kn_sub(a, b))     \
    X(Mul,        "mul",         Numeric, Same, kn_mul(a, b))     \
    X(Div,        "div",         Numeric, Same, kn_div(a, b))     /* integers: to 0; by 0: 0 */ \
    X(Mod,        "mod",         Numeric, Same, kn_mod(a, b))     /* sign of b; by 0: 0, NaN */ \
    X(Fmod,       "fmod",        Numeric, Same, kn_fmod(a, b))    /* sign of a; by 0: 0, NaN */ \
    X(Pow,        "pow",         Numeric, Same, kn_pow(a, b))     \
    X(Min,        "min",         Numeric, Same, kn_min(a, b))     /* NaN if either is */ \
    X(Max,        "max",         Numeric, Same, kn_max(a, b))     /* NaN if either is */ \
    X(Atan2,      "atan2",       Float,   Same, atan2(a, b))      \
    X(And,        "and",         Bool,    Same, a && b)           \
    X(Or,         "or",          Bool,    Same, a || b)           \
    X(Xor,        "xor",         Bool,    Same, a != b)           \
    X(BitAnd,     "bit_and",     Int,     Same, a & b)            \
    X(BitOr,      "bit_or",      Int,     Same, a | b)            \
    X(BitXor,     "bit_xor",     Int,     Same, a ^ b)            \
    X(ShiftLeft,  "shift_left",  Int,     Same, kn_shl(a, b))     /* by the width or more: 0 */ \
    X(ShiftRight, "shift_right", Int,     Same, kn_shr(a, b))     /* signed: arithmetic */ \
    X(Equal,      "equal",       Any,     Bool, a == b)           \
    X(Less,       "less",        Numeric, Bool, a < b)            \
    X(LessEqual,  "less_equal",  Numeric, Bool, a <= b)
// clang-format on

enum class UnaryOp : std::uint8_t {
#define X(name, ...) name,
    KN_UNARY_OPS(X)
#undef X
};
enum class BinaryOp : std::uint8_t {
#define X(name, ...) name,
    KN_BINARY_OPS(X)
#undef X
};

/// A row as data; `expression` is the C text.
struct ScalarRow {
    std::string_view name;
    std::string_view text;
    Accepts accepts;
    Gives gives;
    std::string_view expression;
};
KN_API const ScalarRow& row_of(UnaryOp op);
KN_API const ScalarRow& row_of(BinaryOp op);
KN_API bool accepts(Accepts accepted, DType dtype);

}  // namespace kn
