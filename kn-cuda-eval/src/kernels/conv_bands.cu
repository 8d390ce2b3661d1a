// A convolution with windows one pixel apart on Hopper's tensor cores (sm_90a): filters are the rows of products, 64 a block,
// and the pixels of some rows of an image their columns.
//
// A band of the image lies in shared memory once. A window's tap is the same pixels from another one on, as the tensor cores
// read them: the swizzle is one of addresses, so that a matrix may begin at any pixel. Lines of a band have room for what
// windows reach at their ends, so that results run from line to line, but for those between two lines, which nobody wants. The
// weights stay in shared memory.
//
// Groups of 128 threads multiply what is in the bands, a band each in turn, and then hand out their sums by way of the band's
// memory, so that filters of a pixel come together.
//
// What the generator defines in front of this text:
//   KN_GROUPS, KN_STAGES     groups that multiply; bands at a time
//   KN_TYPE                  0: half, 1: bfloat16, 2: float, whose TF32 part counts
//   KN_N                     filters of all blocks
//   KN_IMAGES, KN_KERNEL_HEIGHT, and the kn_window_* constants
//   KN_ROWS, KN_COLUMNS      outputs of a band
//   KN_PIXELS                columns of products, a multiple of 8
//   KN_SWIZZLED              1: planes of a band have 128 bytes of a pixel's channels side by side, in the 128-byte swizzle, filled
//                            by the copy engine; 0: 16 bytes, filled by one more group
//   KN_PLANE_CELLS           pixels of a plane, the last ones empty
//   KN_STAGE_BYTES           of a band, or of its results
//   kn_wgmma(sums, a, b, first)   one step: 32 bytes of channels

constexpr int kn_taps = KN_KERNEL_HEIGHT * kn_window_width;
constexpr int kn_of_chunk = KN_TYPE == 2 ? 4 : 8;  // elements of 16 bytes
constexpr int kn_chunks = kn_window_channels / kn_of_chunk, kn_filter_chunks = 64 / kn_of_chunk;  // of a pixel
constexpr int kn_steps_of_tap = kn_chunks / 2, kn_steps_of_line = kn_window_width * kn_steps_of_tap;
constexpr int kn_line = KN_COLUMNS + (kn_window_width - 1) * kn_window_dilation_x;
constexpr int kn_lines = KN_ROWS + (KN_KERNEL_HEIGHT - 1) * kn_window_dilation_y;
constexpr int kn_plane_bytes = KN_PLANE_CELLS * (KN_SWIZZLED ? 128 : 16);
// 64 filters and a chunk more, so that neighbours lie in other banks; and so for results.
constexpr int kn_weight_cells = 65, kn_weight_bytes = kn_taps * kn_chunks * kn_weight_cells * 16;
constexpr int kn_pitch = (kn_filter_chunks + 1) * 16;
constexpr int kn_sums = KN_PIXELS / 2, kn_results = KN_TYPE == 2 ? kn_sums : kn_sums / 2;

constexpr int kn_bands_down = (kn_window_rows + KN_ROWS - 1) / KN_ROWS;
constexpr int kn_bands_across = (kn_window_columns + KN_COLUMNS - 1) / KN_COLUMNS;
constexpr int kn_bands = KN_IMAGES * kn_bands_down * kn_bands_across;

// Its outputs begin at (row, column).
struct kn_band {
    int image, row, column;
    KN_DEVICE kn_band(int number) {
        column = number % kn_bands_across * KN_COLUMNS;
        row = number / kn_bands_across % kn_bands_down * KN_ROWS;
        image = number / (kn_bands_across * kn_bands_down);
    }
};

struct kn_barriers : kn_ring_barriers<KN_STAGES> {
    KN_DEVICE unsigned turn(int group) const { return base + (2 * KN_STAGES + group) * 8; }
};

