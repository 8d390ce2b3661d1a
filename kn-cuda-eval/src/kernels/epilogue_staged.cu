// A warp's rows of a tile of y lie in strips of shared memory, which the copy engine fills with what is added to the product
// while the tensor cores are busy, and writes away while the next strip is worked on. A strip is 16 rows of a half type, 8 of
// float, in panels of 128 bytes a row in the 128-byte swizzle: threads touch it where their sums belong, with few conflicts.
//
// What the generator defines in front of this text, staged_pairs.cu between them:
//   KN_BEFORE         1: strips begin as what map_before shows, of as many bytes an element as y

constexpr int kn_strip_rows = 32 / KN_Y_BYTES, kn_panel_columns = 128 / KN_Y_BYTES;
constexpr int kn_panels = kn_tile_columns / kn_panel_columns, kn_panel_bytes = kn_strip_rows * 128;
constexpr int kn_strip_bytes = kn_panels * kn_panel_bytes;
constexpr int kn_parts = 16 / kn_strip_rows;  // strips that a warp's rows of a piece make
constexpr int kn_turns_of_strips = kn_pieces * kn_parts;
// One is read or written by the copy engine while the other is worked on.
constexpr int kn_strips = KN_BEFORE || kn_turns_of_strips > 1 ? 2 : 1;

// The strips of a warp in turn; pieces of 64 rows come one after the other, and their parts.
template <class Finish>
struct kn_staged {
    static constexpr int bytes = kn_strips * kn_strip_bytes, barriers = KN_BEFORE ? 2 : 0;
    const kn_tensor_map& map_y;
    const kn_tensor_map& map_before;
    Finish finish_pair;
    unsigned char* strips;
    unsigned arrivals;
    int rows;  // of the tile's, this warp's first
    int strip;
    unsigned phase;

    KN_DEVICE void start(unsigned char* memory, unsigned barrier, int first_row) {
        strips = memory;
        arrivals = barrier;
        rows = first_row;
        strip = 0;
        phase = 0;
    }
    // One thread: has a strip filled that the copy engine has read.
    KN_DEVICE void request(int which, long long row, int column) {
        kn_wait_stores_read<0>();
        kn_expect(arrivals + which * 8, kn_strip_bytes);
#pragma unroll
        for (int panel = 0; panel < kn_panels; panel++)
            kn_copy_rows(kn_shared_address(strips + which * kn_strip_bytes + panel * kn_panel_bytes), map_before,
                         arrivals + which * 8, column + panel * kn_panel_columns, row);
    }
    KN_DEVICE void first(const kn_tile& tile) {
        if (KN_BEFORE && threadIdx.x % 32 == 0) request(0, tile.row + rows, tile.column);
    }
    KN_DEVICE void ahead(const kn_tile&) {}
    // The first row of a strip, behind the warp's first of the tile.
    static KN_DEVICE constexpr int row_of(int turn) { return turn / kn_parts * 64 + turn % kn_parts * 8; }
    KN_DEVICE void give(float (&sums)[kn_pieces][kn_sums], const kn_tile& tile, int next) {
#pragma unroll
        for (int turn = 0; turn < kn_turns_of_strips; turn++) {
            const bool one = threadIdx.x % 32 == 0;
            if (KN_BEFORE) {
                if (one && turn + 1 < kn_turns_of_strips) request(strip ^ 1, tile.row + rows + row_of(turn + 1), tile.column);
                if (one && turn + 1 == kn_turns_of_strips && next < kn_tiles) {
                    const kn_tile after(next);
                    request(strip ^ 1, after.row + rows, after.column);
                }
                kn_wait(arrivals + strip * 8, phase);
            } else {
                if (one) kn_wait_stores_read<kn_strips - 1>();
                kn_sync_warp();
            }
            kn_pairs<kn_panel_bytes, kn_columns, kn_whole>::template finish<kn_tile_columns, KN_HALVES, 2 / kn_parts, KN_BEFORE>(
                sums[turn / kn_parts], turn % kn_parts, strips + strip * kn_strip_bytes, tile.row + rows + row_of(turn),
                kn_anew(tile.column), finish_pair);
            kn_publish();
            kn_sync_warp();
            if (one) {
#pragma unroll
                for (int panel = 0; panel < kn_panels; panel++)
                    kn_store_rows(map_y, kn_shared_address(strips + strip * kn_strip_bytes + panel * kn_panel_bytes),
                                  tile.column + panel * kn_panel_columns, tile.row + rows + row_of(turn));
                kn_commit_stores();
            }
            if (kn_strips == 1) continue;
            strip ^= 1;
            if (strip == 0) phase ^= 1;
        }
    }
    KN_DEVICE void finish() {
        if (threadIdx.x % 32 == 0) kn_wait_stores_read<0>();
    }
};

// Calls finish(row, column / 2, products, pair) for each two neighbours of y, once: two elements of map_before or anything, as
// one number, and products[half][0 and 1] become two of y.
template <class Finish>
KN_DEVICE void kn_product(const kn_sources& sources, const kn_tensor_map& map_y, const kn_tensor_map& map_before,
                          Finish finish) {
    kn_run(sources, kn_staged<Finish>{map_y, map_before, finish, nullptr, 0, 0, 0, 0});
}
