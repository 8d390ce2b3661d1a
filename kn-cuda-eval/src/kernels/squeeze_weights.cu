// Weights of two small products of the images of a tile, which come through the stages behind its slabs: in boxes of 64 rows,
// which are columns of a product, of 128 bytes, in the 128-byte swizzle; zeros where there are no weights. First those of the
// first product, rows by rows; then those of the second, for 64 channels what all heads read. All are for the tile's channels:
// blocks beside each other add up what they have of the first product.
//
// What the generator defines in front of this text:
//   KN_HIDDEN         columns of the first product, terms of the second
//   KN_UNITS          columns of the second product that heads of a channel read, and
//   kn_shift(unit)    how far behind the channel's number they are
//   KN_FIRST_PARTS    parts of the first product's terms that warps share
//   kn_element        kn_half, kn_bf16

constexpr int kn_images = KN_BM / KN_IMAGE_ROWS;
static_assert(kn_images == 1 || kn_images == 2 || kn_images == 4 || kn_images == 8);
constexpr int kn_box_bytes = 64 * 128, kn_boxes_a_slab = kn_stage_bytes / kn_box_bytes;
constexpr int kn_term_panels = KN_BN / 64, kn_hidden_panels = (KN_HIDDEN + 63) / 64;
constexpr int kn_first_boxes = kn_hidden_panels * kn_term_panels;
constexpr int kn_boxes = kn_first_boxes + kn_term_panels * KN_UNITS * kn_hidden_panels;
constexpr int kn_weight_slabs = (kn_boxes + kn_boxes_a_slab - 1) / kn_boxes_a_slab;
// Slabs that the first product needs, and those that it alone does.
constexpr int kn_first_slabs = (kn_first_boxes + kn_boxes_a_slab - 1) / kn_boxes_a_slab;
constexpr int kn_done_slabs = kn_first_boxes / kn_boxes_a_slab;
static_assert(kn_first_slabs <= KN_STAGES && kn_weight_slabs - kn_done_slabs <= KN_STAGES);

// One thread: what follows the slabs of a tile.
KN_DEVICE void kn_produce_weights(const kn_sources& sources, const kn_tile& tile, unsigned stages, kn_barriers barriers,
                                  kn_stages& ring) {
#pragma unroll
    for (int slab = 0; slab < kn_weight_slabs; slab++) {
        constexpr int last = kn_boxes - (kn_weight_slabs - 1) * kn_boxes_a_slab;
        const int boxes = slab == kn_weight_slabs - 1 ? last : kn_boxes_a_slab;
        const unsigned full = barriers.full(ring.stage);
        kn_wait(barriers.empty(ring.stage), ring.phase ^ 1);
        kn_expect(full, boxes * kn_box_bytes);
#pragma unroll
        for (int i = 0; i < boxes; i++) {
            const unsigned target = stages + ring.stage * kn_stage_bytes + i * kn_box_bytes;
            const int first = slab * kn_boxes_a_slab + i, second = first - kn_first_boxes;
            if (second < 0) {
                kn_copy_rows(target, sources.first, full, tile.column + first % kn_term_panels * 64,
                             first / kn_term_panels * 64);
            } else {
                const int row = second / kn_hidden_panels / KN_UNITS * 64 + kn_shift(second / kn_hidden_panels % KN_UNITS);
                kn_copy_rows(target, sources.second, full, second % kn_hidden_panels * 64, tile.column + row);
            }
        }
        ring.next();
    }
}

