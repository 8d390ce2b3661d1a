// Products of a few rows, which lie in shared memory, by weights, of which each thread holds vectors: a warp has eight columns,
// a thread of it, lane = 4 row + quad, those vectors of column `row` whose number is quad, modulo 4.

/// Eight columns of products of `Rows` (8 at most) rows: half types on the tensor cores, float32 in multiply-adds.
template <class T, int Rows>
struct kn_eight_columns {
    float sums[2][4] = {};  // of every other place of k

    /// What the thread multiplies, as it is in registers. x: its place of the first row; rows are
    /// `pitch` elements apart.
    using Weights = kn_words;
    using Operand = kn_words;
    static KN_DEVICE Operand load(const T* x, int pitch) {
        // Rows that there are not have no sums that anybody looks at.
        return *(const Operand*)(x + min(static_cast<int>(threadIdx.x % 32 / 4), Rows - 1) * pitch);
    }
    KN_DEVICE void add(const Weights& w, const Operand& x) {
        // Which place of k is which does not matter as long as both agree.
        kn_multiply_halves(T(), sums[0], x.x, x.y, w.x, w.y);
        kn_multiply_halves(T(), sums[1], x.z, x.w, w.z, w.w);
    }
    /// store(row, column, sum) for each sum, by one thread.
    template <class Store>
    KN_DEVICE void give(const Store& store) const {
        const int row = threadIdx.x % 32 / 4, column = threadIdx.x % 4 * 2;
        if (row >= Rows) return;
        store(row, column, sums[0][0] + sums[1][0]);
        store(row, column + 1, sums[0][1] + sums[1][1]);
    }
};

template <int Rows>
struct kn_eight_columns<float, Rows> {
    float sums[Rows] = {};

    using Weights = kn_vector<float, 4>;
    struct Operand {
        const float* x;
        int pitch;
    };
    static KN_DEVICE Operand load(const float* x, int pitch) { return {x, pitch}; }
    KN_DEVICE void add(const Weights& weights, const Operand& of) {
        KN_UNROLL
        for (int row = 0; row < Rows; ++row) {
            const kn_vector<float, 4> a = *(const kn_vector<float, 4>*)(of.x + row * of.pitch);
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
