// Each column of the product meets one other one, which the same thread has: two neighbours and their partners become two
// elements of a half type. A warp's 16 rows of a tile go through a strip of shared memory, in panels of 128 bytes a row in the
// 128-byte swizzle, and from there, panel by panel, to wherever the copy engine is to write them.
//
// What the generator defines in front of this text:
//   KN_PARTNER        column c meets column c ^ KN_PARTNER of the same tile: 1, or at least 8

constexpr int kn_panel_columns = 64, kn_panels = KN_BN / kn_panel_columns, kn_panel_bytes = 16 * 128;
constexpr int kn_strip_bytes = kn_panels * kn_panel_bytes;
// One is read by the copy engine while the other is worked on.
constexpr int kn_strips = kn_pieces > 1 ? 2 : 1;

// Where a panel of y lies.
struct kn_place {
    const kn_tensor_map* map;
    int column;
};

template <class Place, class Finish>
struct kn_paired {
    static constexpr int bytes = kn_strips * kn_strip_bytes, barriers = 0;
    Place place;
    Finish finish_pair;
    unsigned char* strips;
    int rows;  // of the tile's, this warp's first
    int strip;

    KN_DEVICE void start(unsigned char* memory, unsigned, int first_row) {
        strips = memory;
        rows = first_row;
        strip = 0;
    }
    KN_DEVICE void first(const kn_tile&) {}
    KN_DEVICE void ahead(const kn_tile&) {}
    // Panels innermost: what is read for a place in them may be the same for all.
    KN_DEVICE void fill(const float (&sums)[kn_sums], unsigned char* target, long long row0, int panel0) {
        const int lane = threadIdx.x % 32;
#pragma unroll
        for (int unit = 0; unit < kn_panel_columns / 8; unit++)
#pragma unroll
            for (int line = 0; line < 2; line++) {
                const long long row = row0 + lane / 4 + line * 8;
                if (!kn_whole && row >= KN_M) continue;
                // Chunks of 16 bytes are exchanged by the row's number.
                unsigned char* const at = target + (lane / 4 + line * 8) * 128 + ((unit ^ lane / 4) << 4) + lane % 4 * 4;
#pragma unroll
                for (int panel = 0; panel < kn_panels; panel++) {
                    const int own = (panel * 8 + unit) * 4 + line * 2;  // a thread has four neighbouring sums of eight columns
                    float products[2][2];
#pragma unroll
                    for (int j = 0; j < 2; j++) {
                        products[0][j] = sums[own + j];
                        products[1][j] = sums[KN_PARTNER == 1 ? own + (j ^ 1) : (own ^ KN_PARTNER / 2) + j];
                    }
                    *reinterpret_cast<unsigned*>(at + panel * kn_panel_bytes) =
                        finish_pair(row, panel0 + panel, unit * 4 + lane % 4, products);
                }
            }
    }
    KN_DEVICE void give(float (&sums)[kn_pieces][kn_sums], const kn_tile& tile, int) {
        const bool one = threadIdx.x % 32 == 0;
#pragma unroll
        for (int piece = 0; piece < kn_pieces; piece++) {
            unsigned char* const target = strips + strip * kn_strip_bytes;
            const long long row0 = tile.row + rows + piece * 64;
            if (one) kn_wait_stores_read<kn_strips - 1>();
            kn_sync_warp();
            fill(sums[piece], target, row0, kn_anew(tile.column / kn_panel_columns));
            kn_publish();
            kn_sync_warp();
            if (one) {
#pragma unroll
                for (int panel = 0; panel < kn_panels; panel++) {
                    const kn_place to = place(tile.column / kn_panel_columns + panel);
                    kn_store_rows(*to.map, kn_shared_address(target + panel * kn_panel_bytes), to.column, row0);
                }
                kn_commit_stores();
            }
            if (kn_strips > 1) strip ^= 1;
        }
    }
    KN_DEVICE void finish() {
        if (threadIdx.x % 32 == 0) kn_wait_stores_read<0>();
    }
};

// Calls finish(row, panel, pair, products) for each two neighbours 64 * panel + 2 * pair of the product's columns, once: they
// are products[0], their partners products[1], and what it gives are two elements of y as one number. A panel of them goes
// to place(panel).
template <class Place, class Finish>
KN_DEVICE void kn_product(const kn_sources& sources, Place place, Finish finish) {
    kn_run(sources, kn_paired<Place, Finish>{place, finish, nullptr, 0, 0});
}
