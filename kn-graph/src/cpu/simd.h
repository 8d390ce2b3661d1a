// Loops that are compiled twice, for any x86-64 and for AVX2 with FMA, and chosen at run time.
#pragma once

namespace kn::cpu {

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__AVX2__)

namespace detail {

inline bool has_avx2() {
    static const bool has = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    return has;
}

template <class F>
__attribute__((target("avx2,fma"), flatten, noinline)) void call_avx2(const F& f) {
    f();
}

template <class F>
__attribute__((flatten, noinline)) void call_baseline(const F& f) {
    f();
}

}  // namespace detail

/// Calls f(), whose loops over contiguous memory the compiler vectorises. Everything that it calls
/// is inlined.
template <class F>
void simd(const F& f) {
    if (detail::has_avx2())
        detail::call_avx2(f);
    else
        detail::call_baseline(f);
}

#else

template <class F>
void simd(const F& f) {
    f();
}

#endif

}  // namespace kn::cpu
