// Bands of an image, patch by patch: one group of 128 threads fills them, the others multiply; blocks take band after band.

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
    kn_ring ring;
#pragma unroll 1
    for (int number = blockIdx.x; number < kn_bands; number += gridDim.x) {
        const kn_band band(number);
        kn_wait(barriers.empty(ring.stage), ring.phase ^ 1);
        kn_fill_band(pixel, stages + ring.stage * kn_stage_bytes, band.image, band.row * kn_window_stride_y - kn_window_pad_y,
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
    kn_ring ring;
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

// All that a block does: `work(group, stages, weights, barriers)` is what groups do that multiply. `memory` is behind
// what they have for themselves.
template <class Pixel, class Weight, class Work>
KN_DEVICE void kn_run(unsigned memory, Pixel pixel, const Weight* w, Work work) {
    const unsigned stages = memory, weights = stages + KN_STAGES * kn_stage_bytes;
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
