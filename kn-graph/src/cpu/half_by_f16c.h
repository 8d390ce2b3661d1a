// Halves by the processor's instructions for them, where it has any.
#pragma once

#include <cstddef>

#include "ir/convert.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#endif

namespace kn::cpu {

#if defined(__x86_64__) && defined(__GNUC__)

namespace detail {

inline bool has_f16c() {
    static const bool has = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c");
    return has;
}

constexpr std::size_t abreast = 8;

// NaNs, whose bits the instructions treat in a way of their own, go one by one.
template <class From, class To>
__attribute__((noinline)) void convert_some(const From* in, To* out) {
    for (std::size_t i = 0; i < abreast; ++i) out[i] = kn::detail::convert<To>(in[i]);
}

__attribute__((target("avx2,f16c"))) inline void convert_all(const float* in, half* out,
                                                             std::size_t count) {
    for (std::size_t i = 0; i < count; i += abreast) {
        const __m256 x = _mm256_loadu_ps(in + i);
        if (_mm256_movemask_ps(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)))
            convert_some(in + i, out + i);
        else
            _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i),
                             _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
    }
}

__attribute__((target("avx2,f16c"))) inline void convert_all(const half* in, float* out,
                                                             std::size_t count) {
    for (std::size_t i = 0; i < count; i += abreast) {
        const __m256 x = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in + i)));
        if (_mm256_movemask_ps(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)))
            convert_some(in + i, out + i);
        else
            _mm256_storeu_ps(out + i, x);
    }
}

}  // namespace detail

/// Converts float to half or half to float; gives how many of the elements, from the first on, are
/// done.
template <class From, class To>
std::size_t convert_by_f16c(const From* in, To* out, std::size_t count) {
    if (!detail::has_f16c()) return 0;
    count = count / detail::abreast * detail::abreast;
    detail::convert_all(in, out, count);
    return count;
}

#else

template <class From, class To>
std::size_t convert_by_f16c(const From*, To*, std::size_t) {
    return 0;
}

#endif

}  // namespace kn::cpu
