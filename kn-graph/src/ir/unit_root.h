// exp(2 pi i numerator / denominator), right to the last bits.
#pragma once

#include <cmath>
#include <complex>
#include <cstddef>
#include <numbers>

namespace kn {

/// The angle passed on is at most a quarter turn, so that its rounding stays small. denominator
/// >= 1.
inline std::complex<double> unit_root(std::size_t numerator, std::size_t denominator) {
    numerator %= denominator;
    if (2 * numerator > denominator)
        return std::conj(unit_root(denominator - numerator, denominator));
    const bool turned = 4 * numerator > denominator;
    const std::size_t rest = turned ? 4 * numerator - denominator : 4 * numerator;
    const double angle =
        std::numbers::pi / 2 * (static_cast<double>(rest) / static_cast<double>(denominator));
    if (turned) return {-std::sin(angle), std::cos(angle)};
    return {std::cos(angle), std::sin(angle)};
}

}  // namespace kn
