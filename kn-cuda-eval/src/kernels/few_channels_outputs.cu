// Outputs are the rows of products, 8 by 8 a patch, and filters their columns: threads exchange sums until each has KN_LANES
// neighbouring filters of one output. One group fills bands, the others multiply; blocks take band after band.
//
// What the generator defines in front of this text:
//   KN_LANES          neighbouring filters that the epilogue takes at once: 1, 2, 4, 8

constexpr int kn_patches = KN_PATCH_ROWS * KN_PATCH_COLUMNS;
constexpr int kn_bands_down = (kn_window_rows + KN_PATCH_ROWS * KN_PATCH_HEIGHT - 1) / (KN_PATCH_ROWS * KN_PATCH_HEIGHT);
constexpr int kn_bands_across = (kn_window_columns + KN_PATCH_COLUMNS * 8 - 1) / (KN_PATCH_COLUMNS * 8);
constexpr int kn_bands = KN_IMAGES * kn_bands_down * kn_bands_across;

// The outputs of a band begin at (row, column).
struct kn_band {
    int image, row, column;
    KN_DEVICE kn_band(int number) {
        column = number % kn_bands_across * (KN_PATCH_COLUMNS * 8);
        row = number / kn_bands_across % kn_bands_down * (KN_PATCH_ROWS * KN_PATCH_HEIGHT);
        image = number / (kn_bands_across * kn_bands_down);
    }
};

// One group: fills bands.
template <class Pixel>
KN_DEVICE void kn_produce(Pixel pixel, unsigned stages, kn_barriers barriers) {
    constexpr int ahead = 16 / (KN_TAPS * kn_window_channels) + 1;
    kn_ring<KN_STAGES> ring;
#pragma unroll 1
    for (int number = blockIdx.x; number < kn_bands; number += gridDim.x) {
        const kn_band band(number);
        kn_wait(barriers.empty(ring.stage), ring.phase ^ 1);
        kn_fill_band<ahead>(pixel, stages + ring.stage * kn_stage_bytes, band.image,
                            band.row * kn_window_stride_y - kn_window_pad_y,
                            band.column * kn_window_stride_x - kn_window_pad_x, KN_BAND_ROWS);
        kn_publish();
        kn_arrive_warp(barriers.full(ring.stage));
        ring.next();
    }
}

// A group that multiplies: for each of its patches, `multiply(sums, cells)` with where the first output's window meets its
// first cell, then, when the band may be filled anew, `give(sums, image, row, column)`.
template <int count, class Multiply, class Give>
KN_DEVICE void kn_consume(int group, unsigned stages, kn_barriers barriers, Multiply multiply, Give give) {
    kn_ring<KN_STAGES> ring;
#pragma unroll 1
    for (int number = blockIdx.x; number < kn_bands; number += gridDim.x) {
        const kn_band band(number);
        const unsigned cells = stages + ring.stage * kn_stage_bytes;
        kn_wait(barriers.full(ring.stage), ring.phase);
#pragma unroll 1
        for (int patch = group; patch < kn_patches; patch += KN_GROUPS) {
            const int down = patch / KN_PATCH_COLUMNS * KN_PATCH_HEIGHT, across = patch % KN_PATCH_COLUMNS * 8;
            const bool last = patch + KN_GROUPS >= kn_patches;
            const bool some = band.row + down < kn_window_rows && band.column + across < kn_window_columns;
            float sums[count];
            if (some) multiply(sums, cells + down * kn_window_stride_y * kn_line_bytes + across * 16);
            if (last) kn_arrive_warp(barriers.empty(ring.stage));
            if (some) give(sums, band.image, band.row + down, band.column + across);
        }
        ring.next();
    }
}

// All that a block does: `work(group, stages, weights, barriers)` is what groups do that multiply.
template <class Pixel, class Weight, class Work>
KN_DEVICE void kn_run(Pixel pixel, const Weight* w, Work work) {
    KN_SWIZZLED_SHARED(kn_memory);
    const unsigned stages = kn_shared_address(kn_memory), weights = stages + KN_STAGES * kn_stage_bytes;
    const kn_barriers barriers{weights + kn_weight_bytes * (1 + KN_EXACT)};
    if (threadIdx.x == 0)
        for (int stage = 0; stage < KN_STAGES; stage++) {
            kn_init_barrier(barriers.full(stage), 4);
            kn_init_barrier(barriers.empty(stage), KN_GROUPS * 4);
        }
    kn_sync();
    const int group = kn_shuffle(static_cast<int>(threadIdx.x / 128), 0);
    if (group == KN_GROUPS) {
        kn_produce(pixel, stages, barriers);
    } else {
        kn_put_weights(weights, w, blockIdx.y * KN_BN);
        kn_publish();
        kn_sync_some(1, KN_GROUPS * 128);
        work(group, stages, weights, barriers);
    }
}

constexpr int kn_sums = KN_BN / 2;

