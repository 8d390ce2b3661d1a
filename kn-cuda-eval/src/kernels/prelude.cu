// What precedes every kernel: the functions of kn/graph/scalar_ops.h for every type arithmetic is
// done in, conversions, vectors of elements, reductions of warps and blocks.
#ifndef KN_PRELUDE
#define KN_PRELUDE

template <class T>
struct kn_traits {  // integers
    static constexpr bool real = false, is_bool = false;
    static constexpr bool is_signed = (T)(-1) < (T)0;
};
template <>
struct kn_traits<bool> {
    static constexpr bool real = false, is_bool = true;
    static constexpr bool is_signed = false;
};
template <>
struct kn_traits<float> {
    static constexpr bool real = true, is_bool = false;
    static constexpr bool is_signed = true;
};
template <>
struct kn_traits<double> {
    static constexpr bool real = true, is_bool = false;
    static constexpr bool is_signed = true;
};
/// Unsigned arithmetic of at least int's width: defined where T's own overflows.
template <bool Long>
struct kn_wide {
    typedef unsigned type;
};
template <>
struct kn_wide<true> {
    typedef unsigned long long type;
};
#define KN_WIDE(T) typename kn_wide<(sizeof(T) > 4)>::type

KN_DEVICE float kn_inf(float) { return kn_bits_to_float(0x7f800000u); }
KN_DEVICE double kn_inf(double) { return kn_bits_to_double(0x7ff0000000000000ull); }
template <class T>
KN_DEVICE T kn_lowest() {
    if constexpr (kn_traits<T>::real)
        return -kn_inf(T(0));
    else if constexpr (kn_traits<T>::is_signed)
        return (T)(1ull << (sizeof(T) * 8 - 1));
    else
        return (T)0;
}
template <class T>
KN_DEVICE T kn_highest() {
    if constexpr (kn_traits<T>::real)
        return kn_inf(T(0));
    else if constexpr (kn_traits<T>::is_signed)
        return (T)((1ull << (sizeof(T) * 8 - 1)) - 1);
    else if constexpr (kn_traits<T>::is_bool)
        return true;
    else
        return (T)(~0ull >> (64 - sizeof(T) * 8));
}

