// Attention in float32 by the tensor cores, for a tile of queries of one head, the softmax kept up while keys go by. A product
// is three TF32 ones, high * high + high * low + low * high, of which kExact says where there is nothing low; 32 columns are
// summed apart, the low parts first, and added in float32, so that the tensor cores' rounding towards zero does not add up.
// In front: what attention_rows.cu says, and kWarps of 16 queries, kKeys of a tile, a multiple of 32; kExact: keys and values
// are of half types.
constexpr int kQ = 16 * kWarps, kThreads = 32 * kWarps;
constexpr int kSteps = (kWidth + 7) / 8, kColumns = (kValueWidth + 7) / 8;  // of 8
// Rows of four times an odd number of floats lie in different banks.
constexpr int kPitch = 8 * kSteps + 4, kValuePitch = 8 * kColumns + 4;
constexpr int kPieces = kKeys / 8;
constexpr int kKeyLoads = kKeys * 8 * kSteps / kThreads, kValueLoads = kKeys * 8 * kColumns / kThreads;
KN_DYNAMIC_SHARED(memory);
float* const queries = (float*)memory;
float* const tile_rows = queries + kQ * kPitch;  // keys, then values

const int lane = threadIdx.x % 32, quad = lane % 4;
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
// Out of the compiler's sight, which would unroll the loop over few tiles.
const int end = kn_shuffle(seen_by_all < begin + kSpan ? seen_by_all : begin + kSpan, 0);
const int local = threadIdx.x / 32 * 16 + lane / 4;  // this thread's row of the tile, and the eighth behind it

const auto high_of = [](float x) { return kn_float_to_bits(x) & 0xffffe000u; };
// Rounded, but for the lowest bits, which products do not see.
const auto low_of = [&](float x) { return kn_float_to_bits(x - kn_bits_to_float(high_of(x))) + 0x1000u; };
// Columns of weights or scores of 16 rows, and what they are multiplied with.
struct Rows {
    unsigned high[4][4], low[4][4];
};
const auto set_rows = [&](Rows& rows, int step, int i, float x) {
    rows.high[step][i] = high_of(x);
    rows.low[step][i] = low_of(x);
};
// sums += rows b for four steps, of which `steps` are there; of b in shared memory, the next step's and the second half of a
// step's rows lie so far behind the first.
const auto multiply = [&](float(&sums)[4], const Rows& rows, int steps, const float* b, int next_step, int next_half) {
#pragma unroll
    for (int step = 0; step < 4; ++step) {
        if (step >= steps) continue;
        const float b0 = b[step * next_step], b1 = b[step * next_step + next_half];
        kn_multiply_tf32(sums, rows.low[step], high_of(b0), high_of(b1));
        if (!kExact) kn_multiply_tf32(sums, rows.high[step], low_of(b0), low_of(b1));
    }
#pragma unroll
    for (int step = 0; step < 4; ++step)
        if (step < steps)
            kn_multiply_tf32(sums, rows.high[step], high_of(b[step * next_step]), high_of(b[step * next_step + next_half]));
};

for (int i = threadIdx.x; i < kQ * 8 * kSteps; i += kThreads) {
    const int s = i / (8 * kSteps), d = i % (8 * kSteps);
    queries[s * kPitch + d] = first + s < kQueries && d < kWidth ? q(b, h, first + s, d) : 0.0f;
}
// The next keys or values are on their way while the tensor cores work.
float coming_keys[kKeyLoads], coming_values[kValueLoads];
const auto load_keys = [&](int t0) {
#pragma unroll
    for (int i = 0; i < kKeyLoads; ++i) {
        const int t = t0 + (i * kThreads + threadIdx.x) / (8 * kSteps), d = (i * kThreads + threadIdx.x) % (8 * kSteps);
        coming_keys[i] = t < end && d < kWidth ? k(b, g, t, d) : 0.0f;
    }
};
const auto load_values = [&](int t0) {
#pragma unroll
    for (int i = 0; i < kValueLoads; ++i) {
        const int t = t0 + (i * kThreads + threadIdx.x) / (8 * kColumns), e = (i * kThreads + threadIdx.x) % (8 * kColumns);
        coming_values[i] = t < end && e < kValueWidth ? v(b, g, t, e) : 0.0f;
    }
};

