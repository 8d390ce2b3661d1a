// Two products of the same rows on Hopper's tensor cores (sm_90a), in half types:
//
//     y[m, n] = finish of sum over k of x[m, k] w[n, k], or of that and the same of x_also and w_also
//     z[m, j] = finish of sum over n of y[m, n] w2[j, n]
//
// Both weights stay in a block's shared memory. Groups of 128 threads take tiles of 64 rows in turn: a tile's sums become
// rows of y in shared memory, in the place of what is added to them; there the copy engine fetches them, and the tensor cores
// read them for the second product, whose results take their place. One more thread has the copy engine bring the next tiles'
// rows of x and of what is added; its warp group gives its registers to the others.
//
// What the generator defines in front of this text, staged_pairs.cu between them:
//   KN_M, KN_N, KN_N2   rows; columns of y and of z, multiples of 64
//   KN_SLABS            of k, 64 elements each: KN_OWN_SLABS of x, the others of x_also
//   KN_COLUMNS          of y that are multiplied at once, a multiple of 64
//   KN_GROUPS           of 128 threads
//   KN_X_STAGES         tiles of x in flight
//   KN_Y_STAGES         tiles of y in flight
//   KN_BEFORE           1: y begins as what map_before shows
//   KN_KEEP             1: y is given away, too
//   kn_first, kn_second(acc, a, b, first)   one k step of 64 rows and KN_COLUMNS, KN_N2 columns

constexpr int kn_panel_bytes = 64 * 128;  // 64 rows of 64 columns
constexpr int kn_y_panels = KN_N / 64, kn_z_panels = KN_N2 / 64;
constexpr int kn_w_bytes = KN_SLABS * KN_N * 128, kn_w2_bytes = kn_y_panels * KN_N2 * 128;
constexpr int kn_x_bytes = KN_SLABS * kn_panel_bytes, kn_y_bytes = kn_y_panels * kn_panel_bytes;
constexpr int kn_slot_bytes = (kn_y_panels > kn_z_panels ? kn_y_panels : kn_z_panels) * kn_panel_bytes;
constexpr int kn_tiles = (KN_M + 63) / 64;
constexpr bool kn_whole = KN_M % 64 == 0;  // no tile reaches beyond y

struct kn_factors {
    const kn_tensor_map &x, &w, &x_also, &w_also, &w2;
};

// Shared memory.
struct kn_places {
    unsigned base;
    KN_DEVICE unsigned w() const { return base; }
    KN_DEVICE unsigned w2() const { return base + kn_w_bytes; }
    KN_DEVICE unsigned x(int stage) const { return base + kn_w_bytes + kn_w2_bytes + stage * kn_x_bytes; }
    KN_DEVICE unsigned y(int stage) const { return x(KN_X_STAGES) + stage * kn_slot_bytes; }
    KN_DEVICE unsigned weights_there() const { return y(KN_Y_STAGES); }
    KN_DEVICE unsigned x_full(int stage) const { return weights_there() + 8 + stage * 8; }
    KN_DEVICE unsigned x_empty(int stage) const { return x_full(KN_X_STAGES) + stage * 8; }
    KN_DEVICE unsigned y_full(int stage) const { return x_empty(KN_X_STAGES) + stage * 8; }
    KN_DEVICE unsigned y_empty(int stage) const { return y_full(KN_Y_STAGES) + stage * 8; }
    KN_DEVICE unsigned turn(int group) const { return y_empty(KN_Y_STAGES) + group * 8; }
};

