// y[m, n] = sum over k of x[m, k] w[n, k] on Hopper's tensor cores (sm_90a). Row m of x may be a window of an image: k runs
// over (kernel row, kernel column, channel), channels innermost.
//
// One warp has the copy engine fill KN_STAGES slabs of shared memory (bulk tensor copies, mbarriers); groups of 128 threads
// multiply them and give the sums to an epilogue (epilogue_*.cu), while the copies for the next tile go on. Blocks take tile
// after tile.
//
// What the generator defines in front of this text:
//   KN_BM, KN_BN      rows and columns of a tile
//   KN_GROUPS         of 128 threads, each KN_BM / KN_GROUPS rows; or,
//   KN_TURNS          1: each all rows of tiles of its own, so that one multiplies while another gives its sums away
//   KN_STAGES         slabs of k in flight
//   KN_M, KN_N        of the product
//   KN_HALVES         2: a column of y is made of one from each half of the product's columns, and so are tiles; 1: as they are
//   KN_SLABS          of k, each 128 bytes of a row, KN_CHANNEL_SLABS of them a window position
//   KN_SLAB           elements of a slab
//   KN_ALSO_SLABS     of the slabs, the last ones: another image's, of whose channels each row is one pixel
//   KN_ALSO_*         its positions, ROWS and COLUMNS, and how far they are apart, STRIDE_Y and STRIDE_X
//   KN_SHARED_W       blocks of a cluster, one below the other, that share the slabs of w: 1, 2, 4
//   KN_SPLITS         blocks of a cluster that share the slabs of a tile out among them; 1: none
//   KN_WINDOWS        1: rows are windows, with the kn_window_* constants below
//   KN_EXACT          1: float32 by three TF32 products, high*high + high*low + low*high; each slab is summed apart and added
//                     in float32, so that the tensor cores' rounding towards zero does not add up. The low parts of w are
//                     another tensor, and groups have 64 rows
//   KN_MANY_SUMS      1: the copying warp is one of four, which give their registers to the others
//   KN_IMAGE_ROWS     rows of an image, of which tiles have whole ones (epilogue_squeezed.cu); 0: any
//   KN_BESIDE         blocks of a cluster that have all columns of a row of tiles, each a tile and no other; 1: any
//   KN_LANES          neighbouring columns that the epilogue takes at once
//   kn_wgmma(acc, a, b, first)   one k step of 64 rows; exact: a in registers
//   KN_STATISTICS     of rows, by which sums are normalised (row_statistics.cu, in front of this text); 0: none
//   KN_STARTS_EARLY   defined where blocks may start before the kernel in front of this one has ended: up to
//                     kn_wait_for_previous, a thread touches nothing but weights

constexpr int kn_consumers = KN_GROUPS * 4;  // warps
constexpr int kn_teams = KN_TURNS ? KN_GROUPS : 1;  // each with tiles of its own
constexpr int kn_pieces = KN_BM / (KN_GROUPS / kn_teams) / 64;  // of 64 rows, a group's
constexpr int kn_a_bytes = KN_BM * 128, kn_b_bytes = KN_BN * 128;
constexpr int kn_stage_bytes = kn_a_bytes + kn_b_bytes * (1 + KN_EXACT);
// Of what normalised columns take.
constexpr int kn_columns_bytes = KN_STATISTICS == 2 ? (KN_GROUPS * KN_BN * 8 + 1023) / 1024 * 1024 : 0;
constexpr int kn_steps = 4;  // of 32 bytes of k
constexpr int kn_sums = KN_BN / 2;  // accumulators of a thread and piece
constexpr int kn_row_tiles = (KN_M + KN_BM * KN_SHARED_W - 1) / (KN_BM * KN_SHARED_W);
constexpr int kn_columns = KN_N / KN_HALVES, kn_tile_columns = KN_BN / KN_HALVES;  // of y
constexpr int kn_column_tiles = (kn_columns + kn_tile_columns - 1) / kn_tile_columns;
constexpr int kn_tiles = kn_row_tiles * kn_column_tiles;
constexpr int kn_cluster = KN_SHARED_W * KN_SPLITS;
constexpr int kn_own_slabs = KN_SLABS - KN_ALSO_SLABS;
// No tile reaches beyond y.
constexpr bool kn_whole = KN_M % (KN_BM * KN_SHARED_W) == 0 && KN_N % KN_BN == 0;

