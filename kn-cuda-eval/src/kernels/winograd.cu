// 3x3 convolutions with stride 1 on Hopper's tensor cores (sm_90a) by minimal filtering along lines: two neighbours of a line
// of y take four products where windows take six (S. Winograd; F(2,3) of A. Lavin and S. Gray, "Fast algorithms for
// convolutional neural networks", in one direction). Of the pixels d0 to d3 of a line of x, and its weights g0 to g2,
//
//     y0 = m0 + m1 + m2   m0 = (d0 - d2) / 2 * 2 g0   m1 = (d1 + d2) / -2 * -(g0 + g1 + g2)
//     y1 = m1 - m2 - m3   m3 = (d3 - d1) / 2 * -2 g2   m2 = (d2 - d1) / 2 * (g0 - g1 + g2)
//
// where each m is a sum over lines of the window and channels. Halved differences stay within what a half type can say;
// infinities in x may become NaN.
//
// One warp has the copy engine fill two rings: pixels of a tile with their borders, 64 channels at a time, and weights, a line
// of the window and 32 channels at a time, of all four positions. Two groups of 128 threads load pixels, make the four
// operands of them in registers, multiply, and give sums of pairs to an epilogue (epilogue_patches.cu, epilogue_direct.cu,
// epilogue_cluster.cu).
// A warp has a patch: four lines of eight pixels, which are rows of y in another order (kn_row).
//
// What the generator defines in front of this text, besides what epilogues and windows want:
//   KN_BM, KN_BN      256 rows of y, and columns, of a tile
//   KN_STAGES         of weights in flight
//   KN_M, KN_N        rows and columns of y
//   KN_CHANNEL_SLABS  of 64 channels
//   KN_SPLITS         blocks of a cluster that share the channels of a tile out among them; 1: none
//   KN_PATCHES_X, KN_PATCHES_Y, KN_PATCH_IMAGES   patches of a tile: beside and above each other, and in so many images
//   KN_BOX_WIDTH, KN_BOX_HEIGHT   pixels of an image that a tile reads. The width is odd, so that eight rows of patches lie in
//                                 different banks; where a tile has whole lines, the pixel behind one is the next one's border
//   kn_wgmma(acc, a, b, first)   one k step of 64 rows, a in registers
//   KN_BARRIERS_AT    behind all else in shared memory; Epilogue::barriers are each warp's own
//   KN_STARTS_EARLY   defined where blocks may start before the kernel in front of this one has ended: up to
//                     kn_wait_for_previous, a thread touches nothing but weights

constexpr int kn_groups = 2, kn_consumers = kn_groups * 4;  // warps
constexpr int kn_pieces = 2;  // of 64 rows, a group's: first and second of all pairs
constexpr int kn_sums = KN_BN / 2;  // accumulators of a thread and piece, or position
constexpr int kn_positions = 4;
constexpr int kn_pixel_bytes = KN_BOX_WIDTH * KN_BOX_HEIGHT * KN_PATCH_IMAGES * 128;
constexpr int kn_pixel_stage_bytes = (kn_pixel_bytes + 128 + 1023) / 1024 * 1024;  // and a border behind the last line
constexpr int kn_pixel_stages = 2;
constexpr int kn_weight_bytes = kn_positions / 2 * KN_BN * 128;
constexpr int kn_stages_bytes = kn_pixel_stages * kn_pixel_stage_bytes + KN_STAGES * kn_weight_bytes;
constexpr int kn_weight_slabs = 6;  // of 64 channels: two halves of three lines
constexpr int kn_steps = 4;         // of 16 channels, in a line
// Lines that are unrolled: one compiles twice as fast as all; wide tiles multiply 0 to 2 % slower by it, others 3 %.
constexpr int kn_lines_at_once = KN_BN > 64 ? 1 : 3;
constexpr int kn_across = (kn_window_columns + 8 * KN_PATCHES_X - 1) / (8 * KN_PATCHES_X);
constexpr int kn_down = (kn_window_rows + 4 * KN_PATCHES_Y - 1) / (4 * KN_PATCHES_Y);
constexpr int kn_images = KN_M / (kn_window_rows * kn_window_columns);
constexpr int kn_row_tiles = (kn_images + KN_PATCH_IMAGES - 1) / KN_PATCH_IMAGES * kn_down * kn_across;
constexpr int kn_column_tiles = (KN_N + KN_BN - 1) / KN_BN;
constexpr int kn_tiles = kn_row_tiles * kn_column_tiles;
// No tile reaches beyond y.
constexpr bool kn_whole = kn_images % KN_PATCH_IMAGES == 0 && kn_window_rows % (4 * KN_PATCHES_Y) == 0 &&
                          kn_window_columns % (8 * KN_PATCHES_X) == 0 && KN_N % KN_BN == 0;

