// A convolution over few channels on Hopper's tensor cores (sm_90a).
//
// A band of an image lies in shared memory as cells of 16 bytes, each a few taps of a row of the kernel as one window meets
// them, with all their channels. Windows of neighbouring outputs meet neighbouring cells, so that eight by eight outputs are
// the rows of a product that the tensor cores read straight from the band: windows overlap in memory, and no matrix of
// windows is ever written. Where windows are some pixels apart, cells lie in planes, one for each remainder of their first
// pixel.
//
// One group of 128 threads fills bands, KN_GROUPS others multiply what is in them, patch by patch; blocks take band after
// band.
//
// What the generator defines in front of this text:
//   KN_GROUPS, KN_STAGES          groups that multiply; bands at a time
//   KN_TYPE                       0: half, 1: bfloat16, 2: float32
//   KN_EXACT                      1: float32 by three TF32 products, high*high + high*low + low*high, some steps summed apart
//   KN_BN, KN_N                   filters of a block, a multiple of 8, and of all
//   KN_LANES                      neighbouring filters that the epilogue takes at once: 1, 2, 4, 8
//   KN_PATCH_ROWS, KN_PATCH_COLUMNS   of a band, each of 8 outputs
//   KN_TAPS, KN_CELL_CHANNELS     of a cell
//   KN_PHASE_STEP                 between the remainders of planes
//   KN_PLANES, KN_PLANE_CELLS, KN_BAND_ROWS   of a band: planes, cells of a row of a plane, rows of the image
//   KN_IMAGES, KN_KERNEL_HEIGHT, and the kn_window_* constants
//   kn_wgmma(sums, a, b, first)   one step: two cells of 64 rows

constexpr int kn_row_cells = (kn_window_width + KN_TAPS - 1) / KN_TAPS;  // of a row of the kernel
constexpr int kn_cells = KN_KERNEL_HEIGHT * kn_row_cells;
constexpr int kn_steps = (kn_cells + 1) / 2;
constexpr int kn_cell_elements = KN_TAPS * KN_CELL_CHANNELS;
constexpr int kn_line_cells = KN_PLANES * KN_PLANE_CELLS;  // of a row of a band
constexpr int kn_line_bytes = kn_line_cells * 16;
constexpr int kn_band_bytes = KN_BAND_ROWS * kn_line_bytes;
constexpr int kn_stage_bytes = kn_band_bytes * (1 + KN_EXACT);  // low parts behind all high ones
constexpr int kn_weight_bytes = 2 * kn_steps * KN_BN * 16;      // likewise
constexpr int kn_sums = KN_BN / 2;
constexpr int kn_patches = KN_PATCH_ROWS * KN_PATCH_COLUMNS;
constexpr int kn_bands_down = (kn_window_rows + KN_PATCH_ROWS * 8 - 1) / (KN_PATCH_ROWS * 8);
constexpr int kn_bands_across = (kn_window_columns + KN_PATCH_COLUMNS * 8 - 1) / (KN_PATCH_COLUMNS * 8);
constexpr int kn_bands = KN_IMAGES * kn_bands_down * kn_bands_across;

// Where a window meets a cell, from where it meets the first one on.
KN_DEVICE constexpr int kn_offset(int cell) {
    const int row = cell / kn_row_cells, pixel = cell % kn_row_cells * KN_TAPS * kn_window_dilation_x;
    const int plane = pixel % kn_window_stride_x / KN_PHASE_STEP;
    return row * kn_window_dilation_y * kn_line_bytes + (plane * KN_PLANE_CELLS + pixel / kn_window_stride_x) * 16;
}
// Steps take cells two by two, the one that lies in front first; a last one alone counts twice, the second time with
// weights of 0.
KN_DEVICE constexpr bool kn_behind_the_next(int cell) { return cell + 1 < kn_cells && kn_offset(cell + 1) < kn_offset(cell); }
KN_DEVICE constexpr bool kn_any_behind_the_next() {
    for (int cell = 0; cell < kn_cells; cell += 2)
        if (kn_behind_the_next(cell)) return true;
    return false;
}
constexpr bool kn_exchanged = kn_any_behind_the_next();
KN_DEVICE constexpr int kn_cell_of(int slot) {
    const int cell = slot / 2 * 2;
    if (cell + 1 == kn_cells) return cell;
    return cell + (slot % 2 ^ (kn_exchanged && kn_behind_the_next(cell) ? 1 : 0));
}
// What a step adds to the first one's description of rows.
KN_DEVICE constexpr unsigned kn_step_cells(int step) {
    const int first = kn_offset(kn_cell_of(2 * step)), second = kn_offset(kn_cell_of(2 * step + 1));
    return first / 16 | (second - first) / 16 << 16;
}

// The outputs of a band begin at (row, column).
struct kn_band {
    int image, row, column;
    KN_DEVICE kn_band(int number) {
        column = number % kn_bands_across * (KN_PATCH_COLUMNS * 8);
        row = number / kn_bands_across % kn_bands_down * (KN_PATCH_ROWS * 8);
        image = number / (kn_bands_across * kn_bands_down);
    }
};

