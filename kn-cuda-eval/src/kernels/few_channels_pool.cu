// With the max pool behind it: filters are the rows of products, 64 a block, and a row of a strip of outputs their columns.
// A group walks down its strip. What a window's rows give is joined in registers, where a thread has two filters of
// neighbouring columns; then it goes to shared memory, where the window's columns are joined, 16 bytes of filters at a time.
// So outputs are never written, nor computed twice but where strips and segments meet.
//
// Each group that multiplies has one of its own that fills bands for it, all rows of KN_PATCH_COLUMNS patches. One after the
// other multiplies, while the others do the rest.
//
// What the generator defines in front of this text:
//   KN_Y_TYPE                       of outputs: 0: half, 1: bfloat16, 2: float32
//   KN_POOL_ROWS, KN_POOL_COLUMNS   of windows
//   KN_POOL_HEIGHT, KN_POOL_WIDTH, KN_POOL_STRIDE_Y, KN_POOL_STRIDE_X, KN_POOL_PAD_Y, KN_POOL_PAD_X   of the pool
//   KN_SEGMENT_ROWS, KN_STRIP_COLUMNS   windows that a group takes at a time
//   KN_AHEAD                        cells that a thread loads together
//   KN_LOADER_REGISTERS, KN_OWN_REGISTERS   of a thread that fills bands, and of the others; 0: as many

constexpr int kn_columns = 8 * KN_PATCH_COLUMNS;
constexpr int kn_sums = kn_columns / 2;
constexpr int kn_y_bytes = KN_Y_TYPE == 2 ? 4 : 2;
constexpr int kn_words_of_row = kn_sums * kn_y_bytes / 4;
// Of a column; a chunk more, so that neighbours lie in other banks.
constexpr int kn_pitch = 64 * kn_y_bytes + 16;
constexpr int kn_chunk_filters = 16 / kn_y_bytes, kn_chunks = 64 / kn_chunk_filters;
constexpr int kn_strips = (KN_POOL_COLUMNS + KN_STRIP_COLUMNS - 1) / KN_STRIP_COLUMNS;
constexpr int kn_parts = (KN_POOL_ROWS + KN_SEGMENT_ROWS - 1) / KN_SEGMENT_ROWS;
constexpr int kn_segments = KN_IMAGES * kn_parts * kn_strips;
// Windows that rows before this one began and those behind it end.
constexpr int kn_open = KN_POOL_HEIGHT > 1 ? (KN_POOL_HEIGHT - 1 + KN_POOL_STRIDE_Y - 1) / KN_POOL_STRIDE_Y : 1;

KN_DEVICE constexpr int kn_at_most(int x, int most) { return x < most ? x : most; }
KN_DEVICE int kn_at_least(int x, int least) { return x > least ? x : least; }

// Windows from (first, first_column) on, those rows below `end`, are made of outputs from (top, left) on, rows below
// `bottom`.
struct kn_segment {
    int image, first, end, first_column, top, bottom, left;
    KN_DEVICE kn_segment(int number) {
        first_column = number % kn_strips * KN_STRIP_COLUMNS;
        first = number / kn_strips % kn_parts * KN_SEGMENT_ROWS;
        image = number / (kn_strips * kn_parts);
        end = kn_at_most(first + KN_SEGMENT_ROWS, KN_POOL_ROWS);
        top = kn_at_least(first * KN_POOL_STRIDE_Y - KN_POOL_PAD_Y, 0);
        bottom = kn_at_most((end - 1) * KN_POOL_STRIDE_Y - KN_POOL_PAD_Y + KN_POOL_HEIGHT, kn_window_rows);
        left = kn_at_least(first_column * KN_POOL_STRIDE_X - KN_POOL_PAD_X, 0);
    }
};

// What loses against every number.
KN_DEVICE unsigned kn_lowest_word() { return KN_Y_TYPE == 0 ? 0xfc00fc00u : KN_Y_TYPE == 1 ? 0xff80ff80u : 0xff800000u; }
KN_DEVICE unsigned kn_join_words(unsigned a, unsigned b) {
#if KN_Y_TYPE == 0
    return kn_max_two_halves(a, b);
#elif KN_Y_TYPE == 1
    return kn_max_two_bf16(a, b);
#else
    return kn_max_float(a, b);
#endif
}