// What slabs are copied from; w_low: the low parts, where they are wanted; columns, given: what row_statistics.cu says.
struct kn_sources {
    const kn_tensor_map &x, &w, &w_low;
#if KN_IMAGE_ROWS
    const kn_tensor_map &first, &second;  // of small products
#endif
#if KN_ALSO_SLABS
    const kn_tensor_map &x_also, &w_also;
#endif
    const float* columns = nullptr;
    const float* given = nullptr;
};

using kn_stages = kn_ring<KN_STAGES>;
using kn_statistics = kn_row_statistics<kn_pieces>;

struct kn_barriers : kn_ring_barriers<KN_STAGES> {
    KN_DEVICE unsigned turn(int team) const { return base + (2 * KN_STAGES + team) * 8; }
    KN_DEVICE unsigned own(int i) const { return base + (2 * KN_STAGES + KN_TURNS * kn_teams + i) * 8; }
};

// The slabs of a tile that this block multiplies.
KN_DEVICE int kn_first_slab() { return KN_SPLITS == 1 ? 0 : kn_block_in_cluster() * KN_SLABS / KN_SPLITS; }
KN_DEVICE int kn_last_slab() {
    return KN_SPLITS == 1 ? KN_SLABS : (kn_block_in_cluster() + 1) * KN_SLABS / KN_SPLITS;
}

// Neighbours in time share what there are fewer tiles of.
struct kn_tile {
    long long row;
    int column;
    KN_DEVICE kn_tile(int tile) {
        const bool columns_first = kn_column_tiles <= kn_row_tiles || KN_BESIDE > 1;
        const int row_tile = columns_first ? tile / kn_column_tiles : tile % kn_row_tiles;
        const int column_tile = columns_first ? tile % kn_column_tiles : tile / kn_row_tiles;
        row = static_cast<long long>(row_tile) * (KN_BM * KN_SHARED_W);
        if (KN_SHARED_W > 1) row += kn_block_in_cluster() * KN_BM;
        column = column_tile * kn_tile_columns;
    }
};

// The row of y that is the i-th of those that begin at row0.
KN_DEVICE long long kn_row(long long row0, int i) { return row0 + i; }

