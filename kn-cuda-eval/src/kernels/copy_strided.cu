// y = x, element by element, for any strides: T is the element as an unsigned integer, `rank` the
// number of axes in use, outermost first; n the number of elements.
KN_KERNEL __launch_bounds__(256)
    kn_copy_strided(const T* __restrict__ x, T* __restrict__ y, long long n, long long rank,
                    long long d0, long long d1, long long d2, long long d3, long long d4,
                    long long d5, long long d6, long long d7, long long x0, long long x1,
                    long long x2, long long x3, long long x4, long long x5, long long x6,
                    long long x7, long long y0, long long y1, long long y2, long long y3,
                    long long y4, long long y5, long long y6, long long y7) {
    const long long dims[8] = {d0, d1, d2, d3, d4, d5, d6, d7};
    const long long x_strides[8] = {x0, x1, x2, x3, x4, x5, x6, x7};
    const long long y_strides[8] = {y0, y1, y2, y3, y4, y5, y6, y7};
    const long long step = (long long)gridDim.x * 256;
    for (long long i = (long long)blockIdx.x * 256 + threadIdx.x; i < n; i += step) {
        long long left = i, from = 0, to = 0;
        KN_UNROLL
        for (int axis = 7; axis >= 0; --axis) {
            if (axis >= rank) continue;
            // Division of 64 bits only where the numbers need it.
            const long long rest = ((left | dims[axis]) >> 31) == 0 ? (long long)((unsigned)left / (unsigned)dims[axis])
                                                     : left / dims[axis];
            const long long at = left - rest * dims[axis];
            from += at * x_strides[axis];
            to += at * y_strides[axis];
            left = rest;
        }
        y[to] = x[from];
    }
}