// A row of outputs as words of two neighbouring columns, or one in float32; `finish(image, filter, row, column, sum)`.
template <class Finish>
KN_DEVICE void kn_finish_row(unsigned (&words)[kn_words_of_row], const float (&sums)[kn_sums], int image, int row, int left,
                             Finish finish) {
    const int filter = blockIdx.y * KN_BN + threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4;
    // Of what is not there, anything may be given.
    const auto result = [&](int piece, int r, int i) {
        return finish(image, kn_at_most(filter + 8 * r, KN_N - 1), row,
                      kn_at_most(left + piece * 8 + threadIdx.x % 4 * 2 + i, kn_window_columns - 1), sums[4 * piece + 2 * r + i]);
    };
#pragma unroll
    for (int piece = 0; piece < KN_PATCH_COLUMNS; piece++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
#if KN_Y_TYPE == 2
            words[4 * piece + 2 * r] = kn_float_to_bits(result(piece, r, 0));
            words[4 * piece + 2 * r + 1] = kn_float_to_bits(result(piece, r, 1));
#elif KN_Y_TYPE == 1
            words[2 * piece + r] = kn_two_bf16(result(piece, r, 0), result(piece, r, 1));
#else
            words[2 * piece + r] = kn_two_halves(result(piece, r, 0), result(piece, r, 1));
#endif
        }
}

// A row to `target`.
KN_DEVICE void kn_put_row(const unsigned (&words)[kn_words_of_row], unsigned target) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x % 128 / 32;
#if KN_Y_TYPE != 2
    // A last piece alone is put twice.
    constexpr int alone = KN_PATCH_COLUMNS % 2 ? KN_PATCH_COLUMNS - 1 : -1;
    const unsigned place = target + lane % 8 * kn_pitch + warp * 32 + lane / 8 % 2 * 16;
#pragma unroll
    for (int piece = 0; piece < KN_PATCH_COLUMNS; piece += 2) {
        const int second = piece == alone ? piece : piece + 1;
        const unsigned pairs[4] = {words[2 * piece], words[2 * piece + 1], words[2 * second], words[2 * second + 1]};
        kn_store_matrices(place + (piece == alone ? 0 : lane / 16 * (8 * kn_pitch)) + piece * (8 * kn_pitch), pairs);
    }
#else
    const unsigned place = target + lane % 4 * (2 * kn_pitch) + (warp * 16 + lane / 4) * 4;
#pragma unroll
    for (int piece = 0; piece < KN_PATCH_COLUMNS; piece++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            kn_store_shared(place + (piece * 8 + i % 2) * kn_pitch + i / 2 * 32, words[4 * piece + i]);
#endif
}

// Windows of row `row` from what rows gave at `source`.
template <class Give>
KN_DEVICE void kn_give_windows(unsigned source, const kn_segment& segment, int row, Give give) {
    constexpr int items = KN_STRIP_COLUMNS * kn_chunks;
    constexpr bool beyond = (KN_POOL_COLUMNS - 1) * KN_POOL_STRIDE_X - KN_POOL_PAD_X + KN_POOL_WIDTH > kn_window_columns;
    const int chunk = threadIdx.x % kn_chunks, filter = blockIdx.y * KN_BN + chunk * kn_chunk_filters;
#pragma unroll 4
    for (int first = 0; first < items; first += 128) {
        // Any column will do for those that are not there.
        const int item = (first + static_cast<int>(threadIdx.x % 128)) / kn_chunks;
        const int column = kn_at_most(segment.first_column + kn_at_most(item, KN_STRIP_COLUMNS - 1), KN_POOL_COLUMNS - 1);
        kn_words best;
#pragma unroll
        for (int i = 0; i < KN_POOL_WIDTH; i++) {
            // In place of what lies beyond the edge, the window's element there, which it has twice.
            int at = column * KN_POOL_STRIDE_X - KN_POOL_PAD_X + i;
            if (i < KN_POOL_PAD_X) at = kn_at_least(at, 0);
            if (beyond) at = kn_at_most(at, kn_window_columns - 1);
            const kn_words x = kn_load_shared(source + (at - segment.left) * kn_pitch + chunk * 16);
            if (i == 0)
                best = x;
            else
                best = {kn_join_words(best.x, x.x), kn_join_words(best.y, x.y), kn_join_words(best.z, x.z), kn_join_words(best.w, x.w)};
        }
        if (item < KN_STRIP_COLUMNS && segment.first_column + item < KN_POOL_COLUMNS && filter < KN_N)
            give(segment.image, filter, row, column, kn_vector<unsigned, 4>{{best.x, best.y, best.z, best.w}});
    }
}

