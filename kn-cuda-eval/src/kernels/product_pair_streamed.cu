// Two products of the same rows on Hopper's tensor cores (sm_90a), in half types or in float32 whose TF32 part counts, where
// both weights and rows of y do not fit in shared memory: what product_pair.cu does, KN_COLUMNS columns of y after the other.
//
// Groups of 128 threads take 64 rows each of a tile. One more thread has the copy engine bring the tile's rows of x, and piece
// by piece the weights that make these columns of y, and z from them, and what is added. Sums of z stay in registers until
// all columns have been there; then z takes the place of x, or leaves panel by panel by a place of its own.
//
// What the generator defines in front of this text: as for product_pair.cu, but
//   KN_Y_STAGES         pieces in flight
//   KN_X_STAGES         tiles of x in flight
//   KN_Z_STAGES         panels of z in flight; 0: z takes the place of x

constexpr int kn_panel_columns = 128 / KN_Y_BYTES, kn_panel_bytes = 64 * 128;  // 64 rows of them
constexpr int kn_piece_panels = KN_COLUMNS / kn_panel_columns, kn_z_panels = KN_N2 / kn_panel_columns;
constexpr int kn_w_rows = KN_COLUMNS < 64 ? KN_COLUMNS : 64;  // that come at once
constexpr int kn_second_steps = KN_COLUMNS * KN_Y_BYTES / 32;  // of 32 bytes of k
constexpr int kn_w_bytes = KN_SLABS * KN_COLUMNS * 128, kn_w2_bytes = kn_piece_panels * KN_N2 * 128;
constexpr int kn_y_bytes = KN_GROUPS * kn_piece_panels * kn_panel_bytes;
constexpr int kn_stage_bytes = kn_w_bytes + kn_w2_bytes + kn_y_bytes;
constexpr int kn_x_bytes = KN_SLABS * KN_GROUPS * kn_panel_bytes;
constexpr int kn_x_place = (KN_SLABS > kn_z_panels || KN_Z_STAGES > 0 ? KN_SLABS : kn_z_panels) * KN_GROUPS * kn_panel_bytes;
constexpr int kn_rows = KN_GROUPS * 64;
constexpr int kn_tiles = (KN_M + kn_rows - 1) / kn_rows;
constexpr bool kn_whole = KN_M % kn_rows == 0;  // no tile reaches beyond y

struct kn_factors {
    const kn_tensor_map &x, &w, &x_also, &w_also, &w2;
};

// Shared memory.
struct kn_places {
    unsigned base;
    KN_DEVICE unsigned x(int stage) const { return base + stage * kn_x_place; }
    KN_DEVICE unsigned z(int group) const { return x(KN_X_STAGES) + group * KN_Z_STAGES * kn_panel_bytes; }
    KN_DEVICE unsigned w(int stage) const { return z(KN_GROUPS) + stage * kn_stage_bytes; }
    KN_DEVICE unsigned w2(int stage) const { return w(stage) + kn_w_bytes; }
    KN_DEVICE unsigned y(int stage) const { return w2(stage) + kn_w2_bytes; }
    KN_DEVICE unsigned x_full(int stage) const { return w(KN_Y_STAGES) + stage * 8; }
    KN_DEVICE unsigned x_empty(int stage) const { return x_full(KN_X_STAGES) + stage * 8; }
    KN_DEVICE unsigned full(int stage) const { return x_empty(KN_X_STAGES) + stage * 8; }
    KN_DEVICE unsigned empty(int stage) const { return full(KN_Y_STAGES) + stage * 8; }
};