// One thread: brings the weights, and keeps the stages full.
KN_DEVICE void kn_produce(const kn_factors& factors, const kn_tensor_map& before, kn_places at) {
    kn_expect(at.weights_there(), kn_w_bytes + kn_w2_bytes);
    // The slab's first of k, in the tensors that it is one of.
    const auto first = [](int slab) { return (slab < KN_OWN_SLABS ? slab : slab - KN_OWN_SLABS) * 64; };
    for (int slab = 0; slab < KN_SLABS; slab++)
        for (int row = 0; row < KN_N; row += 64)
            kn_copy_rows(at.w() + slab * KN_N * 128 + row * 128, slab < KN_OWN_SLABS ? factors.w : factors.w_also,
                         at.weights_there(), first(slab), row);
    for (int panel = 0; panel < kn_y_panels; panel++)
        for (int row = 0; row < KN_N2; row += 64)
            kn_copy_rows(at.w2() + panel * KN_N2 * 128 + row * 128, factors.w2, at.weights_there(), panel * 64, row);
    kn_ring<KN_X_STAGES> x;
    kn_ring<KN_Y_STAGES> y;
    for (int tile = blockIdx.x; tile < kn_tiles; tile += gridDim.x) {
        kn_wait(at.x_empty(x.stage), x.phase ^ 1);
        kn_expect(at.x_full(x.stage), kn_x_bytes);
        for (int slab = 0; slab < KN_SLABS; slab++)
            kn_copy_rows(at.x(x.stage) + slab * kn_panel_bytes, slab < KN_OWN_SLABS ? factors.x : factors.x_also,
                         at.x_full(x.stage), first(slab), tile * 64);
        x.skip(1);
        if (!KN_BEFORE) continue;
        kn_wait(at.y_empty(y.stage), y.phase ^ 1);
        kn_expect(at.y_full(y.stage), kn_y_bytes);
        for (int panel = 0; panel < kn_y_panels; panel++)
            kn_copy_rows(at.y(y.stage) + panel * kn_panel_bytes, before, at.y_full(y.stage), panel * 64, tile * 64);
        y.skip(1);
    }
}

// One thread: panels of a tile, from column `first` on, to the map's tensor.
template <int panels>
KN_DEVICE void kn_give(const kn_tensor_map& map, unsigned source, int first, int tile) {
#pragma unroll
    for (int panel = 0; panel < panels; panel++)
        kn_store_rows(map, source + panel * kn_panel_bytes, first + panel * 64, tile * 64);
    kn_commit_stores();
}

