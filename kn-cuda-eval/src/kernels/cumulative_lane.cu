// A running sum or product, one lane by one thread: for many lanes.
// In front: x(lane, j), store(lane, j, value), combine(a, b), acc_t, the sizes.
const Int lane = (Int)blockIdx.x * blockDim.x + threadIdx.x;
if (lane >= kLanes) return;
acc_t running = kNeutral;
for (Int step = 0; step < kLength; ++step) {
    const Int j = kReverse ? kLength - 1 - step : step;
    if (kExclusive) store(lane, j, running);
    running = combine(running, (acc_t)x(lane, j));
    if (!kExclusive) store(lane, j, running);
}
