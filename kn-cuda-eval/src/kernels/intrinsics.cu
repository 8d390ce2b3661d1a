// Everything that only a GPU's compiler knows: half conversions, barriers, shuffles, atomics. The
// host test shim has a text of its own in place of this one.
#ifndef KN_INTRINSICS
#define KN_INTRINSICS

#define KN_DEVICE __device__ __forceinline__
#define KN_KERNEL extern "C" __global__ void
#define KN_SHARED __shared__
#define KN_DYNAMIC_SHARED(name) extern __shared__ __align__(16) unsigned char name[]
#define KN_UNROLL _Pragma("unroll")

struct kn_half {
    unsigned short bits;
};
struct kn_bf16 {
    unsigned short bits;
};

KN_DEVICE float kn_bits_to_float(unsigned bits) { return __int_as_float((int)bits); }
KN_DEVICE unsigned kn_float_to_bits(float x) { return (unsigned)__float_as_int(x); }
KN_DEVICE double kn_bits_to_double(unsigned long long bits) {
    return __longlong_as_double((long long)bits);
}
KN_DEVICE unsigned long long kn_double_to_bits(double x) {
    return (unsigned long long)__double_as_longlong(x);
}

KN_DEVICE float kn_float(kn_half x) {
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
    return y;
}
KN_DEVICE float kn_float(kn_bf16 x) { return __int_as_float((int)((unsigned)x.bits << 16)); }
KN_DEVICE kn_half kn_to_half(float x) {
    kn_half y;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
    return y;
}
KN_DEVICE kn_bf16 kn_to_bf16(float x) {
    kn_bf16 y;
#if __CUDA_ARCH__ >= 800
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
#else
    const unsigned bits = (unsigned)__float_as_int(x);
    y.bits = x != x ? 0x7fff : (unsigned short)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
#endif
    return y;
}

/// exp(x) and 1 / x to about 2^-20, very small results as 0.
KN_DEVICE float kn_exp_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x * 1.44269504088896340736f));
    return y;
}
KN_DEVICE float kn_reciprocal_fast(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
/// 1 / sqrt(x) to 2^-22.
KN_DEVICE float kn_rsqrt_fast(float x) {
    float y;
    asm("rsqrt.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

#if __CUDA_ARCH__ >= 800
/// The bits of x rounded to TF32, half away from zero.
KN_DEVICE unsigned kn_round_tf32(float x) {
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return bits;
}
KN_DEVICE float kn_rounded_tf32(float x) { return kn_bits_to_float(kn_round_tf32(x)); }
/// sums += a b for 16 rows and 8 columns by 8 in TF32, a warp together. With lane = 4 row + quad: sums are of the columns
/// 2 quad and 2 quad + 1, sums[2] and [3] of row + 8; a of the columns quad, then quad + 4, a[1] and a[3] of row + 8; b0 and
/// b1 of column `row`, from the rows quad and quad + 4.
KN_DEVICE void kn_multiply_tf32(float (&sums)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
/// sums += a b for 8 rows by 16 columns of half types, and 8 columns of b. With lane = 4 row + quad: sums are of the columns
/// 2 quad and 2 quad + 1; a0 and b0 have k = 2 quad and 2 quad + 1, a1 and b1 the places 8 behind, a of `row`, b of the column
/// `row`.
KN_DEVICE void kn_multiply_halves(kn_half, float (&sums)[2], unsigned a0, unsigned a1, unsigned b0, unsigned b1) {
    float rest[2] = {0, 0};  // of rows that are zeros
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %8, %5, %8}, {%6, %7}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(rest[0]), "+f"(rest[1])
        : "r"(a0), "r"(a1), "r"(b0), "r"(b1), "r"(0u));
}
KN_DEVICE void kn_multiply_halves(kn_bf16, float (&sums)[2], unsigned a0, unsigned a1, unsigned b0, unsigned b1) {
    float rest[2] = {0, 0};  // of rows that are zeros
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %8, %5, %8}, {%6, %7}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(rest[0]), "+f"(rest[1])
        : "r"(a0), "r"(a1), "r"(b0), "r"(b1), "r"(0u));
}
/// sums += a b for 16 rows by 16 columns of half types, and 8 columns of b: all as kn_multiply_tf32 has them, where a and b
/// have two neighbours in k of half types for one of TF32.
KN_DEVICE void kn_multiply_halves(kn_half, float (&sums)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
KN_DEVICE void kn_multiply_halves(kn_bf16, float (&sums)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
#endif

KN_DEVICE void kn_sync() { __syncthreads(); }
KN_DEVICE void kn_sync_warp() { __syncwarp(); }
/// Orders memory for threads of other blocks.
KN_DEVICE void kn_fence() { __threadfence(); }

/// Warp shuffles: all 32 threads of the warp take part.
KN_DEVICE int kn_shuffle_xor(int x, int mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }
KN_DEVICE float kn_shuffle_xor(float x, int mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }
KN_DEVICE long long kn_shuffle_xor(long long x, int mask) {
    return __shfl_xor_sync(0xffffffffu, x, mask);
}
KN_DEVICE double kn_shuffle_xor(double x, int mask) {
    return __shfl_xor_sync(0xffffffffu, x, mask);
}
KN_DEVICE int kn_shuffle(int x, int lane) { return __shfl_sync(0xffffffffu, x, lane); }
KN_DEVICE float kn_shuffle(float x, int lane) { return __shfl_sync(0xffffffffu, x, lane); }
KN_DEVICE long long kn_shuffle(long long x, int lane) {
    return __shfl_sync(0xffffffffu, x, lane);
}
KN_DEVICE double kn_shuffle(double x, int lane) { return __shfl_sync(0xffffffffu, x, lane); }
/// Bit i: whether thread i of the warp says yes.
KN_DEVICE unsigned kn_ballot(bool yes) { return __ballot_sync(0xffffffffu, yes); }

KN_DEVICE int kn_popcount(unsigned x) { return __popc(x); }

/// Atomics give the old value.
KN_DEVICE int kn_atomic_add(int* p, int x) { return atomicAdd(p, x); }
KN_DEVICE unsigned kn_atomic_add(unsigned* p, unsigned x) { return atomicAdd(p, x); }
KN_DEVICE unsigned long long kn_atomic_add(unsigned long long* p, unsigned long long x) {
    return atomicAdd(p, x);
}
KN_DEVICE float kn_atomic_add(float* p, float x) { return atomicAdd(p, x); }
KN_DEVICE int kn_atomic_max(int* p, int x) { return atomicMax(p, x); }
KN_DEVICE long long kn_atomic_max(long long* p, long long x) { return atomicMax(p, x); }
KN_DEVICE unsigned kn_atomic_cas(unsigned* p, unsigned expected, unsigned x) {
    return atomicCAS(p, expected, x);
}
KN_DEVICE unsigned long long kn_atomic_cas(unsigned long long* p, unsigned long long expected,
                                           unsigned long long x) {
    return atomicCAS(p, expected, x);
}

#endif