// Place in the ring of bands, and how often it went round.
struct kn_ring {
    int stage = 0;
    unsigned phase = 0;
    KN_DEVICE void next() {
        if (++stage == KN_STAGES) {
            stage = 0;
            phase ^= 1;
        }
    }
};

struct kn_barriers {
    unsigned base;
    KN_DEVICE unsigned full(int stage) const { return base + stage * 8; }
    KN_DEVICE unsigned empty(int stage) const { return base + (KN_STAGES + stage) * 8; }
};

// Once for the warp, when all its threads are here.
KN_DEVICE void kn_arrive_warp(unsigned barrier) {
    kn_sync_warp();
    if (threadIdx.x % 32 == 0) kn_arrive(barrier);
}

// The elements of a cell as the tensor cores want them; exact: low parts `rest` bytes behind.
KN_DEVICE void kn_put_cell(unsigned address, int rest, const float (&x)[kn_cell_elements]) {
#if KN_EXACT
    unsigned high[4], low[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        high[i] = kn_round_tf32(x[i]);
        low[i] = kn_round_tf32(x[i] - kn_bits_to_float(high[i]));
    }
    kn_store_words(address, {high[0], high[1], high[2], high[3]});
    kn_store_words(address + rest, {low[0], low[1], low[2], low[3]});
#elif KN_TYPE == 2
    kn_store_words(address, {kn_round_tf32(x[0]), kn_round_tf32(x[1]), kn_round_tf32(x[2]), kn_round_tf32(x[3])});
#elif KN_TYPE == 1
    kn_store_words(address, {kn_two_bf16(x[0], x[1]), kn_two_bf16(x[2], x[3]), kn_two_bf16(x[4], x[5]), kn_two_bf16(x[6], x[7])});
#else
    kn_store_words(address, {kn_two_halves(x[0], x[1]), kn_two_halves(x[2], x[3]), kn_two_halves(x[4], x[5]), kn_two_halves(x[6], x[7])});
#endif
}

// w [kernel row, tap, channel, filter] as cells: for each of a step's two, filter by filter.
template <class Weight>
KN_DEVICE void kn_put_weights(unsigned weights, const Weight* w, int column0) {
    constexpr int all = 2 * kn_steps * KN_BN, threads = KN_GROUPS * 128;
    constexpr int ahead = 32 / (KN_TAPS * kn_window_channels) + 1;  // cells that are loaded together
#pragma unroll 1
    for (int from = threadIdx.x; from < all; from += ahead * threads) {
        float x[ahead][kn_cell_elements];
#pragma unroll
        for (int i = 0; i < ahead; i++) {
            const int number = from + i * threads;
            const int slot = number / KN_BN, column = column0 + number % KN_BN, cell = kn_cell_of(slot);
            const int row = cell / kn_row_cells, first = cell % kn_row_cells * KN_TAPS;
#pragma unroll
            for (int tap = 0; tap < KN_TAPS; tap++)
#pragma unroll
                for (int channel = 0; channel < KN_CELL_CHANNELS; channel++) {
                    const bool there = channel < kn_window_channels && first + tap < kn_window_width && slot < kn_cells && column < KN_N;
                    const int at = ((row * kn_window_width + first + tap) * kn_window_channels + channel) * KN_N + column;
                    x[i][tap * KN_CELL_CHANNELS + channel] = there ? kn_widen(w[at]) : 0.0f;
                }
        }
#pragma unroll
        for (int i = 0; i < ahead; i++)
            if (from + i * threads < all) kn_put_cell(weights + (from + i * threads) * 16, kn_weight_bytes, x[i]);
    }
}

// One group: fills bands.
template <class Pixel>
KN_DEVICE void kn_produce(Pixel pixel, unsigned stages, kn_barriers barriers) {
    constexpr int cells = KN_BAND_ROWS * kn_line_cells;
    constexpr int ahead = 16 / (KN_TAPS * kn_window_channels) + 1;  // cells that are loaded together
    kn_ring ring;
#pragma unroll 1
    for (int number = blockIdx.x; number < kn_bands; number += gridDim.x) {
        const kn_band band(number);
        const int top = band.row * kn_window_stride_y - kn_window_pad_y;
        const int left = band.column * kn_window_stride_x - kn_window_pad_x;
        const unsigned target = stages + ring.stage * kn_stage_bytes;
        kn_wait(barriers.empty(ring.stage), ring.phase ^ 1);
#pragma unroll 1
        for (int first = threadIdx.x % 128; first < cells; first += ahead * 128) {
            float x[ahead][kn_cell_elements];
#pragma unroll
            for (int i = 0; i < ahead; i++) {
                const int number = first + i * 128 < cells ? first + i * 128 : first;
                const int in_line = number % kn_line_cells;
                const int row = top + number / kn_line_cells;
                const int column = left + in_line % KN_PLANE_CELLS * kn_window_stride_x + in_line / KN_PLANE_CELLS * KN_PHASE_STEP;
#pragma unroll
                for (int tap = 0; tap < KN_TAPS; tap++) {
                    // Loads do not depend on whether the pixel is there, so that all of them are under way together.
                    const int at = column + tap * kn_window_dilation_x;
                    const bool inside = row >= 0 && row < kn_window_height_in && at >= 0 && at < kn_window_width_in;
                    float channels[kn_window_channels];
                    pixel(band.image, inside ? row : 0, inside ? at : 0, channels);
#pragma unroll
                    for (int channel = 0; channel < KN_CELL_CHANNELS; channel++)
                        x[i][tap * KN_CELL_CHANNELS + channel] = inside && channel < kn_window_channels ? channels[channel % kn_window_channels] : 0.0f;
                }
            }
#pragma unroll
            for (int i = 0; i < ahead; i++)
                if (first + i * 128 < cells) kn_put_cell(target + (first + i * 128) * 16, kn_band_bytes, x[i]);
        }
        kn_publish();
        kn_arrive_warp(barriers.full(ring.stage));
        ring.next();
    }
}