// Until all is there that the kernels before this one write, and they read no more of what this one writes.
KN_DEVICE void kn_wait_for_previous() {
#ifdef KN_STARTS_EARLY
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// A slab's weights, to behind its rows of x.
KN_DEVICE void kn_copy_slab_weights(const kn_sources& sources, const kn_tile& tile, int slab, unsigned target, unsigned full) {
    const auto copy = [&](unsigned to, const kn_tensor_map& map, int channel, int tap) {
#pragma unroll
        for (int half = 0; half < KN_HALVES; half++) {
            const unsigned place = to + half * kn_tile_columns * 128;
            const int row = tile.column + half * kn_columns;
#if KN_SHARED_W > 1
            const int part = kn_block_in_cluster() * (kn_tile_columns / KN_SHARED_W);
            kn_copy_weights_to_all(place + part * 128, map, full, channel, tap, row + part, KN_SHARED_W);
#else
            kn_copy_weights(place, map, full, channel, tap, row);
#endif
        }
    };
#if KN_ALSO_SLABS
    if (slab >= kn_own_slabs) return copy(target, sources.w_also, (slab - kn_own_slabs) * KN_SLAB, 0);
#endif
    const int tap = slab / KN_CHANNEL_SLABS, channel = slab % KN_CHANNEL_SLABS * KN_SLAB;
    copy(target, sources.w, channel, tap);
    if (KN_EXACT) copy(target + kn_b_bytes, sources.w_low, channel, tap);
}

#if KN_IMAGE_ROWS
KN_DEVICE void kn_produce_weights(const kn_sources& sources, const kn_tile& tile, unsigned stages, kn_barriers barriers,
                                  kn_stages& ring);
#endif

// One thread: keeps the stages full.
KN_DEVICE void kn_produce(const kn_sources& sources, unsigned stages, kn_barriers barriers) {
    kn_stages ring;
    int early = 0;  // stages whose weights are under way
#ifdef KN_STARTS_EARLY
    const kn_tile first(blockIdx.x / kn_cluster);
    for (int slab = kn_first_slab(); slab < kn_last_slab() && early < KN_STAGES; slab++, early++) {
        kn_expect(barriers.full(early), kn_stage_bytes);
        kn_copy_slab_weights(sources, first, slab, stages + early * kn_stage_bytes + kn_a_bytes, barriers.full(early));
    }
    kn_wait_for_previous();
#endif
    for (int i = blockIdx.x / kn_cluster; i < kn_tiles; i += gridDim.x / kn_cluster) {
        const kn_tile tile(i);
#if KN_WINDOWS
        constexpr int positions = kn_window_rows * kn_window_columns;
        const int image = tile.row / positions;
        const int position = tile.row - static_cast<long long>(image) * positions;
        const int y = position / kn_window_columns * kn_window_stride_y - kn_window_pad_y;
        const int x = position % kn_window_columns * kn_window_stride_x - kn_window_pad_x;
#endif
#if KN_ALSO_SLABS
        constexpr int also_positions = KN_ALSO_ROWS * KN_ALSO_COLUMNS;
        const int also_image = tile.row / also_positions;
        const int also_position = tile.row - static_cast<long long>(also_image) * also_positions;
        const int also_y = also_position / KN_ALSO_COLUMNS * KN_ALSO_STRIDE_Y;
        const int also_x = also_position % KN_ALSO_COLUMNS * KN_ALSO_STRIDE_X;
#endif
#pragma unroll 1
        for (int slab = kn_first_slab(); slab < kn_last_slab(); slab++) {
            const int tap = slab / KN_CHANNEL_SLABS, channel = slab % KN_CHANNEL_SLABS * KN_SLAB;
            const unsigned a = stages + ring.stage * kn_stage_bytes, full = barriers.full(ring.stage);
            const bool weights_wanted = early == 0;
            if (weights_wanted) {
                kn_wait(barriers.empty(ring.stage), ring.phase ^ 1);
                kn_expect(full, kn_stage_bytes);
            }
#if KN_ALSO_SLABS
            if (slab >= kn_own_slabs)
                kn_copy_windows(a, sources.x_also, full, (slab - kn_own_slabs) * KN_SLAB, also_x, also_y, also_image, 0, 0);
            else
#endif
#if KN_WINDOWS
            kn_copy_windows(a, sources.x, full, channel, x, y, image, tap % kn_window_width * kn_window_dilation_x,
                            tap / kn_window_width * kn_window_dilation_y);
#else
            kn_copy_rows(a, sources.x, full, channel, tile.row);
#endif
            if (weights_wanted)
                kn_copy_slab_weights(sources, tile, slab, a + kn_a_bytes, full);
            else
                early--;
            ring.next();
        }
#if KN_IMAGE_ROWS
        kn_produce_weights(sources, tile, stages, barriers, ring);
#endif
    }
}

// The warp has read the stage.
KN_DEVICE void kn_release(kn_barriers barriers, int stage) {
#if KN_SHARED_W > 1
    if (threadIdx.x % 32 < KN_SHARED_W) kn_arrive_there(kn_in_block(barriers.empty(stage), threadIdx.x % 32));
#else
    if (threadIdx.x % 32 == 0) kn_arrive(barriers.empty(stage));
#endif
}

#if KN_EXACT
// Rounded to TF32, so that what it leaves is small and of either sign; a NaN may get lost here, and is in what is left.
KN_DEVICE float kn_high(float x) { return kn_bits_to_float((kn_float_to_bits(x) + 0x1000u) & 0xffffe000u); }

// A warp's 16 rows of a slab as registers: high and low parts.
KN_DEVICE void kn_load_rows(unsigned (&high)[kn_steps][4], unsigned (&low)[kn_steps][4], unsigned slab) {
    const int lane = threadIdx.x % 32, matrix = lane / 8;
    const int row = threadIdx.x / 32 * 16 + (matrix & 1) * 8 + lane % 8;
#pragma unroll
    for (int step = 0; step < kn_steps; step++) {
        // Chunks of 16 bytes are exchanged by the row's number.
        kn_load_matrices(high[step], slab + row * 128 + (((2 * step + (matrix >> 1)) ^ (row & 7)) << 4));
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float x = kn_bits_to_float(high[step][i]), cut = kn_high(x);
            low[step][i] = kn_round_tf32(x - cut);
            high[step][i] = kn_float_to_bits(cut);
        }
    }
}

