// Sums and maxima over contiguous runs: vectorised, and with errors that do not grow with the
// length.
#pragma once

#include <cstdint>
#include <limits>
#include <type_traits>

namespace kn::cpu {

/// Elements that are added in the compute type before the sum moves to double.
inline constexpr std::int64_t kPart = 512;
inline constexpr int kLanes = 16;

/// Folds `f(x[i])` with `join` in kLanes independent lanes. Called inside simd().
template <class Part, class T, class Join>
inline __attribute__((always_inline)) Part fold(const T* x, std::int64_t n, Part start,
                                                Join&& join) {
    Part lanes[kLanes];
    for (int l = 0; l < kLanes; ++l) lanes[l] = start;
    std::int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes)
        for (int l = 0; l < kLanes; ++l) lanes[l] = join(lanes[l], x[i + l]);
    for (int l = 0; i < n; ++i, ++l) lanes[l] = join(lanes[l], x[i]);
    for (int width = kLanes / 2; width > 0; width /= 2)
        for (int l = 0; l < width; ++l) lanes[l] = join(lanes[l], lanes[l + width]);
    return lanes[0];
}

/// Sum of f(x[i]), f giving x's type.
template <class T, class F>
inline __attribute__((always_inline)) double sum_of(const T* x, std::int64_t n, F&& f) {
    double total = 0;
    for (std::int64_t begin = 0; begin < n; begin += kPart) {
        const std::int64_t count = n - begin < kPart ? n - begin : kPart;
        T lanes[kLanes] = {};
        std::int64_t i = 0;
        for (; i + kLanes <= count; i += kLanes)
            for (int l = 0; l < kLanes; ++l) lanes[l] += f(x[begin + i + l]);
        for (int l = 0; i < count; ++i, ++l) lanes[l] += f(x[begin + i]);
        for (int width = kLanes / 2; width > 0; width /= 2)
            for (int l = 0; l < width; ++l) lanes[l] += lanes[l + width];
        total += static_cast<double>(lanes[0]);
    }
    return total;
}

/// NaN if any element is.
template <class T>
inline __attribute__((always_inline)) T max_of(const T* x, std::int64_t n) {
    return fold<T>(x, n, -std::numeric_limits<T>::infinity(),
                   [](T a, T b) { return a > b || a != a ? a : b; });
}

}  // namespace kn::cpu