#if KN_SWIZZLED
// One thread.
KN_DEVICE void kn_produce(const kn_tensor_map& x, unsigned stages, kn_barriers barriers) {
    constexpr int panel_channels = 8 * kn_of_chunk, panels = kn_window_channels / panel_channels;
    kn_ring<KN_STAGES> ring;
#pragma unroll 1
    for (int number = blockIdx.x; number < kn_bands; number += gridDim.x) {
        const kn_band band(number);
        kn_wait(barriers.empty(ring.stage), ring.phase ^ 1);
        kn_expect(barriers.full(ring.stage), panels * kn_lines * kn_line * 128);
#pragma unroll
        for (int panel = 0; panel < panels; panel++)
            kn_copy_heads(stages + ring.stage * KN_STAGE_BYTES + panel * kn_plane_bytes, x, barriers.full(ring.stage),
                          panel * panel_channels,                          band.column - kn_window_pad_x, band.row - kn_window_pad_y, band.image);
        ring.next();
    }
}
#else
// By one group; the copies go on by themselves.
template <class Element>
KN_DEVICE void kn_fill_band(const Element* x, unsigned target, const kn_band& band) {
    constexpr int all = kn_lines * kn_line * kn_chunks;
    const int top = band.row - kn_window_pad_y, left = band.column - kn_window_pad_x;
    const Element* const image = x + band.image * kn_window_image;
#pragma unroll 4
    for (int number = threadIdx.x % 128; number < all; number += 128) {
        const int chunk = number % kn_chunks, cell = number / kn_chunks;
        const int row = top + cell / kn_line, column = left + cell % kn_line;
        const bool inside = row >= 0 && row < kn_window_height_in && column >= 0 && column < kn_window_width_in;
        const long long at =
            static_cast<long long>(row) * kn_window_line + static_cast<long long>(column) * kn_window_pixel + chunk * kn_of_chunk;
        kn_copy_chunk(target + chunk * kn_plane_bytes + cell * 16, image + (inside ? at : 0), inside);
    }
    kn_commit_copies();
}

template <class Element>
KN_DEVICE void kn_produce(const Element* x, unsigned stages, kn_barriers barriers) {
    // With two bands a group would wait for the second one's place before it says that the first one is there.
    constexpr bool ahead = KN_STAGES > 2;
    kn_ring<KN_STAGES> ring;
    int before = -1;
#pragma unroll 1
    for (int number = blockIdx.x; number < kn_bands; number += gridDim.x) {
        kn_wait(barriers.empty(ring.stage), ring.phase ^ 1);
        kn_fill_band(x, stages + ring.stage * KN_STAGE_BYTES, kn_band(number));
        if (!ahead || before >= 0) {
            kn_wait_copies<ahead ? 1 : 0>();
            kn_publish();
            kn_arrive_warp(barriers.full(ahead ? before : ring.stage));
        }
        before = ring.stage;
        ring.next();
    }
    if (!ahead || before < 0) return;
    kn_wait_copies<0>();
    kn_publish();
    kn_arrive_warp(barriers.full(before));
}
#endif

// w [filter, tap, channel] as chunks of channels of a tap, filter by filter; by all groups that multiply.
template <class Element>
KN_DEVICE void kn_put_weights(unsigned weights, const Element* w, int filter0) {
    constexpr int of_filter = kn_taps * kn_chunks;
    // Each block begins elsewhere, so that they do not all ask for the same at once.
    const int first = blockIdx.x % 64 * of_filter;
#pragma unroll 4
    for (int i = threadIdx.x; i < 64 * of_filter; i += KN_GROUPS * 128) {
        const int number = (i + first) % (64 * of_filter), filter = number / of_filter;
        const bool there = filter0 + filter < KN_N;
        kn_copy_chunk(weights + (number % of_filter * kn_weight_cells + filter) * 16,
                      w + (there ? filter0 * (of_filter * kn_of_chunk) + number * kn_of_chunk : 0), there);
    }
    kn_wait_all_copies();
}

