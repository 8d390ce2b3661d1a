// A tile is whole images with all their channels, or the tiles of a cluster's blocks (KN_BESIDE) are: what small products make of
// an image's mean changes it while it still is sums in registers. Results go through a strip of shared memory for each warp,
// which may begin as what is added to them; as in epilogue_staged.cu, but the strip is one, since so many sums leave room for no
// second. The small products' weights come through the stages, behind the tile's slabs (squeeze_weights.cu).
//
// What the generator defines in front of this text, staged_pairs.cu between them:
//   KN_BEFORE         1: strips begin as what map_before shows
//   KN_IMAGE_ROWS     positions of an image: 16, 32 or 64
//   KN_SQUEEZE_BYTES  of shared memory that a block's warps have in common, a multiple of 128
//   kn_element        of the image: kn_half, kn_bf16

constexpr int kn_panels = KN_BN / 64, kn_panel_bytes = 16 * 128, kn_strip_bytes = kn_panels * kn_panel_bytes;

struct kn_squeezed {
    static constexpr int bytes = kn_strip_bytes + KN_SQUEEZE_BYTES / kn_consumers, barriers = KN_BEFORE + (KN_BESIDE > 1);
    const kn_tensor_map& map_y;
    const kn_tensor_map& map_before;
    unsigned char* strip;
    unsigned char* shared;  // by all warps
    unsigned arrival;
    unsigned all_there;  // where blocks of the cluster send their parts of the first product
    int rows;  // of the tile's, this warp's first
    unsigned phase;

