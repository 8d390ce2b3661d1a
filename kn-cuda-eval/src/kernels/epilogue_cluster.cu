// The blocks of a cluster, which share out the k of a tile, leave their sums in shared memory, and each adds up and gives
// away its part of the rows.

constexpr int kn_pitch = KN_BN + 4;

template <class Store>
struct kn_added {
    static constexpr int bytes = 0, barriers = 0;
    Store store;

    KN_DEVICE void leave(const float (&sums)[kn_pieces][kn_sums], float* tile) {
        const int lane = threadIdx.x % 32;
#pragma unroll
        for (int piece = 0; piece < kn_pieces; piece++) {
            float* const row = tile + (threadIdx.x / 128 * kn_pieces * 64 + piece * 64 + threadIdx.x % 128 / 32 * 16 + lane / 4) * kn_pitch;
#pragma unroll
            for (int j = 0; j < KN_BN / 8; j++) {
                float* const at = row + j * 8 + lane % 4 * 2;
                *reinterpret_cast<float2*>(at) = make_float2(sums[piece][4 * j], sums[piece][4 * j + 1]);
                *reinterpret_cast<float2*>(at + 8 * kn_pitch) = make_float2(sums[piece][4 * j + 2], sums[piece][4 * j + 3]);
            }
        }
    }

    KN_DEVICE void add_up(unsigned tile, long long row0, int column0) {
        constexpr int width = KN_BN / KN_LANES, rows = KN_BM / KN_SPLITS;
        const int first = kn_block_in_cluster() * rows;
        for (int i = threadIdx.x; i < rows * width; i += kn_consumers * 32) {
            const int in_tile = first + i / width;
            const long long row = row0 + in_tile;
            const int column = column0 / KN_LANES + i % width;
            if (row >= KN_M || column >= KN_N / KN_LANES) continue;
            float parts[KN_SPLITS][KN_LANES];
#pragma unroll
            for (int block = 0; block < KN_SPLITS; block++) {
                const unsigned from = kn_in_block(tile + (in_tile * kn_pitch + i % width * KN_LANES) * 4, block);
#if KN_LANES % 4 == 0
#pragma unroll
                for (int j = 0; j < KN_LANES; j += 4)
                    kn_load_four_there(from + 4 * j, parts[block] + j);
#else
#pragma unroll
                for (int j = 0; j < KN_LANES; j++) parts[block][j] = kn_load_there(from + 4 * j);
#endif
            }
            float product[KN_LANES];
#pragma unroll
            for (int j = 0; j < KN_LANES; j++) {
                product[j] = parts[0][j];
#pragma unroll
                for (int block = 1; block < KN_SPLITS; block++) product[j] += parts[block][j];
            }
            store(row, column, product);
        }
    }
};

// Calls store(row, column / KN_LANES, product) for each KN_LANES neighbours of y, once.
template <class Touch, class Store>
KN_DEVICE void kn_product(const kn_sources& sources, Touch, Store store) {
    kn_run(sources, kn_added<Store>{store});
}