template <class T>
KN_DEVICE T kn_add(T a, T b) {
    if constexpr (kn_traits<T>::real)
        return a + b;
    else
        return (T)((KN_WIDE(T))a + (KN_WIDE(T))b);
}
template <class T>
KN_DEVICE T kn_sub(T a, T b) {
    if constexpr (kn_traits<T>::real)
        return a - b;
    else
        return (T)((KN_WIDE(T))a - (KN_WIDE(T))b);
}
template <class T>
KN_DEVICE T kn_mul(T a, T b) {
    if constexpr (kn_traits<T>::real)
        return a * b;
    else
        return (T)((KN_WIDE(T))a * (KN_WIDE(T))b);
}
template <class T>
KN_DEVICE T kn_neg(T x) {
    if constexpr (kn_traits<T>::real)
        return -x;
    else
        return kn_sub((T)0, x);
}
template <class T>
KN_DEVICE T kn_abs(T x) {
    if constexpr (kn_traits<T>::real)
        return fabs(x);
    else if constexpr (!kn_traits<T>::is_signed)
        return x;
    else
        return x < 0 ? kn_neg(x) : x;
}
template <class T>
KN_DEVICE T kn_sign(T x) {
    const T sign = x > (T)0 ? (T)1 : x < (T)0 ? (T)(-1) : (T)0;
    if constexpr (kn_traits<T>::real)
        return x != x ? x : sign;
    else
        return sign;
}
template <class T>
KN_DEVICE T kn_div(T a, T b) {
    if constexpr (kn_traits<T>::real) {
        return a / b;
    } else {
        if (b == 0) return (T)0;
        if constexpr (kn_traits<T>::is_signed)
            if (b == (T)(-1)) return kn_neg(a);
        return (T)(a / b);
    }
}
template <class T>
KN_DEVICE T kn_fmod(T a, T b) {
    if constexpr (kn_traits<T>::real) {
        return fmod(a, b);
    } else {
        if (b == 0) return (T)0;
        if constexpr (kn_traits<T>::is_signed)
            if (b == (T)(-1)) return (T)0;
        return (T)(a % b);
    }
}
template <class T>
KN_DEVICE T kn_mod(T a, T b) {
    const T r = kn_fmod(a, b);
    if constexpr (kn_traits<T>::real) {
        if (r == (T)0) return copysign(r, b);
        return (r < (T)0) != (b < (T)0) ? r + b : r;
    } else {
        return r != 0 && (r < 0) != (b < 0) ? (T)(r + b) : r;
    }
}
template <class T>
KN_DEVICE T kn_pow(T a, T b) {
    if constexpr (kn_traits<T>::real) {
        return pow(a, b);
    } else {
        if constexpr (kn_traits<T>::is_signed) {
            if (b < 0) {
                if (a == (T)1) return (T)1;
                if (a == (T)(-1)) return (b & 1) != 0 ? (T)(-1) : (T)1;
                return (T)0;
            }
        }
        T result = (T)1;
        for (; b != 0; b = (T)(b >> 1), a = kn_mul(a, a))
            if ((b & 1) != 0) result = kn_mul(result, a);
        return result;
    }
}
template <class T>
KN_DEVICE T kn_min(T a, T b) {
    if constexpr (kn_traits<T>::real)
        return a < b || a != a ? a : b;
    else
        return a < b ? a : b;
}
template <class T>
KN_DEVICE T kn_max(T a, T b) {
    if constexpr (kn_traits<T>::real)
        return a > b || a != a ? a : b;
    else
        return a > b ? a : b;
}
/// A negative count is one beyond the width.
template <class T>
KN_DEVICE unsigned long long kn_shift_count(T b) {
    return (unsigned long long)b & (~0ull >> (64 - sizeof(T) * 8));
}
template <class T>
KN_DEVICE T kn_shl(T a, T b) {
    const unsigned long long count = kn_shift_count(b);
    return count >= sizeof(T) * 8 ? (T)0 : (T)((KN_WIDE(T))a << count);
}
template <class T>
KN_DEVICE T kn_shr(T a, T b) {
    const unsigned long long count = kn_shift_count(b);
    if constexpr (kn_traits<T>::is_signed)
        return (T)(a >> (count >= sizeof(T) * 8 ? sizeof(T) * 8 - 1 : count));
    else
        return count >= sizeof(T) * 8 ? (T)0 : (T)(a >> count);
}
template <class T>
KN_DEVICE T kn_reciprocal(T x) {
    return (T)1 / x;
}
template <class T>
KN_DEVICE T kn_rsqrt(T x) {
    return (T)1 / sqrt(x);
}
template <class T>
KN_DEVICE T kn_sigmoid(T x) {
    return (T)1 / ((T)1 + exp(-x));
}
template <class T>
KN_DEVICE T kn_silu(T x) {
    return x / ((T)1 + exp(-x));
}
template <class T>
KN_DEVICE T kn_softplus(T x) {
    return kn_max(x, (T)0) + log1p(exp(-fabs(x)));
}
template <class T>
KN_DEVICE T kn_softsign(T x) {
    return x / ((T)1 + fabs(x));
}
template <class T>
KN_DEVICE T kn_mish(T x) {
    return x * tanh(kn_softplus(x));
}
template <class T>
KN_DEVICE T kn_gelu(T x) {
    return (T)0.5 * x * ((T)1 + erf(x * (T)0.70710678118654752440));
}
template <class T>
KN_DEVICE T kn_gelu_tanh(T x) {
    return (T)0.5 * x *
           ((T)1 + tanh((T)0.79788456080286535588 * (x + (T)0.044715 * x * x * x)));
}
/// The same where the result is rounded to a half type.
KN_DEVICE float kn_sigmoid_half(float x) { return kn_reciprocal_fast(1.0f + kn_exp_fast(-x)); }
KN_DEVICE float kn_silu_half(float x) { return x * kn_sigmoid_half(x); }
KN_DEVICE float kn_gelu_tanh_half(float x) {
    return x * kn_sigmoid_half(1.5957691216057308f * (x + 0.044715f * x * x * x));
}
/// The normal distribution's tail below -|x| is exp(-x^2 / 2) times a polynomial in 1 / (1 + c |x|),
/// fitted to 2e-5 of it.
KN_DEVICE float kn_gelu_half(float x) {
    const float t = kn_reciprocal_fast(fmaf(0.365f, fabs(x), 1.0f));
    float tail = fmaf(-0.0939971980676273f, t, 0.22950938345315536f);
    tail = fmaf(tail, t, 0.05998769977570594f);
    tail = fmaf(tail, t, 0.1600962332680756f);
    tail = fmaf(tail, t, 0.14440388157069034f) * t;
    // Infinity times a tail of 0 is no number, which is right at the other end only.
    return fmax(x, 0.0f) - fabs(fmin(x, 64.0f)) * tail * kn_exp_fast(-0.5f * x * x);
}
template <class T>
KN_DEVICE bool kn_is_inf(T x) {
    return fabs(x) == kn_inf(x);
}

/// An element as the type arithmetic on it is done in.
template <class T>
KN_DEVICE T kn_widen(T x) {
    return x;
}
KN_DEVICE float kn_widen(kn_half x) { return kn_float(x); }
KN_DEVICE float kn_widen(kn_bf16 x) { return kn_float(x); }