// All threads of a group: the sums of a tile.
KN_DEVICE void kn_multiply(float (&sums)[kn_pieces][kn_sums], kn_statistics&, kn_stages& ring, unsigned stages,
                           kn_barriers barriers) {
    static_assert(kn_pieces == 1);
#pragma unroll
    for (int i = 0; i < kn_sums; i++) sums[0][i] = 0;
#pragma unroll 1
    for (int slab = kn_first_slab(); slab < kn_last_slab(); slab++) {
        const unsigned a = stages + ring.stage * kn_stage_bytes, b = a + kn_a_bytes;
        kn_wait(barriers.full(ring.stage), ring.phase);
        unsigned high[kn_steps][4], low[kn_steps][4];
        kn_load_rows(high, low, a);
        float part[kn_sums];
        kn_start_products();
#pragma unroll
        for (int step = 0; step < kn_steps; step++) {
            const unsigned long long high_w = kn_matrix(b + step * 32), low_w = kn_matrix(b + kn_b_bytes + step * 32);
            kn_wgmma(part, low[step], high_w, step == 0);
            kn_wgmma(part, high[step], low_w, false);
            kn_wgmma(part, high[step], high_w, false);
        }
        kn_commit_products();
        kn_wait_products<0>();
        kn_arrived(part);
        kn_release(barriers, ring.stage);
#pragma unroll
        for (int i = 0; i < kn_sums; i++) sums[0][i] += part[i];
        ring.next();
    }
}
#else
// All threads of a group: the sums of a tile.
KN_DEVICE void kn_multiply(float (&sums)[kn_pieces][kn_sums], kn_statistics& statistics, kn_stages& ring, unsigned stages,
                           kn_barriers barriers) {
    const unsigned rows = KN_TURNS ? 0 : threadIdx.x / 128 * (kn_pieces * 64 * 128);
    const int first = kn_first_slab(), last = kn_last_slab();
    int before = 0;
#pragma unroll 1
    for (int slab = first; slab < last; slab++) {
        const unsigned a = stages + ring.stage * kn_stage_bytes + rows, b = stages + ring.stage * kn_stage_bytes + kn_a_bytes;
        kn_wait(barriers.full(ring.stage), ring.phase);
        statistics.load(a, slab == first);
        kn_start_products();
#pragma unroll
        for (int step = 0; step < kn_steps; step++)
#pragma unroll
            for (int piece = 0; piece < kn_pieces; piece++)
                kn_wgmma(sums[piece], kn_matrix(a + piece * 64 * 128 + step * 32), kn_matrix(b + step * 32),
                         slab == first && step == 0);
        kn_commit_products();
        kn_wait_products<1>();
        if (slab > first) kn_release(barriers, before);
        statistics.add(slab, slab == first);
        before = ring.stage;
        ring.next();
    }
    if (KN_TURNS && threadIdx.x % 32 == 0) kn_arrive(barriers.turn((threadIdx.x / 128 + 1) % kn_teams));
    kn_wait_products<0>();
#pragma unroll
    for (int piece = 0; piece < kn_pieces; piece++) kn_arrived(sums[piece]);
    kn_release(barriers, before);
}
#endif