float out[kColumns][4] = {};
float largest[2] = {-infinity, -infinity}, total[2] = {0, 0};
if (begin < end) load_keys(begin);
#pragma unroll 1
for (int t0 = begin; t0 < end; t0 += kKeys) {
    kn_sync();
#pragma unroll
    for (int i = 0; i < kKeyLoads; ++i)
        tile_rows[(i * kThreads + threadIdx.x) / (8 * kSteps) * kPitch + (i * kThreads + threadIdx.x) % (8 * kSteps)] = coming_keys[i];
    kn_sync();
    load_values(t0);

    float score[kPieces][4] = {};
#pragma unroll 1
    for (int slab = 0; slab < kSteps; slab += 4) {
        Rows rows;
        const int steps = kSteps % 4 == 0 ? 4 : kSteps - slab;
#pragma unroll
        for (int step = 0; step < 4; ++step)
#pragma unroll
            for (int i = 0; i < 4; ++i)
                if (step < steps)
                    set_rows(rows, step, i, queries[(local + i % 2 * 8) * kPitch + (slab + step) * 8 + i / 2 * 4 + quad]);
#pragma unroll
        for (int piece = 0; piece < kPieces; ++piece) {
            float part[4] = {};
            const float* const key = tile_rows + (piece * 8 + lane / 4) * kPitch + slab * 8 + quad;
            multiply(part, rows, steps, key, 8, 4);
#pragma unroll
            for (int i = 0; i < 4; ++i) score[piece][i] += part[i];
        }
    }

#pragma unroll
    for (int r = 0; r < 2; ++r) {
        const int s = first + local + 8 * r;
        float top = -infinity;
#pragma unroll
        for (int i = 0; i < 2 * kPieces; ++i) {
            const int t = t0 + i / 2 * 8 + quad * 2 + i % 2;
            float& x = score[i / 2][2 * r + i % 2];
            const bool seen = s < kQueries && t < end && t < visible(s);
            x = seen ? score_of(b, h, s, t, x) : -infinity;
            top = x > top ? x : top;
        }
#pragma unroll
        for (int other = 1; other <= 2; other *= 2) {
            const float theirs = kn_shuffle_xor(top, other);
            top = theirs > top ? theirs : top;
        }
        const float next = top > largest[r] ? top : largest[r];
        // While a row has seen nothing there is nothing to subtract.
        const float shift = next == -infinity ? 0.0f : next;
        const float factor = largest[r] == next ? 1.0f : exp(largest[r] - shift);
        largest[r] = next;
        float sum = 0;
#pragma unroll
        for (int i = 0; i < 2 * kPieces; ++i) {
            float& x = score[i / 2][2 * r + i % 2];
            x = exp(x - shift);
            sum += x;
        }
        total[r] = total[r] * factor + sum;
#pragma unroll
        for (int column = 0; column < kColumns; ++column)
#pragma unroll
            for (int i = 0; i < 2; ++i) out[column][2 * r + i] *= factor;
    }

    kn_sync();
#pragma unroll
    for (int i = 0; i < kValueLoads; ++i)
        tile_rows[(i * kThreads + threadIdx.x) / (8 * kColumns) * kValuePitch + (i * kThreads + threadIdx.x) % (8 * kColumns)] =
            coming_values[i];
    kn_sync();
    if (t0 + kKeys < end) load_keys(t0 + kKeys);
#pragma unroll
    for (int slab = 0; slab < kPieces; slab += 4) {
        Rows rows;
        // A thread's scores are of neighbouring keys, which stand for the columns quad and quad + 4 of a product.
#pragma unroll
        for (int step = 0; step < 4; ++step)
#pragma unroll
            for (int i = 0; i < 4; ++i) set_rows(rows, step, i, score[slab + step][i % 2 * 2 + i / 2]);
#pragma unroll
        for (int column = 0; column < kColumns; ++column) {
            float part[4] = {};
            const float* const value = tile_rows + (slab * 8 + quad * 2) * kValuePitch + column * 8 + lane / 4;
            multiply(part, rows, 4, value, 8 * kValuePitch, kValuePitch);
#pragma unroll
            for (int i = 0; i < 4; ++i) out[column][i] += part[i];
        }
    }
}

#pragma unroll
for (int r = 0; r < 2; ++r) {
    const int s = first + local + 8 * r;
    total[r] += kn_shuffle_xor(total[r], 1);
    total[r] += kn_shuffle_xor(total[r], 2);
    if (s >= kQueries) continue;
#pragma unroll
    for (int i = 0; i < 2 * kColumns; ++i) {
        const int e = i / 2 * 8 + quad * 2 + i % 2;
        const float sum = out[i / 2][2 * r + i % 2];
        // A row that saw nothing is 0 / 0.
        if (e < kValueWidth) store(b, h, s, e, split, kSplits > 1 ? sum : sum / total[r]);
    }
    if (kSplits > 1 && quad == 0) {
        limits(b, h, s, split, 0, largest[r]);
        limits(b, h, s, split, 1, total[r]);
    }
}
