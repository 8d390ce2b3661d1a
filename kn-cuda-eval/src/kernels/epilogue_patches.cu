// Patches of four lines of eight pixels, which a warp has by minimal filtering (winograd.cu), go to y as boxes of the copy
// engine, through shared memory that is the warp's own, and may begin as what is added to them. There the patch lies by x % 4,
// then x / 4, then y, 64 channels a row in the 128-byte swizzle: so eight rows of a thread's sums are in different banks.
//
// What the generator defines in front of this text:
//   KN_BEFORE         1: patches begin as what map_before shows
// Axes of the maps: channels, lines, fours of pixels, pixels of four, images.

static_assert(KN_BN == 64 && KN_SPLITS == 1);

using kn_pair = unsigned;  // of two neighbours of y

template <class Finish>
struct kn_patched {
    static constexpr int bytes = 32 * 128, barriers = KN_BEFORE;
    const kn_tensor_map& map_y;
    const kn_tensor_map& map_before;
    Finish finish_pair;
    unsigned patch;
    unsigned arrival;
    int rows;  // of the tile's, this warp's first
    unsigned phase;

    KN_DEVICE void start(unsigned char* memory, unsigned barrier, int first_row) {
        patch = kn_shared_address(memory);
        arrival = barrier;
        rows = first_row;
        phase = 0;
    }
    // One thread.
    KN_DEVICE void request(const kn_tile& tile) {
        const kn_place at = kn_patch_of(tile.row + rows);
        kn_wait_stores_read<0>();
        kn_expect(arrival, bytes);
        kn_copy_box(patch, map_before, arrival, tile.column, at.y, at.x / 4, 0, at.image);
    }
    KN_DEVICE void first(const kn_tile& tile) {
        if (KN_BEFORE && threadIdx.x % 32 == 0) request(tile);
    }
    KN_DEVICE void ahead(const kn_tile&) {}
    KN_DEVICE void give(const float (&sums)[kn_pieces][kn_sums], const kn_tile& tile, int next) {
        const int lane = threadIdx.x % 32;
        const bool one = lane == 0;
        if (KN_BEFORE) {
            kn_wait(arrival, phase);
            phase ^= 1;
        } else {
            if (one) kn_wait_stores_read<0>();
            kn_sync_warp();
        }
        // The row of four matrices, two below each other and two of them side by side, that this thread names.
        const int row = lane % 2 * 4 + lane % 8 / 2;
        const unsigned matrices = patch + (lane / 8 % 2 * 16 + row) * 128 + ((lane / 16 ^ row) << 4);
#pragma unroll
        for (int piece = 0; piece < kn_pieces; piece++) {
            const long long row0 = tile.row + rows + piece * 64;
            const unsigned at = matrices + piece * 8 * 128;
#pragma unroll
            for (int half = 0; half < 2; half++) {
                // All reads in front of all writes, so that they are under way together.
                unsigned words[2][4] = {};
                if (KN_BEFORE) {
#pragma unroll
                    for (int two = 0; two < 2; two++) kn_load_matrices(words[two], at ^ (half * 2 + two) << 5);
                }
#pragma unroll
                for (int i = 0; i < 8; i++) {
                    const int eight = half * 4 + i / 2;
                    const long long row = kn_row(row0, lane / 4 + i % 2 * 8);
                    const int column = tile.column + eight * 8 + lane % 4 * 2;
                    if (!kn_whole && (row >= KN_M || column >= KN_N)) continue;
                    const float* const pair = sums[piece] + eight * 4 + i % 2 * 2;
                    const float products[1][2] = {{pair[0], pair[1]}};
                    unsigned& word = words[i / 4][i % 4];
                    word = finish_pair(row, column / 2, products, word);
                }
#pragma unroll
                for (int two = 0; two < 2; two++) kn_store_operands(at ^ (half * 2 + two) << 5, words[two]);
            }
        }
        kn_publish();
        kn_sync_warp();
        if (!one) return;
        const kn_place to = kn_patch_of(tile.row + rows);
        kn_store_box(map_y, patch, tile.column, to.y, to.x / 4, 0, to.image);
        kn_commit_stores();
        if (KN_BEFORE && next < kn_tiles) request(kn_tile(next));
    }
    KN_DEVICE void finish() {
        if (threadIdx.x % 32 == 0) kn_wait_stores_read<0>();
    }
};

// Calls finish(row, column / 2, products, pair) for each two neighbours of y, once: two elements of map_before or anything, as
// one number, and products[0][0 and 1] become two of y.
template <class Finish>
KN_DEVICE void kn_product(const kn_sources& sources, const kn_tensor_map& map_y, const kn_tensor_map& map_before,
                          Finish finish) {
    kn_run(sources, kn_patched<Finish>{map_y, map_before, finish, 0, 0, 0, 0});
}
