// What stands in for src/kernels/intrinsics.cu where the host's compiler builds kernels: one block
// runs at a time, its threads as fibers of one host thread.
#define KN_INTRINSICS

struct KnShim {
    unsigned thread[3], block[3], block_dim[3], grid_dim[3];
    unsigned char* dynamic_shared;
    void (*barrier)(int whole_block);  // gives way until all threads of the warp or block arrive
    unsigned long long* slots;         // one a thread
    const struct KnHopperCalls* hopper;
};
extern "C" {
KnShim kn_shim;
}

struct KnIndex {
    unsigned x, y, z;
};
#define threadIdx (KnIndex{kn_shim.thread[0], kn_shim.thread[1], kn_shim.thread[2]})
#define blockIdx (KnIndex{kn_shim.block[0], kn_shim.block[1], kn_shim.block[2]})
#define blockDim (KnIndex{kn_shim.block_dim[0], kn_shim.block_dim[1], kn_shim.block_dim[2]})
#define gridDim (KnIndex{kn_shim.grid_dim[0], kn_shim.grid_dim[1], kn_shim.grid_dim[2]})

#define __device__
#define __host__
#define __global__
#define __shared__ static
#define __constant__ static const
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define KN_DEVICE inline
#define KN_KERNEL static void
#define KN_SHARED static
#define KN_DYNAMIC_SHARED(name) unsigned char* const name = kn_shim.dynamic_shared
#define KN_UNROLL

struct kn_half {
    unsigned short bits;
};
struct kn_bf16 {
    unsigned short bits;
};

template <class To, class From>
static inline To kn_shim_bits(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    __builtin_memcpy(&to, &from, sizeof to);
    return to;
}
static inline float kn_bits_to_float(unsigned bits) { return kn_shim_bits<float>(bits); }
static inline unsigned kn_float_to_bits(float x) { return kn_shim_bits<unsigned>(x); }
static inline double kn_bits_to_double(unsigned long long bits) {
    return kn_shim_bits<double>(bits);
}
static inline unsigned long long kn_double_to_bits(double x) {
    return kn_shim_bits<unsigned long long>(x);
}