// The group's first segment and the distance to its next.
KN_DEVICE int kn_first_segment(int group) { return group * gridDim.x + blockIdx.x; }
KN_DEVICE int kn_next_segment() { return KN_GROUPS * gridDim.x; }

// Of a group to multiply.
struct kn_turn {
    unsigned own, next, phase;
    int left;  // as many for all groups
    KN_DEVICE kn_turn(int group, unsigned barriers) {
        own = barriers + group * 8;
        next = barriers + (group + 1) % KN_GROUPS * 8;
        phase = group == 0 ? 1 : 0;
        constexpr int rows = kn_at_most((KN_SEGMENT_ROWS - 1) * KN_POOL_STRIDE_Y + KN_POOL_HEIGHT, kn_window_rows);
        left = (kn_segments + kn_next_segment() - 1) / kn_next_segment() * rows;
    }
    KN_DEVICE void take() {
        if (KN_GROUPS > 1) kn_wait(own, phase);
        phase ^= 1;
        left--;
    }
    KN_DEVICE void give() const {
        if (KN_GROUPS > 1) kn_arrive_warp(next);
    }
    // Turns that the group has no use for.
    KN_DEVICE void rest() {
        while (KN_GROUPS > 1 && left > 0) {
            take();
            give();
        }
    }
};

template <class Pixel>
KN_DEVICE void kn_produce(int group, Pixel pixel, unsigned stages, kn_barriers barriers) {
    kn_ring<KN_STAGES> ring;
#pragma unroll 1
    for (int number = kn_first_segment(group); number < kn_segments; number += kn_next_segment()) {
        const kn_segment segment(number);
#pragma unroll 1
        for (int row = segment.top; row < segment.bottom; row += KN_PATCH_HEIGHT) {
            const int rows = kn_at_most(segment.bottom - row, KN_PATCH_HEIGHT);
            kn_wait(barriers.empty(ring.stage), ring.phase ^ 1);
            kn_fill_band<KN_AHEAD>(pixel, stages + ring.stage * kn_stage_bytes, segment.image,
                                   row * kn_window_stride_y - kn_window_pad_y,
                                   segment.left * kn_window_stride_x - kn_window_pad_x,
                                   (rows - 1) * kn_window_stride_y + (KN_KERNEL_HEIGHT - 1) * kn_window_dilation_y + 1);
            kn_publish();
            kn_arrive_warp(barriers.full(ring.stage));
            ring.next();
        }
    }
}