    KN_DEVICE void start(unsigned char* memory, unsigned barrier, int first_row) {
        const int warp = threadIdx.x / 32;
        strip = memory - warp * (bytes - kn_strip_bytes);
        shared = strip + (kn_consumers - warp) * kn_strip_bytes;
        arrival = barrier;
        all_there = barrier - warp * barriers * 8 + KN_BEFORE * 8;
        rows = first_row;
        phase = 0;
    }
    // One thread.
    KN_DEVICE void request(const kn_tile& tile) {
        kn_wait_stores_read<0>();
        kn_expect(arrival, kn_strip_bytes);
#pragma unroll
        for (int panel = 0; panel < kn_panels; panel++)
            kn_copy_rows(kn_shared_address(strip + panel * kn_panel_bytes), map_before, arrival,
                         tile.column + panel * 64, tile.row + rows);
    }
    KN_DEVICE void first(const kn_tile& tile) {
        if (KN_BEFORE && threadIdx.x % 32 == 0) request(tile);
    }
    KN_DEVICE void ahead(const kn_tile&) {}
    // Sums become what image(row, column / 2, pair) makes of two neighbours. parts[warp][column]: joined over the warp's rows.
    template <class Join, class Image>
    KN_DEVICE void squeeze(float (&sums)[kn_sums], const kn_tile& tile, float* parts, const Image& image) {
        const int lane = threadIdx.x % 32;
#pragma unroll
        for (int first = 0; first < KN_BN / 8; first += 8) {
            float part[8][2];
#pragma unroll
            for (int i = 0; i < 8; i++) {
                float x[2][2];
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    float* const pair = sums + (first + i) * 4 + half * 2;
                    x[half][0] = pair[0];
                    x[half][1] = pair[1];
                    image(tile.row + rows + lane / 4 + half * 8, tile.column / 2 + (first + i) * 4 + lane % 4, x[half]);
                    pair[0] = x[half][0];
                    pair[1] = x[half][1];
                }
#pragma unroll
                for (int j = 0; j < 2; j++) part[i][j] = Join::join(x[0][j], x[1][j]);
            }
            // Of eight threads with the same columns each keeps one pair in the end.
#pragma unroll
            for (int kept = 4; kept > 0; kept /= 2) {
                const bool upper = lane & kept * 4;
#pragma unroll
                for (int i = 0; i < kept; i++)
#pragma unroll
                    for (int j = 0; j < 2; j++) {
                        const float mine = upper ? part[i + kept][j] : part[i][j];
                        const float other = upper ? part[i][j] : part[i + kept][j];
                        part[i][j] = Join::join(mine, kn_shuffle_xor(other, kept * 4));
                    }
            }
            *reinterpret_cast<float2*>(parts + threadIdx.x / 32 * KN_BN + (first + lane / 4) * 8 + lane % 4 * 2) =
                make_float2(part[0][0], part[0][1]);
        }
    }
    // Until the strip holds what is added, or may be written.
    KN_DEVICE void wait() {
        if (KN_BEFORE) {
            kn_wait(arrival, phase);
            phase ^= 1;
        } else {
            if (threadIdx.x % 32 == 0) kn_wait_stores_read<0>();
            kn_sync_warp();
        }
    }
    KN_DEVICE void store(const kn_tile& tile) {
        kn_publish();
        kn_sync_warp();
        if (threadIdx.x % 32 != 0) return;
#pragma unroll
        for (int panel = 0; panel < kn_panels; panel++)
            kn_store_rows(map_y, kn_shared_address(strip + panel * kn_panel_bytes), tile.column + panel * 64,
                          tile.row + rows);
        kn_commit_stores();
    }
    // y from the sums.
    template <class Finish>
    KN_DEVICE void write(const float (&sums)[kn_sums], const kn_tile& tile, const Finish& finish_pair) {
        wait();
        kn_pairs<kn_panel_bytes, kn_columns, true>::template finish<KN_BN, 1, 2, KN_BEFORE>(sums, 0, strip, tile.row + rows,
                                                                                          tile.column,
                                                                                          finish_pair);
        store(tile);
    }
    // y = heads[0] sums + heads[1], and what is added, or zeros instead of what is less. heads[column / 2][number][column % 2]:
    // of the warp's image.
    template <bool relu>
    KN_DEVICE void write_scaled(const float (&sums)[kn_sums], const kn_tile& tile, const float* heads) {
        const int lane = threadIdx.x % 32, row = lane % 16;
        const float* const own = heads + lane % 4 * 4;
        const unsigned place = kn_shared_address(strip) + row * 128 + ((row % 8 ^ lane / 16) << 4);
        wait();
#pragma unroll
        for (int panel = 0; panel < kn_panels; panel++) {
            // All reads in front of all writes, so that they are under way together. Operands of products are 16 rows of two
            // eights of columns.
            unsigned words[4][4] = {};
            if (KN_BEFORE) {
#pragma unroll
                for (int two = 0; two < 4; two++) kn_load_matrices(words[two], (place ^ two << 5) + panel * kn_panel_bytes);
            }
#pragma unroll
            for (int i = 0; i < 8; i++) {
                const float4 head = *reinterpret_cast<const float4*>(own + (panel * 8 + i) * 16);
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    const float* const x = sums + (panel * 8 + i) * 4 + half * 2;
                    unsigned& word = words[i / 2][i % 2 * 2 + half];
                    const unsigned scaled = kn_two(kn_element(), fmaf(x[0], head.x, head.z), fmaf(x[1], head.y, head.w));
                    word = KN_BEFORE || relu ? kn_add_two<relu>(kn_element(), scaled, word) : scaled;
                }
            }
#pragma unroll
            for (int two = 0; two < 4; two++) kn_store_operands((place ^ two << 5) + panel * kn_panel_bytes, words[two]);
        }
        store(tile);
    }
    KN_DEVICE void finish() {
        if (threadIdx.x % 32 == 0) kn_wait_stores_read<0>();
    }
};

template <class Excite>
struct kn_exciting : kn_squeezed {
    Excite excite;
    KN_DEVICE kn_exciting(const kn_tensor_map& y, const kn_tensor_map& before, Excite excite)
        : kn_squeezed{y, before}, excite(excite) {}
    KN_DEVICE void give(float (&sums)[kn_pieces][kn_sums], const kn_tile& tile, int next, unsigned stages,
                        kn_barriers barriers, kn_stages& ring) {
        static_assert(kn_pieces == 1);
        excite(*this, sums[0], tile, kn_weights{stages, barriers, ring});
        ring.skip(kn_weight_slabs);
        if (KN_BEFORE && next < kn_tiles && threadIdx.x % 32 == 0) request(kn_tile(next));
    }
};

// Calls excite(epilogue, sums, tile, weights) for each tile, with all threads of the groups; it calls the epilogue's squeeze,
// the weights' products, and the epilogue's write.
template <class Excite>
KN_DEVICE void kn_product(const kn_sources& sources, const kn_tensor_map& map_y, const kn_tensor_map& map_before,
                          Excite excite) {
    kn_run(sources, kn_exciting<Excite>(map_y, map_before, excite));
}
