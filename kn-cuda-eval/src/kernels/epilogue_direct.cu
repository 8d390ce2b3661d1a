// Sums of a tile go through a piece of shared memory that is each warp's own, from where threads take KN_LANES neighbours.
//
// What the generator defines in front of this text:
//   KN_CHUNK          columns that a warp hands out at once
//   KN_PART_PAIRS     1: statistics are noted of pairs of columns in shared memory
//   KN_PART_BYTES     not 0: statistics of y go beside it (column_parts.cu); store() leaves in its argument what it has written
//   KN_ROW_MOMENTS    1: those of its rows do (row_moments.cu)

// Threads have the same columns of all their rows, and so keep what statistics are taken of; else that lies in the chunk, the
// only one.
#define KN_KEEPS ((KN_PART_BYTES && !KN_PART_PAIRS) || KN_ROW_MOMENTS)
static_assert(!KN_PART_PAIRS || KN_CHUNK == KN_BN);

// Rows of KN_CHUNK floats, their groups of four exchanged by the row's number against bank conflicts.
KN_DEVICE int kn_hand_place(int row, int four) { return row * KN_CHUNK + ((four ^ (row & (KN_CHUNK / 4 - 1) & 7)) << 2); }

// Has what the epilogue will read of a warp's 16 rows fetched into L2, a line of 128 bytes or so a call.
template <class Touch>
KN_DEVICE void kn_touch_rows(long long row0, int column0, Touch touch) {
    constexpr int line = KN_LANES * 8, width = (KN_BN + line - 1) / line;
    for (int i = threadIdx.x % 32; i < 16 * width; i += 32) {
        const long long row = kn_row(row0, i / width);
        const int column = column0 + i % width * line;
        if (row < KN_M && column < KN_N) touch(row, column / KN_LANES);
    }
}

#if KN_PART_BYTES
// What a warp notes lies behind what it hands out.
KN_DEVICE float2* kn_noted(float* hand) { return reinterpret_cast<float2*>(hand + 16 * KN_CHUNK); }
#endif

// A warp's 16 rows of one piece, chunk by chunk.
template <class Store>
KN_DEVICE void kn_hand_out(float (&sums)[kn_sums], float* hand, int piece, long long row0, int column0, Store store, float* parts) {
    const int lane = threadIdx.x % 32;
    constexpr int kept = KN_CHUNK / 2;  // sums of a chunk
    constexpr int width = KN_CHUNK / KN_LANES;
#if KN_ROW_MOMENTS
    kn_row_moments<width / 2> moments;
#endif
#pragma unroll 1
    for (int chunk = 0; chunk < KN_BN / KN_CHUNK; chunk++) {
#pragma unroll
        for (int j = 0; j < KN_CHUNK / 8; j++) {
            const int four = 2 * j + lane % 4 / 2, rest = lane % 2 * 2;
            *reinterpret_cast<float2*>(hand + kn_hand_place(lane / 4, four) + rest) =
                make_float2(sums[4 * j], sums[4 * j + 1]);
            *reinterpret_cast<float2*>(hand + kn_hand_place(lane / 4 + 8, four) + rest) =
                make_float2(sums[4 * j + 2], sums[4 * j + 3]);
        }
        // The next chunk's sums move up: registers cannot be chosen at run time.
#pragma unroll
        for (int i = 0; i + kept < kn_sums; i++) sums[i] = sums[i + kept];
        kn_sync_warp();
#if KN_KEEPS
        float given[width / 2][KN_LANES];
#endif
        // Several at once, so that what the epilogue reads is under way together.
#if KN_KEEPS
#pragma unroll
#else
#pragma unroll 4
#endif
        for (int i = lane; i < 16 * width; i += 32) {
            const int in_row = i % width * KN_LANES;
            const long long row = kn_row(row0, i / width);
            const int column = (column0 + chunk * KN_CHUNK) / KN_LANES + i % width;
            if (!kn_whole && (row >= KN_M || column >= KN_N / KN_LANES)) continue;
            __align__(16) float product[KN_LANES];
#if KN_LANES % 4 == 0
#pragma unroll
            for (int j = 0; j < KN_LANES; j += 4)
                *reinterpret_cast<float4*>(product + j) =
                    *reinterpret_cast<const float4*>(hand + kn_hand_place(i / width, (in_row + j) / 4));
#else
#pragma unroll
            for (int j = 0; j < KN_LANES; j++) product[j] = hand[kn_hand_place(i / width, (in_row + j) / 4) + (in_row + j) % 4];
#endif
            store(row, column, product);
#if KN_KEEPS
#pragma unroll
            for (int j = 0; j < KN_LANES; j++) given[(i - lane) / 32][j] = product[j];
#elif KN_PART_PAIRS
#pragma unroll
            for (int j = 0; j < KN_LANES; j += 2)
                *reinterpret_cast<float2*>(hand + kn_hand_place(i / width, (in_row + j) / 4) + (in_row + j) % 4) =
                    make_float2(product[j], product[j + 1]);
#endif
        }
        kn_sync_warp();
#if KN_PART_PAIRS
        kn_note_pairs(kn_noted(hand), piece, [&](int row, int pair) {
            return *reinterpret_cast<const float2*>(hand + kn_hand_place(row, pair / 2) + pair % 2 * 2);
        });
        kn_sync_warp();
#elif KN_PART_BYTES
        kn_note_lanes<width>(kn_noted(hand), piece, chunk * KN_CHUNK + lane % width * KN_LANES, given);
#elif KN_ROW_MOMENTS
#pragma unroll
        for (int i = 0; i < width / 2; i++) moments.add(i, given[i], chunk == 0);
#endif
    }
#if KN_ROW_MOMENTS
    moments.give<width>(parts, row0, column0);
#endif
}

template <class Touch, class Store>
struct kn_direct {
    static constexpr int bytes = 16 * KN_CHUNK * 4 + KN_PART_BYTES, barriers = 0;
    Touch touch;
    Store store;
    float* parts;
    float* hand;
    int rows;  // of the tile's, this warp's first

    KN_DEVICE void start(unsigned char* memory, unsigned, int first_row) {
        hand = reinterpret_cast<float*>(memory);
        rows = first_row;
    }
    KN_DEVICE void first(const kn_tile& tile) { ahead(tile); }
    KN_DEVICE void ahead(const kn_tile& tile) {
        for (int piece = 0; piece < kn_pieces; piece++) kn_touch_rows(tile.row + rows + piece * 64, tile.column, touch);
    }
    KN_DEVICE void give(float (&sums)[kn_pieces][kn_sums], const kn_tile& tile, int next) {
#pragma unroll
        for (int piece = 0; piece < kn_pieces; piece++)
            kn_hand_out(sums[piece], hand, piece, tile.row + rows + piece * 64, tile.column, store, parts);
#if KN_PART_BYTES
        kn_give_parts(reinterpret_cast<float2*>(parts), kn_noted(hand), bytes / 8, KN_BN, tile.row + rows - threadIdx.x % 128 / 32 * 16, tile.column);
        if (next < kn_tiles) kn_sync_group();
#endif
    }
    KN_DEVICE void finish() {}
};

// Calls store(row, column / KN_LANES, product) for each KN_LANES neighbours of y, once; a tile earlier, touch(row,
// column / KN_LANES) for some of them.
template <class Touch, class Store>
KN_DEVICE void kn_product(const kn_sources& sources, Touch touch, Store store, float* parts = nullptr) {
    kn_run(sources, kn_direct<Touch, Store>{touch, store, parts, nullptr, 0});
}