// All threads of a group: its tiles.
template <class First, class Second>
KN_DEVICE void kn_consume(unsigned char* memory, const kn_tensor_map& map_y, const kn_tensor_map& map_z, First finish_first,
                          Second finish_second) {
    const kn_places at{kn_shared_address(memory)};
    using pairs = kn_pairs<kn_panel_bytes, KN_N, kn_whole>;
    using pairs2 = kn_pairs<kn_panel_bytes, KN_N2, kn_whole>;
    const int group = threadIdx.x / 128, barrier = 1 + group;
    const int rows = threadIdx.x % 128 / 32 * 16;  // this warp's first of a tile's
    const bool one = threadIdx.x % 128 == 0;
    kn_ring<KN_X_STAGES> x;
    kn_ring<KN_Y_STAGES> y;
    x.skip(group);
    y.skip(group);
    unsigned turn = 0;
    kn_wait(at.weights_there(), 0);
    for (int i = group; blockIdx.x + i * gridDim.x < kn_tiles; i += KN_GROUPS) {
        // Barriers tell rounds by their parity: the tiles before this one are there, as other groups have seen.
        if (i > 0) {
            kn_wait(at.turn(group), turn);
            turn ^= 1;
        }
        const int tile = blockIdx.x + i * gridDim.x;
        const unsigned slot = at.y(y.stage);
        unsigned char* const own = memory + (slot - at.base) + rows * 128;
        const long long row = static_cast<long long>(tile) * 64 + rows;
        float sums[KN_COLUMNS / 2], sums2[KN_N2 / 2];
        kn_wait(at.x_full(x.stage), x.phase);
#pragma unroll
        for (int column = 0; column < KN_N; column += KN_COLUMNS) {
            kn_start_products();
#pragma unroll
            for (int step = 0; step < KN_SLABS * 4; step++)
                kn_first(sums, kn_matrix(at.x(x.stage) + step / 4 * kn_panel_bytes + step % 4 * 32),
                         kn_matrix(at.w() + step / 4 * (KN_N * 128) + column * 128 + step % 4 * 32), step == 0);
            kn_commit_products();
            kn_wait_products<0>();
            kn_arrived(sums);
            if (column > 0) kn_arrived(sums2);
            if (column == 0) {
                if (KN_BEFORE)
                    kn_wait(at.y_full(y.stage), y.phase);
                else
                    kn_wait(at.y_empty(y.stage), y.phase ^ 1);
                kn_sync_warp();
                if (threadIdx.x % 32 == 0) kn_arrive(at.turn((group + 1) % KN_GROUPS));
            }
            if (column + KN_COLUMNS == KN_N && threadIdx.x % 32 == 0) kn_arrive(at.x_empty(x.stage));
            const int panel = column / 64;
            pairs::template finish<KN_COLUMNS, 1, 2, KN_BEFORE>(sums, 0, own + panel * kn_panel_bytes, row, kn_anew(column),
                                                                finish_first);
            kn_publish();
            kn_sync_some(barrier, 128);
            if (KN_KEEP && one) kn_give<KN_COLUMNS / 64>(map_y, slot + panel * kn_panel_bytes, column, tile);
            kn_start_products();
#pragma unroll
            for (int step = 0; step < KN_COLUMNS / 16; step++)
                kn_second(sums2, kn_matrix(slot + (panel + step / 4) * kn_panel_bytes + step % 4 * 32),
                          kn_matrix(at.w2() + (panel + step / 4) * (KN_N2 * 128) + step % 4 * 32), column == 0 && step == 0);
            kn_commit_products();
        }
        kn_wait_products<0>();
        kn_arrived(sums2);
        // Nobody reads y any more.
        if (KN_KEEP && one) kn_wait_stores_read<0>();
        kn_sync_some(barrier, 128);
        pairs2::template finish<KN_N2, 1, 2, false>(sums2, 0, own, row, kn_anew(0), finish_second);
        kn_publish();
        kn_sync_some(barrier, 128);
        if (one) {
            kn_give<kn_z_panels>(map_z, slot, 0, tile);
            kn_wait_stores_read<0>();
            kn_arrive(at.y_empty(y.stage));
        }
        x.skip(KN_GROUPS);
        y.skip(KN_GROUPS);
    }
}

// Calls finish_first and finish_second(row, column / 2, products, pair) for each two neighbours of y and of z: products[0][0
// and 1] become two elements, as one number; `pair`: two elements of map_before for y, or anything.
template <class First, class Second>
KN_DEVICE void kn_product_pair(const kn_factors& factors, const kn_tensor_map& map_before, const kn_tensor_map& map_y,
                               const kn_tensor_map& map_z, First finish_first, Second finish_second) {
    KN_SWIZZLED_SHARED(kn_memory);
    const kn_places at{kn_shared_address(kn_memory)};
    if (threadIdx.x == 0) {
        kn_init_barrier(at.weights_there(), 1);
        for (int stage = 0; stage < KN_X_STAGES; stage++) {
            kn_init_barrier(at.x_full(stage), 1);
            kn_init_barrier(at.x_empty(stage), 4);
        }
        for (int stage = 0; stage < KN_Y_STAGES; stage++) {
            kn_init_barrier(at.y_full(stage), 1);
            kn_init_barrier(at.y_empty(stage), 1);
        }
        for (int group = 0; group < KN_GROUPS; group++) kn_init_barrier(at.turn(group), 4);
        kn_publish_barriers();
    }
    kn_sync();
    if (threadIdx.x / 128 < KN_GROUPS) {
#if KN_GROUPS > 1
        KN_TAKE_REGISTERS(KN_GROUPS == 2 ? 232 : 160);
#endif
        kn_consume(kn_memory, map_y, map_z, finish_first, finish_second);
    } else {
#if KN_GROUPS > 1
        KN_GIVE_REGISTERS(32);
#endif
        if (threadIdx.x == KN_GROUPS * 128) kn_produce(factors, map_before, at);
    }
}