// All threads of a group: the sums of 8 x 8 outputs, whose first one's window meets its first cell at `rows`.
KN_DEVICE void kn_multiply(float (&sums)[kn_sums], unsigned rows, unsigned weights) {
    const unsigned long long a = kn_plain_matrix(rows, 0, kn_window_stride_y * kn_line_bytes);
    const unsigned long long b = kn_plain_matrix(weights, KN_BN * 16, 128);
#if KN_EXACT
#pragma unroll
    for (int i = 0; i < kn_sums; i++) sums[i] = 0;
#pragma unroll
    for (int from = 0; from < kn_steps; from += 4) {
        float part[kn_sums];
        kn_start_products();
#pragma unroll
        for (int step = from; step < from + 4 && step < kn_steps; step++) {
            const unsigned long long high = a + kn_step_cells(step), low = high + kn_band_bytes / 16;
            const unsigned long long whole = b + step * (2 * KN_BN), rest = whole + kn_weight_bytes / 16;
            kn_wgmma(part, low, whole, step == from);
            kn_wgmma(part, high, rest, false);
            kn_wgmma(part, high, whole, false);
        }
        kn_commit_products();
        kn_wait_products<0>();
        kn_arrived(part);
#pragma unroll
        for (int i = 0; i < kn_sums; i++) sums[i] += part[i];
    }
#else
    kn_start_products();
#pragma unroll
    for (int step = 0; step < kn_steps; step++)
        kn_wgmma(sums, a + kn_step_cells(step), b + step * (2 * KN_BN), step == 0);
    kn_commit_products();
    kn_wait_products<0>();
    kn_arrived(sums);
#endif
}

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

// A group that multiplies.
template <class Store>
KN_DEVICE void kn_consume(int group, unsigned stages, unsigned weights, kn_barriers barriers, int column0, Store store) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x % 128 / 32;
    kn_ring ring;
#pragma unroll 1
    for (int number = blockIdx.x; number < kn_bands; number += gridDim.x) {
        const kn_band band(number);
        const unsigned rows = stages + ring.stage * kn_stage_bytes;
        kn_wait(barriers.full(ring.stage), ring.phase);
#pragma unroll 1
        for (int patch = group; patch < kn_patches; patch += KN_GROUPS) {
            const int down = patch / KN_PATCH_COLUMNS * 8, across = patch % KN_PATCH_COLUMNS * 8;
            const bool last = patch + KN_GROUPS >= kn_patches;
            const bool some = band.row + down < kn_window_rows && band.column + across < kn_window_columns;
            float sums[kn_sums];
            if (some) kn_multiply(sums, rows + down * kn_window_stride_y * kn_line_bytes + across * 16, weights);
            if (last) kn_arrive_warp(barriers.empty(ring.stage));
            if (!some) continue;
            const int column = band.column + across + lane / 4;
#pragma unroll
            for (int r = 0; r < 2; r++) {
                const int row = band.row + down + warp * 2 + r;
                const bool there = row < kn_window_rows && column < kn_window_columns;
                const long long place = (static_cast<long long>(band.image) * kn_window_rows + row) * kn_window_columns + column;
                kn_give_row(sums, r, there, place, column0, store);
            }
        }
        ring.next();
    }
}

// pixel(image, row, column, channels) loads a pixel of x that is there; store(row, column / KN_LANES, product) is called
// for each KN_LANES neighbours of y, once.
template <class Pixel, class Weight, class Touch, class Store>
KN_DEVICE void kn_product(Pixel pixel, const Weight* w, Touch, Store store) {
    KN_SWIZZLED_SHARED(kn_memory);
    const unsigned stages = kn_shared_address(kn_memory);
    const unsigned weights = stages + KN_STAGES * kn_stage_bytes;
    const kn_barriers barriers{weights + kn_weight_bytes * (1 + KN_EXACT)};
    const int column0 = blockIdx.y * KN_BN;
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
        kn_put_weights(weights, w, column0);
        kn_publish();
        kn_sync_some(1, KN_GROUPS * 128);
        kn_consume(group, stages, weights, barriers, column0, store);
    }
}
