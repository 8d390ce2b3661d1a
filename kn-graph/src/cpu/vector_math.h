// float versions of the common transcendental functions without branches, so that loops over them
// vectorise. Errors are below about 2 units in the last place. Coefficients: minimax fits of the
// function named beside them, made for these files.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace kn::cpu::scalar {

namespace detail {

inline float power_of_two(std::int32_t exponent) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(exponent + 127) << 23);
}

struct Reduced {
    std::int32_t k;
    float q;
};

/// x = k ln 2 + r with |r| <= ln 2 / 2, q = exp(r) - 1; x must be within about +-2^21, or NaN.
inline Reduced reduce_exp(float x) {
    constexpr float magic =
        0x1.8p23F;  // adding it rounds to an integer, which then stands in the low bits
    const float shifted = x * 0x1.715476p0F + magic;
    const float n = shifted - magic;
    const auto k = static_cast<std::int32_t>(std::bit_cast<std::uint32_t>(shifted) -
                                             std::bit_cast<std::uint32_t>(magic));
    const float r = (x - n * 0x1.63p-1F) - n * -0x1.bd0106p-13F;  // ln 2 in two parts
    // (exp(r) - 1 - r) / r^2
    float p = 0.0013947595F;
    p = p * r + 0.008367247F;
    p = p * r + 0.041666266F;
    p = p * r + 0.16666538F;
    p = p * r + 0.5F;
    return {k, r * r * p + r};
}

}  // namespace detail

inline float exp(float x) {
    float clamped = x < -104.0F ? -104.0F : x;  // NaN stays
    clamped = clamped > 89.0F ? 89.0F : clamped;
    const auto [k, q] = detail::reduce_exp(clamped);
    const std::int32_t half = k >> 1;  // two factors, since 2^k alone may leave the normal range
    return (1.0F + q) * detail::power_of_two(half) * detail::power_of_two(k - half);
}

inline float expm1(float x) {
    float clamped = x < -87.0F ? -87.0F : x;
    clamped = clamped > 89.0F ? 89.0F : clamped;
    const auto [k, q] = detail::reduce_exp(clamped);
    const float scale = detail::power_of_two(k - 1);
    return (scale * q + (scale - 0.5F)) * 2.0F;
}

inline float log(float x) {
    const bool tiny = x < 0x1p-126F;
    const float normal = tiny ? x * 0x1p23F : x;
    const auto bits = std::bit_cast<std::uint32_t>(normal);
    // x = 2^e m with m in [sqrt(1/2), sqrt(2))
    const auto e = static_cast<std::int32_t>(bits - 0x3f3504f3U) >> 23;
    const float m = std::bit_cast<float>(bits - (static_cast<std::uint32_t>(e) << 23));
    const float exponent = static_cast<float>(e) - (tiny ? 23.0F : 0.0F);
    const float f = m - 1.0F;
    // (log(1 + f) - f + f^2 / 2) / f^3
    float p = 0.06915368F;
    p = p * f - 0.11789808F;
    p = p * f + 0.118729763F;
    p = p * f - 0.12384348F;
    p = p * f + 0.14218658F;
    p = p * f - 0.16669251F;
    p = p * f + 0.20002227F;
    p = p * f - 0.24999987F;
    p = p * f + 0.3333331F;
    const float f2 = f * f;
    float y = f2 * f * p + exponent * -0x1.bd0106p-13F;
    y = y - 0.5F * f2;
    y = f + y + exponent * 0x1.63p-1F;
    y = x < std::numeric_limits<float>::infinity() ? y : x;  // infinity and NaN
    y = x == 0.0F ? -std::numeric_limits<float>::infinity() : y;
    return x < 0.0F ? std::numeric_limits<float>::quiet_NaN() : y;
}

inline float log1p(float x) {
    const float u = 1.0F + x;
    const float lost = (x - (u - 1.0F)) / u;  // what the sum rounded away
    const bool usable = u > 0.0F && u < std::numeric_limits<float>::infinity();
    return log(u) + (usable ? lost : 0.0F);
}

inline float tanh(float x) {
    const float a = std::fabs(x);
    const float t = x * x;
    // tanh(a) / a in a^2, for a < 0.625
    float p = -0.0056724218F;
    p = p * t + 0.020603146F;
    p = p * t - 0.05372523F;
    p = p * t + 0.13331185F;
    p = p * t - 0.33333263F;
    const float small = a + a * (p * t);
    const float large = 1.0F - 2.0F / (exp(2.0F * a) + 1.0F);
    return std::copysign(a < 0.625F ? small : large, x);
}

inline float erf(float x) {
    const float a = std::fabs(x);
    const float t = x * x;
    // erf(a) / a in a^2, for a < 1
    float p = 7.889119e-05F;
    p = p * t - 0.0008020841F;
    p = p * t + 0.0051895352F;
    p = p * t - 0.026854444F;
    p = p * t + 0.112836F;
    p = p * t - 0.37612626F;
    p = p * t + 1.1283791F;
    // -log(1 - erf(a)), for 1 <= a <= 4
    const float b = a > 4.0F ? 4.0F : a;
    float g = -2.5162737e-07F;
    g = g * b + 2.5318848e-05F;
    g = g * b - 0.00046381133F;
    g = g * b + 0.0042824582F;
    g = g * b - 0.025373707F;
    g = g * b + 0.10863919F;
    g = g * b + 0.6330395F;
    g = g * b + 1.1296612F;
    g = g * b - 0.00020437152F;
    const float large = 1.0F - exp(-g);
    return std::copysign(a < 1.0F ? a * p : large, x);
}

}  // namespace kn::cpu::scalar
