// Combines updates with the result, which holds x: one lane by one thread, in the order of the
// updates, so that sums are the same each time.
// In front: y_of(i, lane), the address an update goes to; updates(i, lane); combine(old, update);
// kCount, kLanes.
const Int lane = (Int)blockIdx.x * blockDim.x + threadIdx.x;
if (lane >= kLanes) return;
for (Int i = 0; i < kCount; ++i) {
    y_t* const place = y_of(i, lane);
    *place = combine(*place, updates(i, lane));
}
