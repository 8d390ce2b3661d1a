// Products of a few rows, which lie in shared memory, by weights, of which each thread holds vectors: a warp has eight columns,
// a thread of it, lane = 4 row + quad, those vectors of column `row` whose number is quad, modulo 4.

/// Eight columns of products of `Rows` (8 at most) rows: half types on the tensor cores, float32 in multiply-adds.
template <class T, int Rows>
struct kn_eight_columns {
    float sums[2] = {0, 0};

    /// x: this thread's place of the first row; rows are `pitch` elements apart.
    KN_DEVICE void add(const kn_vector<T, 8>& weights, const T* x, int pitch) {
        const int row = threadIdx.x % 32 / 4;
        union Words {
            kn_vector<T, 8> vector;
            unsigned word[4];
            __device__ Words() {}
        } a, b;
        b.vector = weights;
        if (row < Rows) {
            a.vector = *(const kn_vector<T, 8>*)(x + row * pitch);
        } else {
            KN_UNROLL
            for (int i = 0; i < 4; ++i) a.word[i] = 0;
        }
        // Which place of k is which does not matter as long as both agree.
        kn_multiply_halves(T(), sums, a.word[0], a.word[1], b.word[0], b.word[1]);
        kn_multiply_halves(T(), sums, a.word[2], a.word[3], b.word[2], b.word[3]);
    }
    /// store(row, column, sum) for each sum, by one thread.
    template <class Store>
    KN_DEVICE void give(const Store& store) const {
        const int row = threadIdx.x % 32 / 4, column = threadIdx.x % 4 * 2;
        if (row >= Rows) return;
        store(row, column, sums[0]);
        store(row, column + 1, sums[1]);
    }
};

template <int Rows>
struct kn_eight_columns<float, Rows> {
    float sums[Rows] = {};

    KN_DEVICE void add(const kn_vector<float, 4>& weights, const float* x, int pitch) {
        KN_UNROLL
        for (int row = 0; row < Rows; ++row) {
            const kn_vector<float, 4> a = *(const kn_vector<float, 4>*)(x + row * pitch);
            KN_UNROLL
            for (int i = 0; i < 4; ++i) sums[row] = fmaf(weights.lane[i], a.lane[i], sums[row]);
        }
    }
    template <class Store>
    KN_DEVICE void give(const Store& store) const {
        KN_UNROLL
        for (int row = 0; row < Rows; ++row) {
            const float sum = kn_reduce_warp<kn_op_sum, 4>(sums[row]);
            if (row % 4 == threadIdx.x % 4) store(row, threadIdx.x % 32 / 4, sum);
        }
    }
};