#define KN_SHIM_UNARY(name)                                              \
    static inline float name(float x) { return __builtin_##name##f(x); } \
    static inline double name(double x) { return __builtin_##name(x); }
#define KN_SHIM_BINARY(name)                                                         \
    static inline float name(float x, float y) { return __builtin_##name##f(x, y); } \
    static inline double name(double x, double y) { return __builtin_##name(x, y); }
KN_SHIM_UNARY(floor)
KN_SHIM_UNARY(ceil)
KN_SHIM_UNARY(rint) KN_SHIM_UNARY(trunc) KN_SHIM_UNARY(sqrt) KN_SHIM_UNARY(exp) KN_SHIM_UNARY(expm1)
    KN_SHIM_UNARY(log) KN_SHIM_UNARY(log1p) KN_SHIM_UNARY(sin) KN_SHIM_UNARY(cos) KN_SHIM_UNARY(tan)
        KN_SHIM_UNARY(asin) KN_SHIM_UNARY(acos) KN_SHIM_UNARY(atan) KN_SHIM_UNARY(sinh)
            KN_SHIM_UNARY(cosh) KN_SHIM_UNARY(tanh) KN_SHIM_UNARY(asinh) KN_SHIM_UNARY(acosh)
                KN_SHIM_UNARY(atanh) KN_SHIM_UNARY(erf) KN_SHIM_UNARY(fabs) KN_SHIM_BINARY(fmod)
                    KN_SHIM_BINARY(pow) KN_SHIM_BINARY(atan2) KN_SHIM_BINARY(copysign)
                        KN_SHIM_BINARY(fmin)
                            KN_SHIM_BINARY(fmax) static inline float fmaf(float a, float b,
                                                                          float c) {
    return __builtin_fmaf(a, b, c);
}
static inline double fma(double a, double b, double c) { return __builtin_fma(a, b, c); }
static inline float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
static inline float expf(float x) { return __builtin_expf(x); }
static inline unsigned kn_round_tf32(float x) {
    return kn_float_to_bits(x) + (x == x ? 0x1000 : 0) & 0xffffe000u;
}
static inline float kn_rounded_tf32(float x) { return kn_bits_to_float(kn_round_tf32(x)); }
static inline float kn_exp_fast(float x) { return __builtin_expf(x); }
static inline float kn_reciprocal_fast(float x) { return 1.0f / x; }
static inline float kn_rsqrt_fast(float x) { return 1.0f / __builtin_sqrtf(x); }
static inline float sqrtf(float x) { return __builtin_sqrtf(x); }
static inline int min(int a, int b) { return a < b ? a : b; }
static inline int max(int a, int b) { return a > b ? a : b; }

static inline float kn_float(kn_half x) {
    const unsigned sign = (unsigned)(x.bits & 0x8000) << 16;
    const unsigned exponent = x.bits >> 10 & 31, mantissa = x.bits & 0x3ff;
    if (exponent == 0) {
        const float tiny = (float)mantissa * 0x1p-24f;
        return sign ? -tiny : tiny;
    }
    if (exponent == 31) return kn_bits_to_float(sign | 0x7f800000u | mantissa << 13);
    return kn_bits_to_float(sign | (exponent + 112) << 23 | mantissa << 13);
}
static inline float kn_float(kn_bf16 x) { return kn_bits_to_float((unsigned)x.bits << 16); }
static inline kn_half kn_to_half(float x) {
    const unsigned bits = kn_float_to_bits(x), sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
    if (size > 0x7f800000u) return {(unsigned short)(sign | 0x7fff)};
    if (size >= 0x477ff000u) return {(unsigned short)(sign | 0x7c00)};
    if (size < 0x38800000u) {  // subnormal: rint rounds to even
        const float scaled = __builtin_rintf(__builtin_fabsf(x) * 0x1p24f);
        return {(unsigned short)(sign | (unsigned)scaled)};
    }
    const unsigned rounded = size + 0xfff + (size >> 13 & 1);
    return {(unsigned short)(sign | ((rounded - 0x38000000u) >> 13))};
}
static inline kn_bf16 kn_to_bf16(float x) {
    const unsigned bits = kn_float_to_bits(x);
    if (x != x) return {0x7fff};
    return {(unsigned short)((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

static inline void kn_sync() { kn_shim.barrier(1); }
static inline void kn_sync_warp() { kn_shim.barrier(0); }
static inline void kn_fence() {}
static inline void __syncthreads() { kn_sync(); }

static inline unsigned kn_shim_thread() {
    return kn_shim.thread[0] +
           kn_shim.block_dim[0] * (kn_shim.thread[1] + kn_shim.block_dim[1] * kn_shim.thread[2]);
}
static inline unsigned long long kn_shim_exchange(unsigned long long bits, unsigned lane) {
    const unsigned thread = kn_shim_thread();
    kn_shim.slots[thread] = bits;
    kn_sync_warp();
    const unsigned long long result = kn_shim.slots[thread / 32 * 32 + (lane & 31)];
    kn_sync_warp();
    return result;
}
#define KN_SHIM_SHUFFLE(type, bits)                                                               \
    static inline type kn_shuffle(type x, int lane) {                                             \
        return kn_shim_bits<type>((bits)kn_shim_exchange(kn_shim_bits<bits>(x), (unsigned)lane)); \
    }                                                                                             \
    static inline type kn_shuffle_xor(type x, int mask) {                                         \
        return kn_shuffle(x, (int)((kn_shim_thread() & 31) ^ (unsigned)mask));                    \
    }
KN_SHIM_SHUFFLE(int, unsigned)
KN_SHIM_SHUFFLE(float, unsigned)
KN_SHIM_SHUFFLE(long long, unsigned long long)
KN_SHIM_SHUFFLE(double, unsigned long long)
static inline void kn_multiply_tf32(float (&sums)[4], const unsigned (&a)[4], unsigned b0,
                                    unsigned b1) {
    const unsigned thread = kn_shim_thread(), warp = thread / 32 * 32, row = thread % 32 / 4;
    float rows[2][8], columns[8][2];
    for (int half = 0; half < 3; half++) {  // of the rows' columns, then of the columns' rows
        const unsigned long long low = half < 2 ? a[2 * half] : b0;
        const unsigned long long high = half < 2 ? a[2 * half + 1] : b1;
        kn_shim.slots[thread] = high << 32 | low;
        kn_sync_warp();
        for (unsigned k = 0; k < 4; k++)
            for (unsigned i = 0; i < 2; i++) {
                const unsigned column = 2 * (thread % 4) + i;
                const unsigned lane = half < 2 ? row * 4 + k : column * 4 + k;
                const unsigned long long words = kn_shim.slots[warp + lane];
                const float first = kn_bits_to_float((unsigned)words & 0xffffe000u);
                const float second = kn_bits_to_float((unsigned)(words >> 32) & 0xffffe000u);
                if (half < 2) {
                    rows[0][4 * half + k] = first;
                    rows[1][4 * half + k] = second;
                } else {
                    columns[k][i] = first;
                    columns[k + 4][i] = second;
                }
            }
        kn_sync_warp();
    }
    // As the tensor cores do: all addends in 24 bits of the largest, rounded towards zero.
    for (int r = 0; r < 2; r++)
        for (int i = 0; i < 2; i++) {
            float& sum = sums[2 * r + i];
            double addends[9] = {sum}, most = 0, total = 0;
            for (int k = 0; k < 8; k++) addends[k + 1] = (double)rows[r][k] * columns[k][i];
            for (const double x : addends) most = __builtin_fmax(most, __builtin_fabs(x));
            int exponent = 0;
            if (most > 0 && most < __builtin_inf()) __builtin_frexp(most, &exponent);
            const double unit = __builtin_ldexp(1.0, exponent - 24);
            for (const double x : addends) total += __builtin_trunc(x / unit) * unit;
            const float nearest = (float)total;
            sum = __builtin_fabs(nearest) > __builtin_fabs(total) ? __builtin_nextafterf(nearest, 0)
                                                                  : nearest;
        }
}
template <class T>
static inline void kn_multiply_halves(T, float (&sums)[2], unsigned a0, unsigned a1, unsigned b0,
                                      unsigned b1) {
    const unsigned thread = kn_shim_thread(), warp = thread / 32 * 32, lane = thread % 32;
    float rows[16], columns[2][16];
    for (int of_b = 0; of_b < 2; of_b++) {
        kn_shim.slots[thread] = (unsigned long long)(of_b ? b1 : a1) << 32 | (of_b ? b0 : a0);
        kn_sync_warp();
        for (unsigned i = 0; i < (of_b ? 2u : 1u); i++)
            for (unsigned k = 0; k < 16; k++) {
                const unsigned row = of_b ? 2 * (lane % 4) + i : lane / 4;
                const unsigned long long words = kn_shim.slots[warp + 4 * row + k % 8 / 2];
                const float x =
                    kn_float(T{(unsigned short)(words >> (32 * (k / 8) + 16 * (k % 2)))});
                (of_b ? columns[i] : rows)[k] = x;
            }
        kn_sync_warp();
    }
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < 16; k++) sums[i] += rows[k] * columns[i][k];
}
template <class T>
static inline void kn_multiply_halves(T, float (&sums)[4], const unsigned (&a)[4], unsigned b0,
                                      unsigned b1) {
    for (unsigned half = 0; half < 2; half++) {
        float part[2] = {sums[2 * half], sums[2 * half + 1]};
        kn_multiply_halves(T(), part, a[half], a[2 + half], b0, b1);
        sums[2 * half] = part[0];
        sums[2 * half + 1] = part[1];
    }
}
static inline unsigned kn_ballot(bool yes) {
    const unsigned thread = kn_shim_thread();
    kn_shim.slots[thread] = yes;
    kn_sync_warp();
    unsigned result = 0;
    for (unsigned i = 0; i < 32; ++i)
        result |= (unsigned)(kn_shim.slots[thread / 32 * 32 + i] & 1) << i;
    kn_sync_warp();
    return result;
}
static inline int kn_popcount(unsigned x) { return __builtin_popcount(x); }

template <class T>
static inline T kn_atomic_add(T* p, T x) {
    const T old = *p;
    *p = old + x;
    return old;
}
template <class T>
static inline T kn_atomic_max(T* p, T x) {
    const T old = *p;
    *p = old > x ? old : x;
    return old;
}
template <class T>
static inline T kn_atomic_cas(T* p, T expected, T x) {
    const T old = *p;
    if (old == expected) *p = x;
    return old;
}

#include "hopper_shim.h"

// A kernel called with its parameters as 8-byte numbers.
template <class T>
struct KnArgument {
    static T from(unsigned long long bits) { return (T)bits; }
};
template <class T>
struct KnArgument<T*> {
    static T* from(unsigned long long bits) { return (T*)bits; }
};
template <int... I>
struct KnIndices {};
template <int N, int... I>
struct KnCount : KnCount<N - 1, N - 1, I...> {};
template <int... I>
struct KnCount<0, I...> {
    typedef KnIndices<I...> type;
};
template <class... A, int... I>
static inline void kn_shim_apply(void (*kernel)(A...), const unsigned long long* arguments,
                                 KnIndices<I...>) {
    kernel(KnArgument<A>::from(arguments[I])...);
}
template <class... A>
static inline void kn_shim_call(void (*kernel)(A...), const unsigned long long* arguments) {
    kn_shim_apply(kernel, arguments, typename KnCount<sizeof...(A)>::type());
}
// All threads of all blocks in turn: for kernels without barriers.
template <class... A>
static inline void kn_shim_loop(void (*kernel)(A...), const unsigned long long* arguments) {
    auto& s = kn_shim;
    for (s.block[2] = 0; s.block[2] < s.grid_dim[2]; ++s.block[2])
        for (s.block[1] = 0; s.block[1] < s.grid_dim[1]; ++s.block[1])
            for (s.block[0] = 0; s.block[0] < s.grid_dim[0]; ++s.block[0])
                for (s.thread[2] = 0; s.thread[2] < s.block_dim[2]; ++s.thread[2])
                    for (s.thread[1] = 0; s.thread[1] < s.block_dim[1]; ++s.thread[1])
                        for (s.thread[0] = 0; s.thread[0] < s.block_dim[0]; ++s.thread[0])
                            kn_shim_call(kernel, arguments);
}