// Sums as results, of half types two neighbouring pixels of one filter together; `finish(image, filter, row, column, sum)`.
template <class Finish>
KN_DEVICE void kn_finish(unsigned (&words)[kn_results], const float (&sums)[kn_sums], const kn_band& band, Finish finish) {
    const int filter = blockIdx.y * 64 + threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4;
    const auto at_most = [](int x, int most) { return x < most ? x : most; };
    // Of what is not there, anything may be given.
    const auto result = [&](int piece, int r, int i) {
        const int pixel = piece * 8 + threadIdx.x % 4 * 2 + i;
        return finish(band.image, at_most(filter + 8 * r, KN_N - 1), at_most(band.row + pixel / kn_line, kn_window_rows - 1),
                      at_most(band.column + pixel % kn_line, kn_window_columns - 1), sums[4 * piece + 2 * r + i]);
    };
#pragma unroll
    for (int piece = 0; piece < KN_PIXELS / 8; piece++)
#pragma unroll
        for (int r = 0; r < 2; r++)
#if KN_TYPE == 2
            for (int i = 0; i < 2; i++) words[4 * piece + 2 * r + i] = kn_float_to_bits(result(piece, r, i));
#elif KN_TYPE == 1
            words[2 * piece + r] = kn_two_bf16(result(piece, r, 0), result(piece, r, 1));
#else
            words[2 * piece + r] = kn_two_halves(result(piece, r, 0), result(piece, r, 1));
#endif
}

// To `target`, pixel by pixel.
KN_DEVICE void kn_put_results(const unsigned (&words)[kn_results], unsigned target) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x % 128 / 32;
    constexpr int pieces = KN_PIXELS / 8;
#if KN_TYPE == 2
    const unsigned place = target + lane % 4 * (2 * kn_pitch) + warp * 64 + lane / 4 * 4;
#pragma unroll
    for (int i = 0; i < kn_results; i++)
        kn_store_shared(place + (i / 4 * 8 + i % 2) * kn_pitch + i / 2 % 2 * 32, words[i]);
#else
    const unsigned place = target + lane % 8 * kn_pitch + warp * 32 + lane / 8 % 2 * 16;
#pragma unroll
    for (int piece = 0; piece < pieces; piece += 2) {
        // A last piece alone is put twice.
        const bool alone = piece + 1 == pieces;
        const int second = alone ? piece : piece + 1;
        const unsigned pairs[4] = {words[2 * piece], words[2 * piece + 1], words[2 * second], words[2 * second + 1]};
        kn_store_matrices(place + (alone ? 0 : lane / 16 * (8 * kn_pitch)) + piece * (8 * kn_pitch), pairs);
    }
#endif
}

// From there, 16 bytes of a pixel's filters at a time.
template <class Give>
KN_DEVICE void kn_give_results(unsigned source, const kn_band& band, Give give) {
    const int chunk = threadIdx.x % kn_filter_chunks, filter = blockIdx.y * 64 + chunk * kn_of_chunk;
    constexpr int all = (KN_ROWS - 1) * kn_line + KN_COLUMNS;
#pragma unroll 4
    for (int pixel = threadIdx.x % 128 / kn_filter_chunks; pixel < all; pixel += 128 / kn_filter_chunks) {
        const int row = band.row + pixel / kn_line, across = pixel % kn_line, column = band.column + across;
        if (across >= KN_COLUMNS || row >= kn_window_rows || column >= kn_window_columns || filter >= KN_N) continue;
        const kn_words x = kn_load_shared(source + pixel * kn_pitch + chunk * 16);
        give(band.image, filter, row, column, kn_vector<unsigned, 4>{{x.x, x.y, x.z, x.w}});
    }
}

// Where a step's pixels begin behind a band's, in units of 16 bytes.
KN_DEVICE constexpr int kn_step_cells(int tap, int pair) {
    const int pixel = tap / kn_window_width * kn_window_dilation_y * kn_line + tap % kn_window_width * kn_window_dilation_x;
    return KN_SWIZZLED ? pair / 4 * (kn_plane_bytes / 16) + pixel * 8 + pair % 4 * 2 : pair * (2 * kn_plane_bytes / 16) + pixel;
}