// One thread: keeps the stages full.
KN_DEVICE void kn_produce(const kn_factors& factors, const kn_tensor_map& before, kn_places at) {
    // The slab's first of k, in the tensors that it is one of.
    const auto first = [](int slab) { return (slab < KN_OWN_SLABS ? slab : slab - KN_OWN_SLABS) * kn_panel_columns; };
    kn_ring<KN_X_STAGES> x;
    kn_ring<KN_Y_STAGES> piece;
    for (int tile = blockIdx.x; tile < kn_tiles; tile += gridDim.x) {
        const int row = tile * kn_rows;
        kn_wait(at.x_empty(x.stage), x.phase ^ 1);
        kn_expect(at.x_full(x.stage), kn_x_bytes);
        for (int slab = 0; slab < KN_SLABS; slab++)
            for (int group = 0; group < KN_GROUPS; group++)
                kn_copy_rows(at.x(x.stage) + (slab * KN_GROUPS + group) * kn_panel_bytes,
                             slab < KN_OWN_SLABS ? factors.x : factors.x_also, at.x_full(x.stage), first(slab),
                             row + group * 64);
        x.next();
        for (int column = 0; column < KN_N; column += KN_COLUMNS) {
            const unsigned full = at.full(piece.stage);
            kn_wait(at.empty(piece.stage), piece.phase ^ 1);
            kn_expect(full, kn_w_bytes + kn_w2_bytes + (KN_BEFORE ? kn_y_bytes : 0));
            for (int panel = 0; KN_BEFORE && panel < kn_piece_panels; panel++)
                for (int group = 0; group < KN_GROUPS; group++)
                    kn_copy_rows(at.y(piece.stage) + (group * kn_piece_panels + panel) * kn_panel_bytes, before, full,
                                 column + panel * kn_panel_columns, row + group * 64);
            for (int slab = 0; slab < KN_SLABS; slab++)
                for (int i = 0; i < KN_COLUMNS; i += kn_w_rows)
                    kn_copy_rows(at.w(piece.stage) + (slab * KN_COLUMNS + i) * 128,
                                 slab < KN_OWN_SLABS ? factors.w : factors.w_also, full, first(slab), column + i);
            for (int panel = 0; panel < kn_piece_panels; panel++)
                for (int i = 0; i < KN_N2; i += 64)
                    kn_copy_rows(at.w2(piece.stage) + (panel * KN_N2 + i) * 128, factors.w2, full,
                                 column + panel * kn_panel_columns, i);
            piece.next();
        }
    }
}

