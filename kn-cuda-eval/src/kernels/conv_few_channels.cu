// A convolution over few channels on Hopper's tensor cores (sm_90a).
//
// A band of an image lies in shared memory as cells of 16 bytes, each a few taps of a row of the kernel as one window meets
// them, with all their channels. Windows of neighbouring outputs meet neighbouring cells, so that a patch of outputs is one
// operand of a product, which the tensor cores read straight from the band: windows overlap in memory, and no matrix of
// windows is ever written. Where windows are some pixels apart, cells lie in planes, one for each remainder of their first
// pixel.
//
// Groups of 128 threads fill bands, KN_GROUPS others multiply what is in them.
//
// What the generator defines in front of this text:
//   KN_GROUPS, KN_STAGES          groups that multiply; bands at a time
//   KN_TYPE                       0: half, 1: bfloat16, 2: float32
//   KN_EXACT                      1: float32 by three TF32 products, high*high + high*low + low*high, some steps summed apart
//                                 and added in float32
//   KN_BN, KN_N                   filters of a block, a multiple of 8, and of all
//   KN_PATCH_HEIGHT               rows of a patch of outputs, which has 8 columns
//   KN_PATCH_ROWS, KN_PATCH_COLUMNS   patches of a band
//   KN_TAPS, KN_CELL_CHANNELS     of a cell
//   KN_PHASE_STEP                 between the remainders of planes
//   KN_PLANES, KN_PLANE_CELLS, KN_BAND_ROWS   of a band: planes, cells of a row of a plane, rows of the image
//   KN_IMAGES, KN_KERNEL_HEIGHT, and the kn_window_* constants
//   kn_wgmma(sums, a, b, first)   one step: two cells
// What it is followed by says what the rows of products are, and what becomes of their sums.

constexpr int kn_row_cells = (kn_window_width + KN_TAPS - 1) / KN_TAPS;  // of a row of the kernel
constexpr int kn_cells = KN_KERNEL_HEIGHT * kn_row_cells;
constexpr int kn_steps = (kn_cells + 1) / 2;
constexpr int kn_cell_elements = KN_TAPS * KN_CELL_CHANNELS;
constexpr int kn_line_cells = KN_PLANES * KN_PLANE_CELLS;  // of a row of a band
constexpr int kn_line_bytes = kn_line_cells * 16;
constexpr int kn_band_bytes = KN_BAND_ROWS * kn_line_bytes;
constexpr int kn_stage_bytes = kn_band_bytes * (1 + KN_EXACT);  // low parts behind all high ones
constexpr int kn_weight_bytes = 2 * kn_steps * KN_BN * 16;      // likewise

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

using kn_barriers = kn_ring_barriers<KN_STAGES>;

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

// By the threads of one group: `lines` rows of a band that begins at (top, left) of the image; a thread loads `ahead` cells
// together.
template <int ahead, class Pixel>
KN_DEVICE void kn_fill_band(Pixel pixel, unsigned target, int image, int top, int left, int lines) {
    const int cells = lines * kn_line_cells;
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
                pixel(image, inside ? row : 0, inside ? at : 0, channels);
#pragma unroll
                for (int channel = 0; channel < KN_CELL_CHANNELS; channel++)
                    x[i][tap * KN_CELL_CHANNELS + channel] = inside && channel < kn_window_channels ? channels[channel % kn_window_channels] : 0.0f;
            }
        }
#pragma unroll
        for (int i = 0; i < ahead; i++)
            if (first + i * 128 < cells) kn_put_cell(target + (first + i * 128) * 16, kn_band_bytes, x[i]);
    }
}

// Until a patch's sums are there: `step` has the products of one step be added, the first of those that are summed together
// beginning anew; `begun` is called when all are under way.
template <int count, class Step, class Begun>
KN_DEVICE void kn_sum_up(float (&sums)[count], Step step, Begun begun) {
#if KN_EXACT
#pragma unroll
    for (int i = 0; i < count; i++) sums[i] = 0;
#pragma unroll
    for (int from = 0; from < kn_steps; from += 4) {
        float part[count];
        kn_start_products();
#pragma unroll
        for (int i = from; i < from + 4 && i < kn_steps; i++) step(part, i, i == from);
        kn_commit_products();
        if (from + 4 >= kn_steps) begun();
        kn_wait_products<0>();
        kn_arrived(part);
#pragma unroll
        for (int i = 0; i < count; i++) sums[i] += part[i];
    }
#else
    kn_start_products();
#pragma unroll
    for (int i = 0; i < kn_steps; i++) step(sums, i, i == 0);
    kn_commit_products();
    begun();
    kn_wait_products<0>();
    kn_arrived(sums);
#endif
}