// Products have 16 channels by eight rows, which are those of the images, again and again. Each thread looks after some of its
// sums, kn_shares_a_block: in which row they are, and of which image.
constexpr int kn_shares_a_block = kn_images == 1 ? 1 : kn_images / 2;
KN_DEVICE bool kn_has_shares() { return kn_images > 1 || (threadIdx.x & 2) == 0; }
KN_DEVICE int kn_row_of(int share) {
    const int lower = kn_images == 8 ? share / 2 : kn_images == 1 ? threadIdx.x & 1 : threadIdx.x / 2 & 1;
    return threadIdx.x % 32 / 4 + lower * 8;
}
KN_DEVICE int kn_image_of(int share) {
    const int quad = threadIdx.x % 4;
    return kn_images == 8 ? quad * 2 + share % 2 : kn_images == 4 ? (quad & 1) * 2 + share : kn_images == 2 ? quad & 1 : 0;
}
KN_DEVICE float kn_share(const float (&sums)[4], int share) {
    const bool odd = threadIdx.x & 1, lower = threadIdx.x & 2;
    if (kn_images == 8) return sums[share];
    if (kn_images == 4) return lower ? sums[2 + share % 2] : sums[share % 2];
    if (kn_images == 1) return odd ? sums[2] : sums[0];
    const float first = odd ? sums[1] : sums[0], second = odd ? sums[3] : sums[2];
    return lower ? second : first;
}
// Of the second product a warp has every kn_consumers-th block of 16 channels.
constexpr int kn_channel_blocks = KN_BN / 16, kn_blocks_a_warp = (kn_channel_blocks + kn_consumers - 1) / kn_consumers;
constexpr int kn_shares = kn_blocks_a_warp * kn_shares_a_block;
KN_DEVICE int kn_channel_of(int share) {
    return (threadIdx.x / 32 + share / kn_shares_a_block * kn_consumers) * 16 + kn_row_of(share % kn_shares_a_block);
}

struct kn_weights {
    unsigned stages;
    kn_barriers barriers;
    kn_stages ring;  // at the first of their slabs

    template <int first, int last>
    KN_DEVICE void wait() const {
        kn_stages at = ring;
#pragma unroll
        for (int slab = 0; slab < last; slab++) {
            if (slab >= first) kn_wait(barriers.full(at.stage), at.phase);
            at.next();
        }
    }
    template <int first, int last>
    KN_DEVICE void release() const {
        kn_stages at = ring;
#pragma unroll
        for (int slab = 0; slab < last; slab++) {
            if (slab >= first) kn_arrive_warp(barriers.empty(at.stage));
            at.next();
        }
    }
    KN_DEVICE unsigned box(int number) const {
        const int stage = (ring.stage + number / kn_boxes_a_slab) % KN_STAGES;
        return stages + stage * kn_stage_bytes + number % kn_boxes_a_slab * kn_box_bytes;
    }
    // 16 rows of a box as first operands: of each step's 16 terms.
    static KN_DEVICE unsigned row_block(unsigned box, int row) {
        const int lane = threadIdx.x % 32;
        return box + (row + lane % 16) * 128 + ((lane % 8 ^ lane / 16) << 4);
    }
    // Rows of images as second operands, of which there are eight: for two steps.
    static KN_DEVICE unsigned image_rows(const kn_element* rows, int pitch) {
        const int lane = threadIdx.x % 32;
        return kn_shared_address(rows + lane % 8 % kn_images * pitch + lane / 8 * 8);
    }

    // This warp's weights as first operands, which it takes before it meets the others, where they leave room for the sums.
    static constexpr int most_held = 12;
    static constexpr int first_tiles = (KN_HIDDEN + 15) / 16, first_items = first_tiles * KN_FIRST_PARTS;
    static constexpr int first_rounds = (first_items + kn_consumers - 1) / kn_consumers;
    static constexpr int first_panels = kn_term_panels / KN_FIRST_PARTS, first_steps = first_panels * 4;
    static constexpr bool first_held = first_rounds * first_steps <= most_held;
    static constexpr int second_steps = (KN_HIDDEN + 31) / 32 * 2;
    static constexpr bool second_held = kn_blocks_a_warp * KN_UNITS * second_steps <= most_held;
    using first_operands = unsigned[first_rounds][first_steps][4];
    using second_operands = unsigned[kn_blocks_a_warp][KN_UNITS][second_steps][4];

