#pragma once

#include "cpu/scalar_math.h"
#include "cpu/sums.h"

namespace kn::cpu {

/// y = exp(x - max(x)), y may be x; gives the sum of y. Called inside simd().
template <class T>
inline __attribute__((always_inline)) T exp_row(const T* x, T* y, std::int64_t n, T largest) {
#pragma GCC ivdep
    for (std::int64_t i = 0; i < n; ++i) y[i] = scalar::exp(x[i] - largest);
    return static_cast<T>(sum_of(y, n, [](T v) { return v; }));
}

/// The softmax of a row; y may be x. A row without a finite maximum gives NaN. Called inside
/// simd().
template <class T>
inline __attribute__((always_inline)) void softmax_row(const T* x, T* y, std::int64_t n) {
    const T factor = T{1} / exp_row(x, y, n, max_of(x, n));
    for (std::int64_t i = 0; i < n; ++i) y[i] *= factor;
}

template <class T>
inline __attribute__((always_inline)) void log_softmax_row(const T* x, T* y, std::int64_t n) {
    const T largest = max_of(x, n);
    T total = 0;
    for (std::int64_t begin = 0; begin < n; begin += kPart) {
        T part[kPart];
        total += exp_row(x + begin, part, n - begin < kPart ? n - begin : kPart, largest);
    }
    const T shift = scalar::log(total);
#pragma GCC ivdep
    for (std::int64_t i = 0; i < n; ++i) y[i] = (x[i] - largest) - shift;
}

}  // namespace kn::cpu
