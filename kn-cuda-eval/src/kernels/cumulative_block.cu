// A running sum or product, one lane by one block: for few long lanes.
// In front: x(lane, j), store(lane, j, value), combine(a, b), acc_t, the sizes; 256 threads.
constexpr int kThreads = 256;
constexpr int kEach = 4;
KN_SHARED acc_t part[2][kThreads];
const Int lane = blockIdx.x;
const int thread = threadIdx.x;
acc_t before = kNeutral;  // everything in front of this round
for (Int round = 0; round < kLength; round += kThreads * kEach) {
    const Int begin = round + thread * kEach;
    acc_t own[kEach];
    acc_t all = kNeutral;
    for (int i = 0; i < kEach; ++i) {
        const Int step = begin + i;
        const Int j = kReverse ? kLength - 1 - step : step;
        own[i] = step < kLength ? (acc_t)x(lane, j) : (acc_t)kNeutral;
        all = combine(all, own[i]);
    }
    int at = 0;
    part[0][thread] = all;
    for (int distance = 1; distance < kThreads; distance *= 2) {
        kn_sync();
        const acc_t mine = part[at][thread];
        part[1 - at][thread] =
            thread >= distance ? combine(part[at][thread - distance], mine) : mine;
        at = 1 - at;
    }
    kn_sync();
    acc_t running = thread == 0 ? before : combine(before, part[at][thread - 1]);
    before = combine(before, part[at][kThreads - 1]);
    kn_sync();
    for (int i = 0; i < kEach; ++i) {
        const Int step = begin + i;
        if (step >= kLength) break;
        const Int j = kReverse ? kLength - 1 - step : step;
        if (kExclusive) store(lane, j, running);
        running = combine(running, own[i]);
        if (!kExclusive) store(lane, j, running);
    }
}