    static KN_DEVICE int item_of(int round) { return round * kn_consumers + threadIdx.x / 32; }
    static KN_DEVICE bool has(int round, int items) { return items % kn_consumers == 0 || item_of(round) < items; }
    KN_DEVICE void load_first(unsigned (&held)[first_steps][4], int round) const {
        const int tile = item_of(round) % first_tiles, part = item_of(round) / first_tiles;
#pragma unroll
        for (int panel = 0; panel < first_panels; panel++) {
            const unsigned w = row_block(box(tile / 4 * kn_term_panels + part * first_panels + panel), tile % 4 * 16);
#pragma unroll
            for (int step = 0; step < 4; step++) kn_load_matrices(held[panel * 4 + step], w ^ step << 5);
        }
    }
    KN_DEVICE void load_second(unsigned (&held)[second_steps][4], int round, int unit) const {
        const int block = item_of(round);
#pragma unroll
        for (int step = 0; step < second_steps; step++) {
            const int number = kn_first_boxes + (block / 4 * KN_UNITS + unit) * kn_hidden_panels + step / 4;
            kn_load_matrices(held[step], row_block(box(number), block % 4 * 16) ^ step % 4 << 5);
        }
    }
    KN_DEVICE void hold_first(first_operands& held) const {
        wait<0, kn_first_slabs>();
        if constexpr (!first_held) return;
#pragma unroll
        for (int i = 0; i < first_rounds; i++)
            if (has(i, first_items)) load_first(held[i], i);
        release<0, kn_done_slabs>();
    }
    KN_DEVICE void hold_second(second_operands& held) const {
        wait<kn_first_slabs, kn_weight_slabs>();
        if constexpr (!second_held) return;
#pragma unroll
        for (int i = 0; i < kn_blocks_a_warp; i++)
#pragma unroll
            for (int unit = 0; unit < KN_UNITS; unit++)
                if (has(i, kn_channel_blocks)) load_second(held[i][unit], i, unit);
        release<kn_done_slabs, kn_weight_slabs>();
    }

    // Of images' rows: store(part, image, column, sum) for each sum, by one thread. Behind a barrier.
    template <class Store>
    KN_DEVICE void multiply_first(first_operands& held, const kn_element* rows, int pitch, const Store& store) const {
#pragma unroll
        for (int i = 0; i < first_rounds; i++) {
            if (!has(i, first_items)) break;
            const int tile = item_of(i) % first_tiles, part = item_of(i) / first_tiles;
            const unsigned x = image_rows(rows, pitch) + part * first_panels * 128;
            if constexpr (!first_held) load_first(held[i], i);
            float sums[2][4] = {};
#pragma unroll
            for (int step = 0; step < first_steps; step += 2) {
                unsigned b[4];
                kn_load_matrices(b, x + step * 32);
                kn_multiply_halves(kn_element(), sums[0], held[i][step], b[0], b[1]);
                kn_multiply_halves(kn_element(), sums[1], held[i][step + 1], b[2], b[3]);
            }
#pragma unroll
            for (int j = 0; j < 4; j++) sums[0][j] += sums[1][j];
#pragma unroll
            for (int share = 0; share < kn_shares_a_block; share++) {
                const int column = tile * 16 + kn_row_of(share);
                if (kn_has_shares() && (KN_HIDDEN % 16 == 0 || column < KN_HIDDEN))
                    store(part, kn_image_of(share), column, kn_share(sums[0], share));
            }
        }
        if constexpr (!first_held) release<0, kn_done_slabs>();
    }
    // shares[i][unit]: of the image kn_image_of(i % kn_shares_a_block) and the channel kn_channel_of(i). Behind a barrier.
    KN_DEVICE void multiply_second(second_operands& held, const kn_element* rows, int pitch,
                                   float (&shares)[kn_shares][KN_UNITS]) const {
        unsigned b[second_steps / 2][4];
#pragma unroll
        for (int two = 0; two < second_steps / 2; two++) kn_load_matrices(b[two], image_rows(rows, pitch) + two * 64);
#pragma unroll
        for (int i = 0; i < kn_blocks_a_warp; i++) {
            if (!has(i, kn_channel_blocks)) break;
#pragma unroll
            for (int unit = 0; unit < KN_UNITS; unit++) {
                if constexpr (!second_held) load_second(held[i][unit], i, unit);
                float sums[4] = {};
#pragma unroll
                for (int step = 0; step < second_steps; step++)
                    kn_multiply_halves(kn_element(), sums, held[i][unit][step], b[step / 2][step % 2 * 2],
                                       b[step / 2][step % 2 * 2 + 1]);
#pragma unroll
                for (int share = 0; share < kn_shares_a_block; share++)
                    shares[i * kn_shares_a_block + share][unit] = kn_share(sums, share);
            }
        }
        if constexpr (!second_held) release<kn_done_slabs, kn_weight_slabs>();
    }
};