struct kn_sources {
    const kn_tensor_map &x, &w, &unused;
};

using kn_pixel_ring = kn_ring<kn_pixel_stages>;
using kn_weight_ring = kn_ring<KN_STAGES>;

struct kn_barriers {
    kn_ring_barriers<kn_pixel_stages> pixels;
    kn_ring_barriers<KN_STAGES> weights;
    unsigned first_own;  // of the warps'
    KN_DEVICE kn_barriers(unsigned base)
        : pixels{base}, weights{base + 2 * kn_pixel_stages * 8}, first_own(base + 2 * (kn_pixel_stages + KN_STAGES) * 8) {}
    KN_DEVICE unsigned own(int number) const { return first_own + number * 8; }
};

// The channels of a tile that this block multiplies, by slabs.
KN_DEVICE int kn_first_slab() { return KN_SPLITS == 1 ? 0 : kn_block_in_cluster() * KN_CHANNEL_SLABS / KN_SPLITS; }
KN_DEVICE int kn_last_slab() {
    return KN_SPLITS == 1 ? KN_CHANNEL_SLABS : (kn_block_in_cluster() + 1) * KN_CHANNEL_SLABS / KN_SPLITS;
}

// Where the pixels of the tile begin, whose first row is `row` in the order of tiles.
struct kn_place {
    int x, y, image;
    KN_DEVICE kn_place(long long row) {
        const int tile = static_cast<int>(row / KN_BM);
        x = tile % kn_across * (8 * KN_PATCHES_X);
        y = tile / kn_across % kn_down * (4 * KN_PATCHES_Y);
        image = tile / (kn_across * kn_down) * KN_PATCH_IMAGES;
    }
};

// Neighbours in time share what there are fewer tiles of. Rows count in the order of tiles, groups, pieces and warps.
struct kn_tile {
    long long row;
    int column;
    KN_DEVICE kn_tile(int tile) {
        const bool columns_first = kn_column_tiles <= kn_row_tiles;
        const int row_tile = columns_first ? tile / kn_column_tiles : tile % kn_row_tiles;
        row = static_cast<long long>(row_tile) * KN_BM;
        column = (columns_first ? tile % kn_column_tiles : tile / kn_row_tiles) * KN_BN;
    }
};

// Where the patch begins of the warp whose first row is `row`.
KN_DEVICE kn_place kn_patch_of(long long row) {
    kn_place place(row);
    const int rows = static_cast<int>(row % KN_BM), patch = rows / 128 * 4 + rows / 16 % 4;
    place.x += patch % KN_PATCHES_X * 8;
    place.y += patch / KN_PATCHES_X % KN_PATCHES_Y * 4;
    place.image += patch / (KN_PATCHES_X * KN_PATCHES_Y);
    return place;
}

// The row of y that is the i-th of a warp's 16 in a piece: of the left halves of eight patches' pairs of pairs, then of the right
// ones. Not one where the tile reaches beyond y.
KN_DEVICE long long kn_row(long long row0, int i) {
    const kn_place patch = kn_patch_of(row0);
    const int x = patch.x + i % 2 * 4 + i / 8 * 2 + static_cast<int>(row0 / 64 % 2), y = patch.y + i % 8 / 2;
    if (!kn_whole && (x >= kn_window_columns || y >= kn_window_rows)) return KN_M;
    return static_cast<long long>(patch.image * kn_window_rows + y) * kn_window_columns + x;
}

