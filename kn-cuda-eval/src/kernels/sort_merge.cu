// Merges the sorted chunks of each lane: an item's rank is the number of items before it in all of
// them. In front: run(row, i), keep(lane, rank, item) and the sizes.
const Int task = (Int)blockIdx.x * blockDim.x + threadIdx.x;
if (task >= (Int)kLanes * kChunks * kKept) return;
const int i = (int)(task % kKept);
const Int row = task / kKept;
const Int lane = row / kChunks;
const item_t item = run(row, i);
Int rank = i;
for (int other = 0; other < kChunks && rank < kTop; ++other) {
    if (lane * kChunks + other == row) continue;
    int low = 0, high = kKept;
    while (low < high) {
        const int middle = (low + high) / 2;
        if (less(run(lane * kChunks + other, middle), item))
            low = middle + 1;
        else
            high = middle;
    }
    rank += low;
}
if (rank < kTop) keep(lane, (int)rank, item);
