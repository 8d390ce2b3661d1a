// A recurrent layer: a block takes kTile sequences through all time steps.
// In front: input(t, b, j), the gates' share of x with its bias left out; r(j, k); bias(j);
// length(b); h0, c0, peephole; all(t, b, j, value), last_h and last_c to store; f0, f1, f2, the
// gates' functions with their clipping; state, room for kTile * kState elements; acc_t, the sizes.
constexpr bool kLstm = kGates == 4;
constexpr bool kGru = kGates == 3;
constexpr int kWidth = kGates * kHidden;
acc_t* const h = state;                     // [kTile][kHidden]
acc_t* const c = state + kTile * kHidden;   // likewise, of an LSTM
acc_t* const gates = state + (kLstm ? 2 : 1) * kTile * kHidden;  // [kTile][kWidth]
const Int first = (Int)blockIdx.x * kTile;
const int tile = kBatch - first < kTile ? (int)(kBatch - first) : kTile;

for (int i = threadIdx.x; i < tile * kHidden; i += blockDim.x) {
    h[i] = h0(first + i / kHidden, i % kHidden);
    if (kLstm) c[i] = c0(first + i / kHidden, i % kHidden);
}
// With linear_before_reset the recurrent bias of a GRU's new state comes in before the reset gate.
const auto bias_of = [&](Int j) -> acc_t {
    if (kApart && j >= 2 * kHidden) return bias(j);
    return bias(j) + bias(kWidth + j);
};
// sum[i] += row j of r times `vector` of sequence i, its elements `stride` apart from the next's.
const auto add_row = [&](Int j, const acc_t* vector, int stride, acc_t* sum) {
#pragma unroll 4
    for (int k = 0; k < kHidden; ++k) {
        const acc_t factor = r(j, k);
#pragma unroll
        for (int i = 0; i < kTile; ++i) sum[i] += factor * vector[i * stride + k];
    }
};

for (Int step = 0; step < kSteps; ++step) {
    const Int t = kReverse ? kSteps - 1 - step : step;
    kn_sync();
    for (int j = threadIdx.x; j < kWidth; j += blockDim.x) {
        acc_t sum[kTile];
        const bool fresh = kGru && j >= 2 * kHidden;
        if (fresh && !kApart) break;
        for (int i = 0; i < kTile; ++i)
            sum[i] = i >= tile ? acc_t(0)
                     : fresh   ? bias(kWidth + j)
                               : input(t, first + i, j) + bias_of(j);
        add_row(j, h, kHidden, sum);
        for (int i = 0; i < tile; ++i) gates[i * kWidth + j] = sum[i];
    }
    kn_sync();
    if (kGru) {
        // The update gate, and what the new state sees of the old one.
        for (int i = threadIdx.x; i < tile * kHidden; i += blockDim.x) {
            acc_t* const own = gates + i / kHidden * kWidth + i % kHidden;
            own[0] = f0(own[0]);
            const acc_t reset = f0(own[kHidden]);
            own[kHidden] = reset * (kApart ? own[2 * kHidden] : h[i]);
        }
        kn_sync();
        for (int j = threadIdx.x; j < kHidden; j += blockDim.x) {
            acc_t sum[kTile];
            for (int i = 0; i < kTile; ++i) {
                sum[i] = 0;
                if (i >= tile) continue;
                sum[i] = input(t, first + i, 2 * kHidden + j) + bias_of(2 * kHidden + j);
                if (kApart) sum[i] += gates[i * kWidth + kHidden + j];
            }
            if (!kApart) add_row(2 * kHidden + j, gates + kHidden, kWidth, sum);
            for (int i = 0; i < tile; ++i) gates[i * kWidth + 2 * kHidden + j] = sum[i];
        }
        kn_sync();
    }
    for (int i = threadIdx.x; i < tile * kHidden; i += blockDim.x) {
        const Int b = first + i / kHidden;
        const int j = i % kHidden;
        const acc_t* const own = gates + i / kHidden * kWidth + j;
        if (t >= length(b)) {
            all(t, b, j, acc_t(0));
            continue;
        }
        if (kLstm) {
            acc_t in = own[0], out = own[kHidden], forget = own[2 * kHidden];
            if (kPeephole) {
                in += peephole(j) * c[i];
                forget += peephole(2 * kHidden + j) * c[i];
            }
            in = f0(in);
            forget = kInputForget ? 1 - in : f0(forget);
            c[i] = forget * c[i] + in * f1(own[3 * kHidden]);
            if (kPeephole) out += peephole(kHidden + j) * c[i];
            h[i] = f0(out) * f2(c[i]);
        } else if (kGru) {
            h[i] = (1 - own[0]) * f1(own[2 * kHidden]) + own[0] * h[i];
        } else {
            h[i] = f0(own[0]);
        }
        all(t, b, j, h[i]);
    }
}
for (int i = threadIdx.x; i < tile * kHidden; i += blockDim.x) {
    last_h(first + i / kHidden, i % kHidden, h[i]);
    if (kLstm) last_c(first + i / kHidden, i % kHidden, c[i]);
}
