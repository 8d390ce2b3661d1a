// What is known of a part of a row, and how parts are put together: each loses no more than going
// over the row once for each statistic would.
#ifdef __CUDA_ARCH__
#define KN_UNROLL_SOME _Pragma("unroll 4")
#else
#define KN_UNROLL_SOME
#endif

/// Sum, product, largest, smallest. Counts are not needed.
template <class Op, class T>
struct kn_total {
    T value;
    static __device__ __forceinline__ kn_total start() { return {Op::template start<T>()}; }
    __device__ __forceinline__ void add(T x, T) { value = Op::join(value, x); }
    template <class N>
    __device__ __forceinline__ void join(kn_total other, N, N) {
        value = Op::join(value, other.value);
    }
    __device__ __forceinline__ T number(int) const { return value; }
    static __device__ __forceinline__ kn_total from(const T* numbers, int) { return {numbers[0]}; }
    __device__ __forceinline__ kn_total shuffled(int mask) const { return {kn_shuffle_any(value, mask)}; }
};

/// Mean, and squared distances from it (Welford; Chan, Golub and LeVeque for two parts).
template <class T>
struct kn_moments {
    T mean, squares;
    static __device__ __forceinline__ kn_moments start() { return {(T)0, (T)0}; }
    /// `share`: 1 / how many there are with this one.
    __device__ __forceinline__ void add(T x, T share) {
        const T distance = x - mean;
        mean += distance * share;
        squares += distance * (x - mean);
    }
    template <class N>
    __device__ __forceinline__ void join(kn_moments other, N count, N other_count) {
        if (other_count == (N)0) return;
        const T share = (T)other_count / (T)(count + other_count);
        const T distance = other.mean - mean;
        mean += distance * share;
        squares += other.squares + distance * distance * ((T)count * share);
    }
    __device__ __forceinline__ T number(int i) const { return i == 0 ? mean : squares; }
    static __device__ __forceinline__ kn_moments from(const T* numbers, int step) {
        return {numbers[0], numbers[step]};
    }
    __device__ __forceinline__ kn_moments shuffled(int mask) const {
        return {kn_shuffle_any(mean, mask), kn_shuffle_any(squares, mask)};
    }
};

/// The largest element, and the sum of exp(x - largest).
template <class T>
struct kn_exponentials {
    T most, sum;
    static __device__ __forceinline__ kn_exponentials start() { return {kn_lowest<T>(), (T)0}; }
    __device__ __forceinline__ void add(T x, T) { join({x, (T)1}, 0, 0); }
    template <class N>
    __device__ __forceinline__ void join(kn_exponentials other, N, N) {
        const T largest = kn_max(most, other.most);
        if (largest == kn_lowest<T>()) return;  // nothing but exp(-inf) so far
        sum = sum * exp(most - largest) + other.sum * exp(other.most - largest);
        most = largest;
    }
    __device__ __forceinline__ T number(int i) const { return i == 0 ? most : sum; }
    static __device__ __forceinline__ kn_exponentials from(const T* numbers, int step) {
        return {numbers[0], numbers[step]};
    }
    __device__ __forceinline__ kn_exponentials shuffled(int mask) const {
        return {kn_shuffle_any(most, mask), kn_shuffle_any(sum, mask)};
    }
};

/// Steps of `stride` from a place `rest` in front of the end, at most `most`.
template <class I>
KN_DEVICE I kn_steps(I rest, I stride, I most) {
    const I steps = rest > 0 ? (rest + stride - 1) / stride : 0;
    return steps < most ? steps : most;
}
