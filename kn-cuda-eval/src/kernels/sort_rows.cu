// Sorts rows, or chunks of long ones, in shared memory (bitonic) and keeps the first kKept of each.
// In front: x(lane, j), key_of(value): unsigned, in the order wanted, keep(row, i, item) and the sizes.
// Rows are chunks of lanes: row = lane * kChunks + chunk. Equal keys are ordered by their index.
constexpr int kItems = kSize * kRowsPerBlock;
KN_SHARED item_t items[kItems];
const Int first = (Int)blockIdx.x * kRowsPerBlock;
for (int i = threadIdx.x; i < kItems; i += blockDim.x) {
    const Int row = first + i / kSize;
    const Int j = row % kChunks * kSize + i % kSize;
    const bool inside = row < (Int)kLanes * kChunks && j < kLength;
    items[i] = inside ? make_item(key_of(x(row / kChunks, j)), (unsigned)j) : last_item();
}
for (int width = 2; width <= kSize; width *= 2)
    for (int step = width / 2; step > 0; step /= 2) {
        kn_sync();
        for (int pair = threadIdx.x; pair < kItems / 2; pair += blockDim.x) {
            const int i = 2 * pair - (pair & (step - 1));
            const bool up = (i & (kSize - 1) & width) == 0;
            const item_t a = items[i], b = items[i + step];
            if (less(b, a) == up) {
                items[i] = b;
                items[i + step] = a;
            }
        }
    }
kn_sync();
for (int i = threadIdx.x; i < kKept * kRowsPerBlock; i += blockDim.x) {
    const Int row = first + i / kKept;
    if (row < (Int)kLanes * kChunks) keep(row, i % kKept, items[i / kKept * kSize + i % kKept]);
}
