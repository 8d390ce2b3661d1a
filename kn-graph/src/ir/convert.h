// Conversion of one element between any two element types, as op::Cast defines it, inline for loops
// over whole tensors.
#pragma once

#include <bit>
#include <cmath>
#include <limits>
#include <type_traits>

#include <Eigen/Core>

#include <kn/graph/dtype.h>

namespace kn::detail {

template <class T>
constexpr bool is_half_type = std::is_same_v<T, half> || std::is_same_v<T, bfloat16>;

inline float widen(half x) {
    return Eigen::half_impl::half_to_float(Eigen::half_impl::raw_uint16_to_half(x.bits));
}
inline float widen(bfloat16 x) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(x.bits) << 16);
}

template <class T>
T narrow(float x) {
    if constexpr (std::is_same_v<T, half>)
        return half{static_cast<std::uint16_t>(Eigen::half_impl::float_to_half_rtne(x).x)};
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

}  // namespace kn::detail
