// Statistics of the rows that an epilogue writes, for a norm of whole rows behind it: of each row of a tile, the mean and the
// squared distances from it.
//
// What the generator defines in front of this text:
//   KN_N, KN_BN       columns of y, of which tiles have equally many

// What a thread has seen of some rows, as differences from its first element of each: these are as small as the row's elements
// lie apart, so that sums of them and of their squares keep what float32 can.
template <int rows>
struct kn_row_moments {
    float firsts[rows], sums[rows], squares[rows];

    template <int count>
    KN_DEVICE void add(int row, const float (&x)[count], bool first) {
        if (first) {
            firsts[row] = x[0];
            sums[row] = squares[row] = 0;
        }
#pragma unroll
        for (int i = 0; i < count; i++) {
            const float distance = x[i] - firsts[row];
            sums[row] += distance;
            squares[row] = fmaf(distance, distance, squares[row]);
        }
    }

    // A warp's rows, each of them shared by `width` neighbours that have seen equally much of it.
    template <int width>
    KN_DEVICE void give(float* parts, long long row0, int column0) {
        const int lane = threadIdx.x % 32;
#pragma unroll
        for (int i = 0; i < rows; i++) {
            float count = KN_BN / width;
            float mean = sums[i] * (1.0f * width / KN_BN), spread = squares[i] - sums[i] * mean;
            mean += firsts[i];
            spread = spread < 0 ? 0 : spread;  // and NaN as it is
#pragma unroll
            for (int mask = 1; mask < width; mask *= 2) {
                const float distance = kn_shuffle_xor(mean, mask) - mean;
                spread += kn_shuffle_xor(spread, mask);
                spread = fmaf(distance * distance, count * 0.5f, spread);
                mean += distance * 0.5f;
                count *= 2;
            }
            const long long row = row0 + i * (32 / width) + lane / width;
            if (lane % width == 0 && row < KN_M)
                reinterpret_cast<float2*>(parts)[column0 / KN_BN * static_cast<long long>(KN_M) + row] = make_float2(mean, spread);
        }
    }
};