/// A number of any arithmetic type as an element, as op::Cast says: floats to integers truncate and
/// saturate, NaN gives 0, integers wrap, bool is "!= 0".
template <class To>
struct kn_convert {
    template <class From>
    static __device__ __forceinline__ To from(From x) {
        if constexpr (kn_traits<From>::real && !kn_traits<To>::real) {
            if (x != x) return (To)0;
            if (x <= (From)kn_lowest<To>()) return kn_lowest<To>();
            if (x >= (From)kn_highest<To>()) return kn_highest<To>();
            return (To)x;
        } else {
            return (To)x;
        }
    }
};
template <>
struct kn_convert<bool> {
    template <class From>
    static __device__ __forceinline__ bool from(From x) {
        return x != (From)0;
    }
};
template <>
struct kn_convert<kn_half> {
    template <class From>
    static __device__ __forceinline__ kn_half from(From x) {
        return kn_to_half((float)x);
    }
};
template <>
struct kn_convert<kn_bf16> {
    template <class From>
    static __device__ __forceinline__ kn_bf16 from(From x) {
        return kn_to_bf16((float)x);
    }
};
template <class To, class From>
KN_DEVICE To kn_cast(From x) {
    return kn_convert<To>::from(x);
}

/// The same bits as another type of the same size.
template <class To, class From>
KN_DEVICE To kn_bit_cast(From x) {
    union Bits {
        From from;
        To to;
        __device__ Bits() {}
    } bits;
    bits.from = x;
    return bits.to;
}

/// An index in [-n, n), negative ones counted from the end; others are moved into the tensor.
template <class I, class T>
KN_DEVICE I kn_index(T index, I n) {
    const long long i = index < 0 ? (long long)index + n : (long long)index;
    return i < 0 ? (I)0 : i >= n ? (I)(n - 1) : (I)i;
}

/// N elements that are moved together.
template <class T, int N>
struct alignas(sizeof(T) * N > 16 ? 16 : sizeof(T) * N) kn_vector {
    T lane[N];
};

// Reductions: `Op::join(a, b)` of all threads, the result in each.
struct kn_op_sum {
    template <class T>
    static __device__ __forceinline__ T join(T a, T b) {
        return kn_add(a, b);
    }
    template <class T>
    static __device__ __forceinline__ T start() {
        return (T)0;
    }
};
struct kn_op_prod {
    template <class T>
    static __device__ __forceinline__ T join(T a, T b) {
        return kn_mul(a, b);
    }
    template <class T>
    static __device__ __forceinline__ T start() {
        return (T)1;
    }
};
struct kn_op_max {
    template <class T>
    static __device__ __forceinline__ T join(T a, T b) {
        return kn_max(a, b);
    }
    template <class T>
    static __device__ __forceinline__ T start() {
        return kn_lowest<T>();
    }
};
struct kn_op_min {
    template <class T>
    static __device__ __forceinline__ T join(T a, T b) {
        return kn_min(a, b);
    }
    template <class T>
    static __device__ __forceinline__ T start() {
        return kn_highest<T>();
    }
};

template <class T>
KN_DEVICE T kn_shuffle_any(T x, int mask) {
    if constexpr (kn_traits<T>::real)
        return kn_shuffle_xor(x, mask);
    else if constexpr (sizeof(T) > 4)
        return (T)kn_shuffle_xor((long long)x, mask);
    else
        return (T)kn_shuffle_xor((int)x, mask);
}
/// Over groups of Width (a power of two, at most 32) neighbouring threads of a warp.
template <class Op, int Width, class T>
KN_DEVICE T kn_reduce_warp(T x) {
    KN_UNROLL
    for (int mask = Width / 2; mask > 0; mask /= 2) x = Op::join(x, kn_shuffle_any(x, mask));
    return x;
}
/// Over all Threads of a block (a multiple of 32); `scratch` holds Threads / 32 values and may be
/// used again after the next barrier only.
template <class Op, int Threads, class T>
KN_DEVICE T kn_reduce_block(T x, T* scratch, int thread) {
    x = kn_reduce_warp<Op, 32>(x);
    if constexpr (Threads > 32) {
        kn_sync();
        if (thread % 32 == 0) scratch[thread / 32] = x;
        kn_sync();
        x = scratch[0];
        KN_UNROLL
        for (int i = 1; i < Threads / 32; ++i) x = Op::join(x, scratch[i]);
    }
    return x;
}
/// Over the Rows threads of a block of Columns x Rows that have the same column.
template <class Op, int Columns, int Rows, class T>
KN_DEVICE T kn_reduce_columns(T x, T* scratch, int column, int row) {
    kn_sync();
    scratch[row * Columns + column] = x;
    kn_sync();
    x = scratch[column];
    KN_UNROLL
    for (int i = 1; i < Rows; ++i) x = Op::join(x, scratch[i * Columns + column]);
    return x;
}

#endif  // KN_PRELUDE