// `multiply(sums, cells)` for each row of outputs, with where the first one's window meets its first cell.
template <class Multiply, class Finish, class Give>
KN_DEVICE void kn_walk(int group, unsigned memory, unsigned stages, kn_barriers barriers, kn_turn turn, Multiply multiply,
                       Finish finish, Give give) {
    kn_ring<KN_STAGES> ring;
#pragma unroll 1
    for (int number = kn_first_segment(group); number < kn_segments; number += kn_next_segment()) {
        const kn_segment segment(number);
        int next = segment.first;  // window that is not over yet
        unsigned open[kn_open][kn_words_of_row];
#pragma unroll
        for (int k = 0; k < kn_open; k++)
#pragma unroll
            for (int i = 0; i < kn_words_of_row; i++) open[k][i] = kn_lowest_word();
        int in_band = 0;
#pragma unroll 1
        for (int row = segment.top; row < segment.bottom; row++) {
            if (in_band == 0) kn_wait(barriers.full(ring.stage), ring.phase);
            float sums[kn_sums];
            turn.take();
            multiply(sums, stages + ring.stage * kn_stage_bytes + in_band * (kn_window_stride_y * kn_line_bytes), turn);
            if (++in_band == KN_PATCH_HEIGHT || row + 1 == segment.bottom) {
                kn_arrive_warp(barriers.empty(ring.stage));
                ring.next();
                in_band = 0;
            }
            unsigned words[kn_words_of_row];
            kn_finish_row(words, sums, segment.image, row, segment.left, finish);
            const auto join = [&](unsigned(&window)[kn_words_of_row]) {
#pragma unroll
                for (int i = 0; i < kn_words_of_row; i++) window[i] = kn_join_words(window[i], words[i]);
            };
            const auto has_begun = [&](int k) { return (next + k) * KN_POOL_STRIDE_Y - KN_POOL_PAD_Y <= row; };
#pragma unroll
            for (int k = 0; k < kn_open; k++)
                if (has_begun(k)) join(open[k]);
#pragma unroll 1
            while (next < segment.end &&
                   (next * KN_POOL_STRIDE_Y - KN_POOL_PAD_Y + KN_POOL_HEIGHT - 1 <= row || row + 1 == segment.bottom)) {
                kn_sync_some(2 + group, 128);
                kn_put_row(open[0], memory);
                kn_sync_some(2 + group, 128);
                kn_give_windows(memory, segment, next, give);
                next++;
#pragma unroll
                for (int i = 0; i < kn_words_of_row; i++) {
#pragma unroll
                    for (int k = 0; k + 1 < kn_open; k++) open[k][i] = open[k + 1][i];
                    open[kn_open - 1][i] = kn_lowest_word();
                }
                if (has_begun(kn_open - 1)) join(open[kn_open - 1]);
            }
        }
    }
    turn.rest();
}

// pixel(image, row, column, channels) loads a pixel of x that is there; finish(image, filter, row, column, sum) makes an
// output of a sum; give(image, filter, row, column, chunk) takes 16 bytes of y, neighbouring filters.
template <class Pixel, class Weight, class Finish, class Give>
KN_DEVICE void kn_product(Pixel pixel, const Weight* w, Finish finish, Give give) {
    KN_SWIZZLED_SHARED(kn_memory);
    const unsigned memory = kn_shared_address(kn_memory);
    constexpr int results = kn_columns * kn_pitch;
    const unsigned stages = memory + KN_GROUPS * results, weights = stages + KN_GROUPS * KN_STAGES * kn_stage_bytes;
    const unsigned all_barriers = weights + kn_weight_bytes;
    const unsigned turns = all_barriers + KN_GROUPS * KN_STAGES * 16;
    if (threadIdx.x == 0)
        for (int group = 0; group < KN_GROUPS; group++) {
            for (int stage = 0; stage < KN_STAGES; stage++) {
                const kn_barriers barriers{all_barriers + group * KN_STAGES * 16};
                kn_init_barrier(barriers.full(stage), 4);
                kn_init_barrier(barriers.empty(stage), 4);
            }
            kn_init_barrier(turns + group * 8, 4);
        }
    kn_sync();
    const int number = kn_shuffle(static_cast<int>(threadIdx.x / 128), 0), group = number % KN_GROUPS;
    const unsigned own_stages = stages + group * KN_STAGES * kn_stage_bytes;
    const kn_barriers barriers{all_barriers + group * KN_STAGES * 16};
    if (number >= KN_GROUPS) {
#if KN_LOADER_REGISTERS
        KN_GIVE_REGISTERS(KN_LOADER_REGISTERS);
#endif
        kn_produce(group, pixel, own_stages, barriers);
        return;
    }
#if KN_LOADER_REGISTERS
    KN_TAKE_REGISTERS(KN_OWN_REGISTERS);
#endif
    kn_put_weights(weights, w, blockIdx.y * KN_BN);
    kn_publish();
    kn_sync_some(1, KN_GROUPS * 128);
    const unsigned long long a = kn_plain_matrix(weights, KN_BN * 16, 128);
    const auto multiply = [&](float(&sums)[kn_sums], unsigned cells, const kn_turn& turn) {
        const unsigned long long b = kn_plain_matrix(cells, 0, 128);
        const auto step = [&](float(&part)[kn_sums], int i, bool first) {
            kn_wgmma(part, a + i * (2 * KN_BN), b + kn_step_cells(i), first);
        };
        kn_sum_up(sums, step, [&] { turn.give(); });
    };
    kn_walk(group, memory + group * results, own_stages, barriers, kn_turn(group, turns), multiply, finish, give);
}
