// The helpers that the expressions of scalar_ops.h name, for every compute type.
#pragma once

#include <type_traits>

#include "cpu/vector_math.h"

namespace kn::cpu::scalar {

inline double exp(double x) { return std::exp(x); }
inline double expm1(double x) { return std::expm1(x); }
inline double log(double x) { return std::log(x); }
inline double log1p(double x) { return std::log1p(x); }
inline double tanh(double x) { return std::tanh(x); }
inline double erf(double x) { return std::erf(x); }
using std::acos, std::acosh, std::asin, std::asinh, std::atan, std::atan2, std::atanh, std::ceil,
    std::cos, std::cosh, std::floor, std::rint, std::sin, std::sinh, std::sqrt, std::tan,
    std::trunc;

/// Unsigned arithmetic of at least int's width: defined where T's own overflows.
template <class T>
using Wrapping = std::common_type_t<unsigned, std::make_unsigned_t<T>>;

template <class T>
inline constexpr bool is_real = std::is_floating_point_v<T>;

template <class T>
T kn_add(T a, T b) {
    if constexpr (is_real<T>)
        return a + b;
    else
        return static_cast<T>(static_cast<Wrapping<T>>(a) + static_cast<Wrapping<T>>(b));
}
template <class T>
T kn_sub(T a, T b) {
    if constexpr (is_real<T>)
        return a - b;
    else
        return static_cast<T>(static_cast<Wrapping<T>>(a) - static_cast<Wrapping<T>>(b));
}
template <class T>
T kn_mul(T a, T b) {
    if constexpr (is_real<T>)
        return a * b;
    else
        return static_cast<T>(static_cast<Wrapping<T>>(a) * static_cast<Wrapping<T>>(b));
}
template <class T>
T kn_neg(T x) {
    if constexpr (is_real<T>)
        return -x;
    else
        return kn_sub(T{0}, x);
}
template <class T>
T kn_abs(T x) {
    if constexpr (is_real<T>)
        return std::fabs(x);
    else if constexpr (std::is_unsigned_v<T>)
        return x;
    else
        return x < 0 ? kn_neg(x) : x;
}
template <class T>
T kn_sign(T x) {
    const T sign = x > T{0} ? T{1} : x < T{0} ? static_cast<T>(-1) : T{0};
    if constexpr (is_real<T>)
        return x != x ? x : sign;
    else
        return sign;
}
template <class T>
T kn_div(T a, T b) {
    if constexpr (is_real<T>) {
        return a / b;
    } else {
        if (b == 0) return T{0};
        if constexpr (std::is_signed_v<T>)
            if (b == T{-1}) return kn_neg(a);  // the lowest number has no positive counterpart
        return static_cast<T>(a / b);
    }
}
template <class T>
T kn_fmod(T a, T b) {
    if constexpr (is_real<T>) {
        return std::fmod(a, b);
    } else {
        if (b == 0) return T{0};
        if constexpr (std::is_signed_v<T>)
            if (b == T{-1}) return T{0};
        return static_cast<T>(a % b);
    }
}
template <class T>
T kn_mod(T a, T b) {
    const T r = kn_fmod(a, b);
    if constexpr (is_real<T>) {
        if (r == T{0}) return std::copysign(r, b);
        return (r < T{0}) != (b < T{0}) ? r + b : r;
    } else {
        return r != 0 && (r < 0) != (b < 0) ? static_cast<T>(r + b) : r;
    }
}
template <class T>
T kn_pow(T a, T b) {
    if constexpr (is_real<T>) {
        return std::pow(a, b);
    } else {
        if constexpr (std::is_signed_v<T>) {
            if (b < 0) {  // truncated towards zero
                if (a == T{1}) return T{1};
                if (a == T{-1}) return (b & 1) != 0 ? T{-1} : T{1};
                return T{0};
            }
        }
        T result{1};
        for (; b != 0; b = static_cast<T>(b >> 1), a = kn_mul(a, a))
            if ((b & 1) != 0) result = kn_mul(result, a);
        return result;
    }
}
template <class T>
T kn_min(T a, T b) {
    if constexpr (is_real<T>)
        return a < b || a != a ? a : b;
    else
        return a < b ? a : b;
}
template <class T>
T kn_max(T a, T b) {
    if constexpr (is_real<T>)
        return a > b || a != a ? a : b;
    else
        return a > b ? a : b;
}
/// A negative count is one beyond the width.
template <class T>
T kn_shl(T a, T b) {
    constexpr unsigned width = sizeof(T) * 8;
    const auto count = static_cast<std::make_unsigned_t<T>>(b);
    return count >= width ? T{0} : static_cast<T>(static_cast<Wrapping<T>>(a) << count);
}
template <class T>
T kn_shr(T a, T b) {
    constexpr unsigned width = sizeof(T) * 8;
    const auto count = static_cast<std::make_unsigned_t<T>>(b);
    if constexpr (std::is_signed_v<T>)
        return static_cast<T>(a >> (count >= width ? width - 1 : count));
    else
        return count >= width ? T{0} : static_cast<T>(a >> count);
}

template <class T>
T kn_reciprocal(T x) {
    return T{1} / x;
}
template <class T>
T kn_rsqrt(T x) {
    return T{1} / std::sqrt(x);
}
template <class T>
T kn_sigmoid(T x) {
    return T{1} / (T{1} + exp(-x));
}
template <class T>
T kn_silu(T x) {
    return x / (T{1} + exp(-x));
}
template <class T>
T kn_softplus(T x) {
    return kn_max(x, T{0}) + log1p(exp(-std::fabs(x)));
}
template <class T>
T kn_softsign(T x) {
    return x / (T{1} + std::fabs(x));
}
template <class T>
T kn_mish(T x) {
    return x * tanh(kn_softplus(x));
}
template <class T>
T kn_gelu(T x) {
    return T(0.5) * x * (T{1} + erf(x * T(0.70710678118654752440)));
}
template <class T>
T kn_gelu_tanh(T x) {
    return T(0.5) * x * (T{1} + tanh(T(0.79788456080286535588) * (x + T(0.044715) * x * x * x)));
}
template <class T>
bool kn_is_inf(T x) {
    return std::fabs(x) == std::numeric_limits<T>::infinity();
}

}  // namespace kn::cpu::scalar