// Pieces of eight filters `first` to first + 3, of which each of a row's four threads has two filters each: afterwards,
// thread i has all eight of piece first + i.
KN_DEVICE void kn_exchange_fours(float (&x)[4][2]) {
#pragma unroll
    for (int bit = 1; bit <= 2; bit *= 2) {
        const bool upper = threadIdx.x & bit;
#pragma unroll
        for (int i = 0; i < 4; i++)
            if ((i & bit) == 0) {
#pragma unroll
                for (int j = 0; j < 2; j++) {
                    const float other = kn_shuffle_xor(upper ? x[i][j] : x[i + bit][j], bit);
                    if (upper)
                        x[i][j] = other;
                    else
                        x[i + bit][j] = other;
                }
            }
    }
}

// Calls store for what a thread's sums of one row become in `there` outputs; all threads of the warp take part.
template <class Store>
KN_DEVICE void kn_give_row(const float (&sums)[kn_sums], int r, bool there, long long row, int column0, Store store) {
    constexpr int pieces = KN_BN / 8;
    const int place = threadIdx.x % 4;
    const auto give = [&](int column, const float (&product)[KN_LANES]) {
        if (there && column < KN_N) store(row, column / KN_LANES, product);
    };
#if KN_LANES == 8
#pragma unroll
    for (int first = 0; first < pieces; first += 4) {
        float x[4][2];
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int j = 0; j < 2; j++) x[i][j] = first + i < pieces ? sums[(first + i) % pieces * 4 + 2 * r + j] : 0.0f;
        kn_exchange_fours(x);
        const float product[8] = {x[0][0], x[0][1], x[1][0], x[1][1], x[2][0], x[2][1], x[3][0], x[3][1]};
        if (first + place < pieces) give(column0 + (first + place) * 8, product);
    }
#elif KN_LANES == 4
#pragma unroll
    for (int first = 0; first < pieces; first += 2) {
        const bool upper = place % 2;
        float x[2][2];
#pragma unroll
        for (int i = 0; i < 2; i++)
#pragma unroll
            for (int j = 0; j < 2; j++) x[i][j] = first + i < pieces ? sums[(first + i) % pieces * 4 + 2 * r + j] : 0.0f;
#pragma unroll
        for (int j = 0; j < 2; j++) {
            const float other = kn_shuffle_xor(upper ? x[0][j] : x[1][j], 1);
            if (upper)
                x[0][j] = other;
            else
                x[1][j] = other;
        }
        const float product[4] = {x[0][0], x[0][1], x[1][0], x[1][1]};
        if (first + place % 2 < pieces) give(column0 + (first + place % 2) * 8 + place / 2 * 4, product);
    }
#else
#pragma unroll
    for (int piece = 0; piece < pieces; piece++)
#pragma unroll
        for (int j = 0; j < 2; j += KN_LANES) {
            float product[KN_LANES];
#pragma unroll
            for (int i = 0; i < KN_LANES; i++) product[i] = sums[piece * 4 + 2 * r + j + i];
            give(column0 + piece * 8 + place * 2 + j, product);
        }
#endif
}

// pixel(image, row, column, channels) loads a pixel of x that is there; store(row, column / KN_LANES, product) is called
// for each KN_LANES neighbours of y, once.
template <class Pixel, class Weight, class Touch, class Store>
KN_DEVICE void kn_product(Pixel pixel, const Weight* w, Touch, Store store) {
    kn_run(pixel, w, [&](int group, unsigned stages, unsigned weights, kn_barriers barriers) {
        const unsigned long long b = kn_plain_matrix(weights, KN_BN * 16, 128);
        const auto multiply = [&](float(&sums)[kn_sums], unsigned cells) {
            const unsigned long long a = kn_plain_matrix(cells, 0, kn_window_stride_y * kn_line_bytes);
            kn_sum_up(sums, [&](float(&part)[kn_sums], int step, bool first) {
                const unsigned long long rows = a + kn_step_cells(step), columns = b + step * (2 * KN_BN);
#if KN_EXACT
                kn_wgmma(part, rows + kn_band_bytes / 16, columns, first);
                kn_wgmma(part, rows, columns + kn_weight_bytes / 16, false);
                kn_wgmma(part, rows, columns, false);
#else
                kn_wgmma(part, rows, columns, first);
#endif
            }, [] {});
        };
        const auto give = [&](const float(&sums)[kn_sums], int image, int top, int left) {
            const int column = left + threadIdx.x % 32 / 4;
#pragma unroll
            for (int r = 0; r < 2; r++) {
                const int row = top + threadIdx.x % 128 / 32 * 2 + r;
                const bool there = row < kn_window_rows && column < kn_window_columns;
                const long long place = (static_cast<long long>(image) * kn_window_rows + row) * kn_window_columns + column;
                kn_give_row(sums, r, there, place, blockIdx.y * KN_BN, store);
            }
        };
        kn_consume<kn_sums>(group, stages, barriers, multiply, give);
    });
}