// All that a block does. Epilogue::bytes of shared memory and Epilogue::barriers are each warp's own.
template <class Epilogue>
KN_DEVICE void kn_run(const kn_sources& sources, Epilogue epilogue) {
    KN_SWIZZLED_SHARED(kn_memory);
    const unsigned stages = kn_shared_address(kn_memory);
    const kn_barriers barriers{stages + KN_STAGES * kn_stage_bytes + kn_columns_bytes + kn_consumers * Epilogue::bytes};
#ifdef KN_STARTS_EARLY
    asm volatile("griddepcontrol.launch_dependents;");
#endif
    if (threadIdx.x == 0) {
        for (int stage = 0; stage < KN_STAGES; stage++) {
            kn_init_barrier(barriers.full(stage), 1);
            kn_init_barrier(barriers.empty(stage), kn_consumers / kn_teams * KN_SHARED_W);
        }
        for (int team = 0; KN_TURNS && team < kn_teams; team++) kn_init_barrier(barriers.turn(team), 4);
        for (int i = 0; i < kn_consumers * Epilogue::barriers; i++) kn_init_barrier(barriers.own(i), 1);
        kn_publish_barriers();
    }
    if (kn_cluster > 1)
        kn_sync_cluster();
    else
        kn_sync();
    if (KN_BESIDE > 1) kn_arrive_in_cluster();

    const int warp = threadIdx.x / 32;
    if (warp >= kn_consumers) {
#if KN_MANY_SUMS
        KN_GIVE_REGISTERS(40);
#endif
        if (threadIdx.x == kn_consumers * 32) kn_produce(sources, stages, barriers);
        kn_sync_warp();
        if (KN_BESIDE > 1) kn_wait_for_cluster();
#if KN_SPLITS > 1
        kn_sync_cluster();
#endif
    } else {
#if KN_MANY_SUMS
        KN_TAKE_REGISTERS(232);
#endif
        kn_wait_for_previous();
        kn_stages ring;
        float sums[kn_pieces][kn_sums];
        kn_statistics statistics;
#if KN_SPLITS > 1
        const kn_tile tile(blockIdx.x / kn_cluster);
        kn_multiply(sums, statistics, ring, stages, barriers);
        // No warp still multiplies from what the sums go into.
        kn_sync_some(1, kn_consumers * 32);
        epilogue.leave(sums, kn_memory);
        kn_sync_cluster();
        epilogue.add_up(kn_memory, tile.row, tile.column);
#else
        const int team = KN_TURNS ? warp / 4 : 0, stride = gridDim.x / kn_cluster;
        const int rows = (KN_TURNS ? 0 : warp / 4 * kn_pieces * 64) + warp % 4 * 16;
        const int columns = KN_STAGES * kn_stage_bytes + warp / 4 * (KN_BN * 8);
        epilogue.start(kn_memory + KN_STAGES * kn_stage_bytes + kn_columns_bytes + warp * Epilogue::bytes,
                       barriers.own(warp * Epilogue::barriers), rows);
        if (KN_TURNS) ring.skip(team * KN_SLABS);
        unsigned turn = 0;
        const int first = blockIdx.x / kn_cluster + team * stride;
        if (!KN_TURNS || first < kn_tiles) epilogue.first(kn_tile(first));
        for (int i = first; i < kn_tiles; i += kn_teams * stride) {
            const kn_tile tile(i);
            statistics.start(sources.given, tile.row + rows);
            statistics.fetch<kn_tile_columns, kn_columns, KN_HALVES>(stages + columns, sources.columns, tile.column);
            const int next = i + kn_teams * stride;
            if (next < kn_tiles) epilogue.ahead(kn_tile(next));
            // Slabs are known by the parity of their rounds: the other teams have seen all before these.
            if (KN_TURNS && i > static_cast<int>(blockIdx.x) / kn_cluster) {
                kn_wait(barriers.turn(team), turn);
                turn ^= 1;
            }
            kn_multiply(sums, statistics, ring, stages, barriers);
            statistics.normalize(sums, kn_memory + columns);
            if (KN_TURNS) ring.skip((kn_teams - 1) * KN_SLABS);
#if KN_IMAGE_ROWS
            epilogue.give(sums, tile, next, stages, barriers, ring);
#else
            epilogue.give(sums, tile, next);
#endif
        }
        epilogue.finish();
#endif
    }
    // A block stays while others may reach into its shared memory.
    if (kn_cluster > 1) kn_sync_cluster();
}
