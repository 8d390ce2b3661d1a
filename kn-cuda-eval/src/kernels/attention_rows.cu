// Attention for a tile of queries of one head, the softmax kept up while keys go by.
// In front: q(b, h, s, d), k(b, g, t, d), v(b, g, t, e), score_of(b, h, s, t, product) with scale and
// mask, visible(s): how many keys a query sees, store(b, h, s, e, split, value), acc_t, the sizes.
// With kSplits > 1 a block takes kSpan of the keys, and the sums are stored undivided together with
// limits(b, h, s, split, 0: largest score or 1: sum of weights, value), for attention_merge.
// 256 threads as 16 x 16: thread (ty, tx) has the queries ty * kRows + r, the keys tx * kCols + c and
// the result's columns column(e).
constexpr int kQ = 16 * kRows;
constexpr int kK = 16 * kCols;
constexpr int kChunk = 32;  // of the heads' width in shared memory at a time
constexpr int kPad = 4;     // keeps rows off each other's banks
constexpr int kOutWidth = 16 * kOut;
constexpr int kStage = kChunk * (kQ + kK + 2 * kPad);
static_assert(kValueRows * kOutWidth <= kStage, "values do not fit");
alignas(16) KN_SHARED acc_t stage[kStage];
alignas(16) KN_SHARED acc_t weights[kK * (kQ + kPad)];
acc_t* const queries = stage;
acc_t* const keys = stage + kChunk * (kQ + kPad);

const int tx = threadIdx.x % 16;
const int ty = threadIdx.x / 16;
// The last tiles first: under a causal mask they see most keys.
const int tile = kTiles - 1 - (int)(blockIdx.x % kTiles);
const int split = blockIdx.x / kTiles % kSplits;
const Int b = blockIdx.x / kTiles / kSplits / kHeads;
const Int h = blockIdx.x / kTiles / kSplits % kHeads;
const Int g = h / (kHeads / kGroups);
const int first = tile * kQ;
const int last = first + kQ < kQueries ? first + kQ - 1 : kQueries - 1;
const int begin = split * kSpan;
const int seen_by_all = visible(last);
const int end = seen_by_all < begin + kSpan ? seen_by_all : begin + kSpan;
const auto column = [&](int e) {
    return e / kOutVector * 16 * kOutVector + tx * kOutVector + e % kOutVector;
};

acc_t out[kRows][kOut] = {};
acc_t largest[kRows], total[kRows];
#pragma unroll
for (int r = 0; r < kRows; ++r) {
    largest[r] = -infinity;
    total[r] = 0;
}

for (int t0 = begin; t0 < end; t0 += kK) {
    acc_t score[kRows][kCols] = {};
    for (int d0 = 0; d0 < kWidth; d0 += kChunk) {
        kn_sync();
        // Eight elements of four rows by a warp: whole sectors of memory, and all banks.
        for (int i = threadIdx.x; i < kQ * kChunk; i += 256) {
            const int d = i % 8 + i / (8 * kQ) * 8;
            const int s = i / 8 % kQ;
            const bool inside = first + s < kQueries && d0 + d < kWidth;
            queries[d * (kQ + kPad) + s] = inside ? q(b, h, first + s, d0 + d) : acc_t(0);
        }
        for (int i = threadIdx.x; i < kK * kChunk; i += 256) {
            const int d = i % 8 + i / (8 * kK) * 8;
            const int t = i / 8 % kK;
            const bool inside = t0 + t < end && d0 + d < kWidth;
            keys[d * (kK + kPad) + t] = inside ? k(b, g, t0 + t, d0 + d) : acc_t(0);
        }
        kn_sync();
#pragma unroll 8
        for (int d = 0; d < kChunk; ++d) {
            acc_t left[kRows], right[kCols];
#pragma unroll
            for (int r = 0; r < kRows; ++r) left[r] = queries[d * (kQ + kPad) + ty * kRows + r];
#pragma unroll
            for (int c = 0; c < kCols; ++c) right[c] = keys[d * (kK + kPad) + tx * kCols + c];
#pragma unroll
            for (int r = 0; r < kRows; ++r)
#pragma unroll
                for (int c = 0; c < kCols; ++c) score[r][c] += left[r] * right[c];
        }
    }

#pragma unroll
    for (int r = 0; r < kRows; ++r) {
        const int s = first + ty * kRows + r;
        acc_t top = -infinity;
#pragma unroll
        for (int c = 0; c < kCols; ++c) {
            const int t = t0 + tx * kCols + c;
            const bool seen = s < kQueries && t < end && t < visible(s);
            score[r][c] = seen ? score_of(b, h, s, t, score[r][c]) : -infinity;
            top = score[r][c] > top ? score[r][c] : top;
        }
        for (int lane = 8; lane > 0; lane /= 2) {
            const acc_t other = kn_shuffle_xor(top, lane);
            top = other > top ? other : top;
        }
        const acc_t next = top > largest[r] ? top : largest[r];
        // While a row has seen nothing there is nothing to subtract.
        const acc_t shift = next == -infinity ? acc_t(0) : next;
        const acc_t factor = largest[r] == next ? acc_t(1) : exp(largest[r] - shift);
        largest[r] = next;
        acc_t sum = 0;
#pragma unroll
        for (int c = 0; c < kCols; ++c) {
            const acc_t weight = exp(score[r][c] - shift);
            sum += weight;
            weights[(tx * kCols + c) * (kQ + kPad) + ty * kRows + r] = weight;
        }
        for (int lane = 8; lane > 0; lane /= 2) sum += kn_shuffle_xor(sum, lane);
        total[r] = total[r] * factor + sum;
#pragma unroll
        for (int e = 0; e < kOut; ++e) out[r][e] *= factor;
    }

    for (int v0 = 0; v0 < kK && t0 + v0 < end; v0 += kValueRows) {
        kn_sync();
        for (int i = threadIdx.x; i < kValueRows * kOutWidth; i += 256) {
            const int t = t0 + v0 + i / kOutWidth;
            const int e = i % kOutWidth;
            stage[i] = t < end && e < kValueWidth ? v(b, g, t, e) : acc_t(0);
        }
        kn_sync();
#pragma unroll 4
        for (int i = 0; i < kValueRows; ++i) {
            acc_t left[kRows];
#pragma unroll
            for (int r = 0; r < kRows; ++r)
                left[r] = weights[(v0 + i) * (kQ + kPad) + ty * kRows + r];
#pragma unroll
            for (int e = 0; e < kOut; ++e) {
                const acc_t right = stage[i * kOutWidth + column(e)];
#pragma unroll
                for (int r = 0; r < kRows; ++r) out[r][e] += left[r] * right;
            }
        }
    }
}

#pragma unroll
for (int r = 0; r < kRows; ++r) {
    const int s = first + ty * kRows + r;
    if (s >= kQueries) break;
#pragma unroll
    for (int e = 0; e < kOut; ++e)
        // A row that saw nothing is 0 / 0.
        if (column(e) < kValueWidth)
            store(b, h, s, column(e), split, kSplits > 1 ? out[r][e] : out[r][e] / total[r]);
    if (kSplits > 1 && tx == 0) {
        limits(b, h, s, split, 0, largest[r]);
        limits(b, h, s, split, 1, total[r]);
    }
}