// All threads of a group: its rows of the block's tiles.
template <class First, class Second>
KN_DEVICE void kn_consume(unsigned char* memory, const kn_tensor_map& map_y, const kn_tensor_map& map_z, First finish_first,
                          Second finish_second) {
    const kn_places at{kn_shared_address(memory)};
    const int group = threadIdx.x / 128, barrier = 1 + group;
    const int rows = threadIdx.x % 128 / 32 * 16;  // this warp's first of the group's
    const bool one = threadIdx.x % 128 == 0;
    kn_ring<KN_X_STAGES> x;
    kn_ring<KN_Y_STAGES> piece;
    for (int tile = blockIdx.x; tile < kn_tiles; tile += gridDim.x) {
        const int row = tile * kn_rows + group * 64;
        const unsigned own_x = at.x(x.stage) + group * kn_panel_bytes;
        float sums[KN_COLUMNS / 2], sums2[KN_N2 / 2];
        int before = 0;  // the stage of the columns before
        // The tensor cores, and the copy engine, have read what this warp's group had there.
        const auto release = [&](int stage) {
            if (KN_KEEP && one) kn_wait_stores_read<0>();
            kn_sync_warp();
            if (threadIdx.x % 32 == 0) kn_arrive(at.empty(stage));
        };
        kn_wait(at.x_full(x.stage), x.phase);
#pragma unroll 1
        for (int column = 0; column < KN_N; column += KN_COLUMNS) {
            const unsigned w = at.w(piece.stage), w2 = at.w2(piece.stage);
            const unsigned y = at.y(piece.stage) + group * (kn_piece_panels * kn_panel_bytes);
            kn_wait(at.full(piece.stage), piece.phase);
            kn_start_products();
#pragma unroll
            for (int step = 0; step < KN_SLABS * 4; step++)
                kn_first(sums, kn_matrix(own_x + step / 4 * (KN_GROUPS * kn_panel_bytes) + step % 4 * 32),
                         kn_matrix(w + step / 4 * (KN_COLUMNS * 128) + step % 4 * 32), step == 0);
            kn_commit_products();
            kn_wait_products<0>();
            kn_arrived(sums);
            kn_arrived(sums2);
            if (column > 0) release(before);
            if (KN_Z_STAGES > 0 && column + KN_COLUMNS == KN_N && threadIdx.x % 32 == 0) kn_arrive(at.x_empty(x.stage));
            kn_pairs<kn_panel_bytes, KN_N, kn_whole>::template finish<KN_COLUMNS, 1, 2, KN_BEFORE>(
                sums, 0, memory + (y - at.base) + rows * 128, row + rows, column, finish_first);
            kn_publish();
            kn_sync_some(barrier, 128);
            if (KN_KEEP && one) {
#pragma unroll
                for (int panel = 0; panel < kn_piece_panels; panel++)
                    kn_store_rows(map_y, y + panel * kn_panel_bytes, column + panel * kn_panel_columns, row);
                kn_commit_stores();
            }
            kn_start_products();
#pragma unroll
            for (int step = 0; step < kn_second_steps; step++)
                kn_second(sums2, kn_matrix(y + step / 4 * kn_panel_bytes + step % 4 * 32),
                          kn_matrix(w2 + step / 4 * (KN_N2 * 128) + step % 4 * 32), column == 0 && step == 0);
            kn_commit_products();
            before = piece.stage;
            piece.next();
        }
        kn_wait_products<0>();
        kn_arrived(sums2);
        release(before);
#if KN_Z_STAGES > 0
#pragma unroll
        for (int panel = 0; panel < kn_z_panels; panel++) {
            const unsigned z = at.z(group) + panel % KN_Z_STAGES * kn_panel_bytes;
            if (one) kn_wait_stores_read<KN_Z_STAGES - 1>();
            kn_sync_some(barrier, 128);
            constexpr int sums_of_panel = kn_panel_columns / 2;
            kn_pairs<kn_panel_bytes, KN_N2, kn_whole>::template finish<kn_panel_columns, 1, 2, false>(
                reinterpret_cast<const float(&)[sums_of_panel]>(sums2[panel * sums_of_panel]), 0,
                memory + (z - at.base) + rows * 128, row + rows, kn_anew(panel * kn_panel_columns), finish_second);
            kn_publish();
            kn_sync_some(barrier, 128);
            if (!one) continue;
            kn_store_rows(map_z, z, panel * kn_panel_columns, row);
            kn_commit_stores();
        }
#else
        // Nobody in the group reads x any more.
        kn_pairs<KN_GROUPS * kn_panel_bytes, KN_N2, kn_whole>::template finish<KN_N2, 1, 2, false>(
            sums2, 0, memory + (own_x - at.base) + rows * 128, row + rows, kn_anew(0), finish_second);
        kn_publish();
        kn_sync_some(barrier, 128);
        if (one) {
#pragma unroll
            for (int panel = 0; panel < kn_z_panels; panel++)
                kn_store_rows(map_z, own_x + panel * (KN_GROUPS * kn_panel_bytes), panel * kn_panel_columns, row);
            kn_commit_stores();
            kn_wait_stores_read<0>();
            kn_arrive(at.x_empty(x.stage));
        }
#endif
        x.next();
    }
    if (KN_Z_STAGES > 0 && one) kn_wait_stores_read<0>();
}

// As that of product_pair.cu.
template <class First, class Second>
KN_DEVICE void kn_product_pair(const kn_factors& factors, const kn_tensor_map& map_before, const kn_tensor_map& map_y,
                               const kn_tensor_map& map_z, First finish_first, Second finish_second) {
    KN_SWIZZLED_SHARED(kn_memory);
    const kn_places at{kn_shared_address(kn_memory)};
    if (threadIdx.x == 0) {
        for (int stage = 0; stage < KN_X_STAGES; stage++) {
            kn_init_barrier(at.x_full(stage), 1);
            kn_init_barrier(at.x_empty(stage), KN_GROUPS * (KN_Z_STAGES > 0 ? 4 : 1));
        }
        for (int stage = 0; stage < KN_Y_STAGES; stage++) {
            kn_init_barrier(at.full(stage), 1);
            kn_init_barrier(at.empty(stage), KN_GROUPS * 4);
        }
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