// A group that multiplies.
template <class Finish, class Give>
KN_DEVICE void kn_consume(int group, unsigned stages, unsigned weights, kn_barriers barriers, Finish finish, Give give) {
    const unsigned long long a = kn_plain_matrix(weights, kn_weight_cells * 16, 128);
    kn_ring<KN_STAGES> ring;
    ring.skip(group);
    unsigned turn = 0;
#pragma unroll 1
    for (int number = blockIdx.x + group * gridDim.x; number < kn_bands; number += KN_GROUPS * gridDim.x) {
        const kn_band band(number);
        const unsigned cells = stages + ring.stage * KN_STAGE_BYTES;
        const unsigned long long b = KN_SWIZZLED ? kn_matrix(cells) : kn_plain_matrix(cells, kn_plane_bytes, 128);
        kn_wait(barriers.full(ring.stage), ring.phase);
        if (KN_GROUPS > 1 && number != static_cast<int>(blockIdx.x)) {
            kn_wait(barriers.turn(group), turn);
            turn ^= 1;
        }
        float sums[kn_sums];
        // Lines of the window one by one: a product is one instruction of hundreds of registers, and all of them in a row take
        // the compiler three times as long.
#pragma unroll 1
        for (int line = 0; line < KN_KERNEL_HEIGHT; line++) {
            const unsigned long long a_line = a + line * (kn_steps_of_line * 2 * kn_weight_cells);
            const unsigned long long b_line = b + line * kn_step_cells(kn_window_width, 0);
            kn_start_products();
#pragma unroll
            for (int step = 0; step < kn_steps_of_line; step++)
                kn_wgmma(sums, a_line + step * (2 * kn_weight_cells),
                         b_line + kn_step_cells(step / kn_steps_of_tap, step % kn_steps_of_tap), line == 0 && step == 0);
        }
        kn_commit_products();
        if (KN_GROUPS > 1) kn_arrive_warp(barriers.turn((group + 1) % KN_GROUPS));
        kn_wait_products<0>();
        kn_arrived(sums);

        unsigned words[kn_results];
        kn_finish(words, sums, band, finish);
        kn_sync_some(2 + group, 128);
        kn_put_results(words, cells);
        kn_sync_some(2 + group, 128);
        kn_give_results(cells, band, give);
        if (KN_SWIZZLED) kn_publish();
        kn_arrive_warp(barriers.empty(ring.stage));
        ring.next();
        ring.skip(KN_GROUPS - 1);
    }
}

// finish(image, filter, row, column, sum) makes an output of a sum; give(image, filter, row, column, chunk) takes 16 bytes of
// y, neighbouring filters.
template <class Image, class Element, class Finish, class Give>
KN_DEVICE void kn_product(const Image& x, const Element* w, Finish finish, Give give) {
    KN_SWIZZLED_SHARED(kn_memory);
    const unsigned stages = kn_shared_address(kn_memory), weights = stages + KN_STAGES * KN_STAGE_BYTES;
    const kn_barriers barriers{weights + kn_weight_bytes};
    if (threadIdx.x == 0) {
        for (int stage = 0; stage < KN_STAGES; stage++) {
            kn_init_barrier(barriers.full(stage), KN_SWIZZLED ? 1 : 4);
            kn_init_barrier(barriers.empty(stage), 4);
        }
        for (int group = 0; group < KN_GROUPS; group++) kn_init_barrier(barriers.turn(group), 4);
        kn_publish_barriers();
    }
    kn_sync();
    const int group = kn_shuffle(static_cast<int>(threadIdx.x / 128), 0);
    if (group == KN_GROUPS) {
        if (!KN_SWIZZLED || threadIdx.x % 128 == 0) kn_produce(x, stages, barriers);
        return;
    }
    kn_put_weights(weights, w, blockIdx.y * 64);
    kn_publish();
    kn_sync_some(1, KN_GROUPS * 128);
    kn_consume(group, stages, weights, barriers, finish, give);
}
