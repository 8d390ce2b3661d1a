// Conversion of one element between any two element types, as op::Cast defines it, inline for loops
// over whole tensors.
#pragma once

#include <bit>
#include <cmath>
#include <limits>
#include <type_traits>

#include <Eigen/Core>

#include <kn/graph/dtype.h>
#include <kn/graph/error.h>

namespace kn::detail {

template <class T>
constexpr bool is_half_type = std::is_same_v<T, half> || std::is_same_v<T, bfloat16>;

inline float widen(half x) {
    return Eigen::half_impl::half_to_float(Eigen::half_impl::raw_uint16_to_half(x.bits));
}
inline float widen(bfloat16 x) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(x.bits) << 16);
}

/// To the nearest half, ties to even, every NaN as a quiet one. Without branches, for loops that are
/// vectorised.
inline half nearest_half(float x) {
    constexpr std::uint32_t infinity = 0x7f800000, too_large = 0x47800000,
                            least_normal = 0x38800000;
    const auto bits = std::bit_cast<std::uint32_t>(x);
    const std::uint32_t magnitude = bits & 0x7fffffff;
    // The exponent's other bias, and half a unit less one for the ties.
    const std::uint32_t normal = (magnitude + 0xc8000fff + (magnitude >> 13 & 1)) >> 13;
    // The sum has a subnormal's bits at its end, rounded.
    const std::uint32_t subnormal =
        std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) -
        std::bit_cast<std::uint32_t>(0.5f);
    const std::uint32_t beyond = magnitude > infinity ? 0x7e00 : 0x7c00;
    const std::uint32_t finite = magnitude < least_normal ? subnormal : normal;
    const std::uint32_t rounded = magnitude >= too_large ? beyond : finite;
    return half{static_cast<std::uint16_t>(rounded | (bits >> 16 & 0x8000))};
}

template <class T>
T narrow(float x) {
    if constexpr (std::is_same_v<T, half>)
        return nearest_half(x);
    else
        return bfloat16{Eigen::bfloat16_impl::float_to_bfloat16_rtne<false>(x).value};
}

/// To float with rounding to odd, so that a second rounding to a half type gives what one rounding
/// of x would.
inline float round_to_odd(double x) {
    const float nearest = static_cast<float>(x);
    if (static_cast<double>(nearest) == x || std::isnan(x) ||
        std::bit_cast<std::uint32_t>(nearest) & 1)
        return nearest;
    const float toward = static_cast<double>(nearest) < x ? std::numeric_limits<float>::infinity()
                                                          : -std::numeric_limits<float>::infinity();
    return std::nextafter(nearest, toward);
}

/// To double with rounding to odd.
template <class Int>
double round_int_to_odd(Int x) {
    if constexpr (sizeof(Int) < 8) {
        return static_cast<double>(x);
    } else {
        // The low 11 bits collapse into the lowest bit of the 53 that are kept.
        const bool negative = x < 0;
        std::uint64_t magnitude =
            negative ? 0 - static_cast<std::uint64_t>(x) : static_cast<std::uint64_t>(x);
        if (magnitude >> 53 && (magnitude & 0x7ff) != 0)
            magnitude = (magnitude & ~0x7ffull) | 0x800;
        const double value = static_cast<double>(magnitude);
        return negative ? -value : value;
    }
}

template <class To, class From>
To saturate(From x) {
    if (std::isnan(x)) return 0;
    // max of To may not be a From; the power of two above it is.
    const From limit = std::ldexp(From(1), std::numeric_limits<To>::digits);
    if (x >= limit) return std::numeric_limits<To>::max();
    if constexpr (std::is_signed_v<To>) {
        if (x < -limit) return std::numeric_limits<To>::min();
    } else {
        if (x <= From(-1)) return 0;
    }
    return static_cast<To>(x);
}

template <class To, class From>
To convert(From x) {
    if constexpr (std::is_same_v<To, From>)
        return x;
    else if constexpr (is_half_type<From>)
        return convert<To>(widen(x));
    else if constexpr (std::is_same_v<To, bool>)
        return x != From(0);
    else if constexpr (is_half_type<To>) {
        if constexpr (std::is_same_v<From, float>)
            return narrow<To>(x);
        else if constexpr (std::is_same_v<From, double>)
            return narrow<To>(round_to_odd(x));
        else
            return narrow<To>(round_to_odd(round_int_to_odd(x)));
    } else if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>)
        return saturate<To>(x);
    else
        return static_cast<To>(x);
}

/// f(T()), where T is the element type of the dtype.
template <class F>
decltype(auto) with_type(DType dtype, F&& f) {
    switch (dtype) {
#define X(name, type, text) \
    case DType::name: return f(type{});
        KN_DTYPES(X)
#undef X
    }
    throw_internal(__FILE__, __LINE__, "dtype is known", "");
}

}  // namespace kn::detail