// Until all is there that the kernels before this one write, and they read no more of what this one writes.
KN_DEVICE void kn_wait_for_previous() {
#ifdef KN_STARTS_EARLY
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// The weights' axes: two positions of 32 channels; by channels, lines of the window, halves of 64 channels, pairs of positions.
KN_DEVICE void kn_copy_weight_slab(const kn_sources& sources, int column, int number, unsigned target, unsigned full) {
    kn_expect(full, kn_weight_bytes);
#pragma unroll
    for (int pair = 0; pair < kn_positions / 2; pair++)
        kn_copy_weights(target + pair * KN_BN * 128, sources.w, full, 0, number * (kn_positions / 2) + pair, column);
}

// One thread: keeps the stages full.
KN_DEVICE void kn_produce(const kn_sources& sources, unsigned pixels, unsigned weights, kn_barriers barriers) {
    kn_pixel_ring pixel;
    kn_weight_ring weight;
    const int first = kn_first_slab(), last = kn_last_slab();
    int early = 0;  // stages whose weights are under way
#ifdef KN_STARTS_EARLY
    const kn_tile begin(blockIdx.x / KN_SPLITS);
    for (; early < KN_STAGES && early < (last - first) * kn_weight_slabs; early++)
        kn_copy_weight_slab(sources, begin.column, first * kn_weight_slabs + early, weights + early * kn_weight_bytes,
                            barriers.weights.full(early));
    kn_wait_for_previous();
#endif
    for (int i = blockIdx.x / KN_SPLITS; i < kn_tiles; i += gridDim.x / KN_SPLITS) {
        const kn_tile tile(i);
        const kn_place place(tile.row);
#pragma unroll 1
        for (int slab = first; slab < last; slab++) {
            const unsigned full = barriers.pixels.full(pixel.stage);
            kn_wait(barriers.pixels.empty(pixel.stage), pixel.phase ^ 1);
            kn_expect(full, kn_pixel_bytes);
            kn_copy_heads(pixels + pixel.stage * kn_pixel_stage_bytes, sources.x, full, slab * 64, place.x - 1, place.y - 1,
                          place.image);
            pixel.next();
#pragma unroll 1
            for (int number = 0; number < kn_weight_slabs; number++) {
                if (early > 0) {
                    early--;
                } else {
                    kn_wait(barriers.weights.empty(weight.stage), weight.phase ^ 1);
                    kn_copy_weight_slab(sources, tile.column, slab * kn_weight_slabs + number,
                                        weights + weight.stage * kn_weight_bytes, barriers.weights.full(weight.stage));
                }
                weight.next();
            }
        }
    }
}

// Pixels of a step as ldmatrix gives them: two neighbours a number, of the left and right pair of a patch's row both what they
// need; 0 and 1 are the first one's halves of 16 channels, 2 and 3 the second one's.
using kn_pixels = unsigned[3][4];

// Operands of the four positions: rows are the left pairs, then the right ones.
KN_DEVICE void kn_filter(unsigned (&operands)[kn_positions][4], const kn_pixels& d) {
    constexpr unsigned plus = 0x38003800, minus = 0xb800b800;  // two halves
#pragma unroll
    for (int half = 0; half < 2; half++)
#pragma unroll
        for (int side = 0; side < 2; side++) {
            const unsigned d1 = d[side][2 + half], d2 = d[side + 1][half];
            const unsigned less_d1 = kn_multiply_two(kn_half(), d1, minus), less_d2 = kn_multiply_two(kn_half(), d2, minus);
            operands[0][2 * half + side] = kn_multiply_add_two(kn_half(), d[side][half], plus, less_d2);
            operands[1][2 * half + side] = kn_multiply_add_two(kn_half(), d1, minus, less_d2);
            operands[2][2 * half + side] = kn_multiply_add_two(kn_half(), d2, plus, less_d1);
            operands[3][2 * half + side] = kn_multiply_add_two(kn_half(), d[side + 1][2 + half], plus, less_d1);
        }
}

// What a warp loads of its patch.
struct kn_patch {
    int first;  // pixel of the thread's row of matrices
    int half;   // of 16 channels
    unsigned at[3];

    KN_DEVICE kn_patch() {
        const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, row = lane % 8;
        const int line = (warp / (KN_PATCHES_X * KN_PATCHES_Y) * KN_BOX_HEIGHT) + warp / KN_PATCHES_X % KN_PATCHES_Y * 4 + row / 2;
        first = line * KN_BOX_WIDTH + warp % KN_PATCHES_X * 8 + row % 2 * 4 + lane / 16;
        half = lane / 8 % 2;
    }
    // Chunks of 16 bytes are exchanged by the pixel's number.
    KN_DEVICE void go_to(unsigned pixels, int line) {
#pragma unroll
        for (int i = 0; i < 3; i++) {
            const int pixel = first + line * KN_BOX_WIDTH + 2 * i;
            at[i] = pixels + pixel * 128 + ((half ^ (pixel & 7)) << 4);
        }
    }
    KN_DEVICE void load(kn_pixels& d, int step) const {
#pragma unroll
        for (int i = 0; i < 3; i++) kn_load_matrices(d[i], at[i] ^ (step << 5));
    }
};

// All threads of a group: the sums of a tile. A step's pixels are loaded behind the step before it, whose products they do not
// wait for.
KN_DEVICE void kn_multiply(float (&sums)[kn_pieces][kn_sums], kn_pixel_ring& pixel, kn_weight_ring& weight, unsigned pixels,
                           unsigned weights, kn_barriers barriers) {
    const bool one = threadIdx.x % 32 == 0;
    const int first = kn_first_slab(), last = kn_last_slab();
    float m[kn_positions][kn_sums];
    unsigned operands[2][kn_positions][4];
    kn_pixels d;
    kn_patch patch;
    kn_wait(barriers.pixels.full(pixel.stage), pixel.phase);
    patch.go_to(pixels + pixel.stage * kn_pixel_stage_bytes, 0);
    patch.load(d, 0);
    kn_filter(operands[0], d);
    int before = 0;
#pragma unroll 1
    for (int slab = first; slab < last; slab++) {
        const int stage = pixel.stage;
        const bool more = slab + 1 < last;
        pixel.next();
        const int next_stage = more ? pixel.stage : stage;  // behind the last slab something is loaded, for nothing
#pragma unroll kn_lines_at_once
        for (int line = 0; line < 3; line++) {
            unsigned long long b = 0;
#pragma unroll
            for (int step = 0; step < kn_steps; step++) {
                if (step % 2 == 0) {
                    kn_wait(barriers.weights.full(weight.stage), weight.phase);
                    b = kn_matrix(weights + weight.stage * kn_weight_bytes);
                }
                if (step + 1 == kn_steps && line == 2 && more) kn_wait(barriers.pixels.full(pixel.stage), pixel.phase);
                kn_start_products();
                patch.load(d, (step + 1) % kn_steps);
#pragma unroll
                for (int i = 0; i < kn_positions; i++)
                    kn_wgmma(m[i], operands[step % 2][i], kn_behind(b, i / 2 * (KN_BN * 128) + i % 2 * 64 + step % 2 * 32),
                             slab == first && line == 0 && step == 0);
                kn_commit_products();
                if (step + 2 == kn_steps)
                    patch.go_to(pixels + (line < 2 ? stage : next_stage) * kn_pixel_stage_bytes, line < 2 ? line + 1 : 0);
                kn_wait_products<1>();
                if (step % 2 == 0) {
                    if (one && (step > 0 || line > 0 || slab > first)) kn_arrive(barriers.weights.empty(before));
                    before = weight.stage;
                    weight.next();
                }
                kn_filter(operands[(step + 1) % 2], d);
            }
        }
        kn_arrive_warp(barriers.pixels.empty(stage));
    }
    kn_wait_products<0>();
#pragma unroll
    for (int i = 0; i < kn_positions; i++) kn_arrived(m[i]);
    kn_arrive_warp(barriers.weights.empty(before));
#pragma unroll
    for (int i = 0; i < kn_sums; i++) {
        sums[0][i] = m[0][i] + m[1][i] + m[2][i];
        sums[1][i] = m[1][i] - m[2][i] - m[3][i];
    }
}

// All that a block does. Epilogue::bytes of shared memory are each warp's own.
template <class Epilogue>
KN_DEVICE void kn_run(const kn_sources& sources, Epilogue epilogue) {
    KN_SWIZZLED_SHARED(kn_memory);
    const unsigned pixels = kn_shared_address(kn_memory), weights = pixels + kn_pixel_stages * kn_pixel_stage_bytes;
    const kn_barriers barriers(pixels + KN_BARRIERS_AT);
#ifdef KN_STARTS_EARLY
    asm volatile("griddepcontrol.launch_dependents;");
#endif
    if (threadIdx.x == 0) {
        for (int stage = 0; stage < kn_pixel_stages; stage++) {
            kn_init_barrier(barriers.pixels.full(stage), 1);
            kn_init_barrier(barriers.pixels.empty(stage), kn_consumers);
        }
        for (int stage = 0; stage < KN_STAGES; stage++) {
            kn_init_barrier(barriers.weights.full(stage), 1);
            kn_init_barrier(barriers.weights.empty(stage), kn_consumers);
        }
        for (int i = 0; i < kn_consumers * Epilogue::barriers; i++) kn_init_barrier(barriers.own(i), 1);
        kn_publish_barriers();
    }
    // The border behind the last line.
    if (threadIdx.x < kn_pixel_stages * 8)
        kn_clear_shared(pixels + threadIdx.x / 8 * kn_pixel_stage_bytes + kn_pixel_bytes + threadIdx.x % 8 * 16);
    if (KN_SPLITS > 1)
        kn_sync_cluster();
    else
        kn_sync();

    const int warp = threadIdx.x / 32;
    if (warp >= kn_consumers) {
        KN_GIVE_REGISTERS(24);
        if (threadIdx.x == kn_consumers * 32) kn_produce(sources, pixels, weights, barriers);
        kn_sync_warp();
#if KN_SPLITS > 1
        kn_sync_cluster();
#endif
    } else {
        KN_TAKE_REGISTERS(240);
        kn_wait_for_previous();
        kn_pixel_ring pixel;
        kn_weight_ring weight;
        float sums[kn_pieces][kn_sums];
#if KN_SPLITS > 1
        const kn_tile tile(blockIdx.x / KN_SPLITS);
        kn_multiply(sums, pixel, weight, pixels, weights, barriers);
        // No warp still multiplies from what the sums go into.
        kn_sync_some(1, kn_consumers * 32);
        epilogue.leave(sums, kn_memory);
        kn_sync_cluster();
        epilogue.add_up(kn_memory, tile.row, tile.column);
#else
        epilogue.start(kn_memory + kn_stages_bytes + warp * Epilogue::bytes, barriers.own(warp * Epilogue::barriers),
                       warp / 4 * kn_pieces * 64 + warp % 4 * 16);
        const int stride = gridDim.x;
        if (static_cast<int>(blockIdx.x) < kn_tiles) epilogue.first(kn_tile(blockIdx.x));
        for (int i = blockIdx.x; i < kn_tiles; i += stride) {
            if (i + stride < kn_tiles) epilogue.ahead(kn_tile(i + stride));
            kn_multiply(sums, pixel, weight, pixels, weights, barriers);
            epilogue.give(sums, kn_tile(i), i + stride);
        }
        epilogue.finish();
#endif
    }
    // A block stays while others may reach into its shared memory.
    if (KN_SPLITS > 1) kn_sync_cluster();
}
