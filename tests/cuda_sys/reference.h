// Straightforward host references in double, and conversions to the device's types.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

namespace kn::test {

/// `n` values of N(0, 1) that half precision holds exactly, so that inputs are the same in every
/// type.
inline std::vector<float> random_values(std::size_t n, unsigned seed) {
    std::mt19937 generator(seed);
    std::normal_distribution<float> normal;
    std::vector<float> values(n);
    for (float& v : values) v = std::round(normal(generator) * 64) / 64;
    return values;
}

inline std::vector<_Float16> to_half(const std::vector<float>& values) {
    return {values.begin(), values.end()};
}

template <class T>
std::vector<float> to_float(const std::vector<T>& values) {
    return {values.begin(), values.end()};
}

/// Largest |a - b| over the largest |b|.
inline double relative_to_peak(const std::vector<float>& a, const std::vector<double>& b) {
    double difference = 0, peak = 1e-30;
    for (std::size_t i = 0; i < b.size(); ++i) {
        double d = std::abs(static_cast<double>(a[i]) - b[i]);
        difference = std::isnan(d) ? INFINITY : std::max(difference, d);
        peak = std::max(peak, std::abs(b[i]));
    }
    return a.size() == b.size() ? difference / peak : INFINITY;
}

}  // namespace kn::test
