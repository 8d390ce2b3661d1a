// The blocks of a cluster share out the k of a tile. Each leaves its sums in shared memory, as its threads hold them; then
// each adds up those of some of the columns, which the same thread of every block has left, and gives them away.
// KN_PART_BYTES: as in epilogue_direct.cu.

constexpr int kn_units = KN_BN / 8;  // of columns: a thread has four neighbouring sums of each
constexpr int kn_most_units = (kn_units + KN_SPLITS - 1) / KN_SPLITS;  // of a block
constexpr int kn_pitch = (kn_most_units * 8 + 23) / 32 * 32 + 8;  // of rows that are handed out, in banks of their own

template <class Store>
struct kn_added {
    static constexpr int bytes = 0, barriers = 0;
    Store store;
    float* parts;

    // Of a thread's sums of a unit.
    static KN_DEVICE int place(int piece, int unit) {
        return ((piece * kn_units + unit) * kn_consumers * 32 + threadIdx.x) * 16;
    }

    KN_DEVICE void leave(const float (&sums)[kn_pieces][kn_sums], unsigned char* memory) {
#pragma unroll
        for (int piece = 0; piece < kn_pieces; piece++)
#pragma unroll
            for (int unit = 0; unit < kn_units; unit++) {
                const float* const four = sums[piece] + 4 * unit;
                *reinterpret_cast<float4*>(memory + place(piece, unit)) = {four[0], four[1], four[2], four[3]};
            }
    }

    KN_DEVICE void add_up(unsigned char* memory, long long row0, int column0) {
        const int block = kn_block_in_cluster(), warp = threadIdx.x / 32;
        const int first = block * kn_units / KN_SPLITS, count = (block + 1) * kn_units / KN_SPLITS - first;
        float* const hand = reinterpret_cast<float*>(memory + KN_BM * KN_BN * 4) + warp * 16 * kn_pitch;
#if KN_PART_BYTES
        float2* const noted = reinterpret_cast<float2*>(memory + KN_BM * KN_BN * 4 + kn_consumers * 16 * kn_pitch * 4 + warp * KN_PART_BYTES);
#endif
#pragma unroll
        for (int piece = 0; piece < kn_pieces; piece++) {
            // A block that has one unit less than others takes its last one twice. All loads are under way together.
            float parts[KN_SPLITS][kn_most_units][4];
#pragma unroll
            for (int unit = 0; unit < kn_most_units; unit++)
#pragma unroll
                for (int from = 0; from < KN_SPLITS; from++)
                    kn_load_four_there(kn_in_block(kn_shared_address(memory + place(piece, first + (unit < count ? unit : count - 1))), from),
                                       parts[from][unit]);
#pragma unroll
            for (int from = 1; from < KN_SPLITS; from++)
#pragma unroll
                for (int unit = 0; unit < kn_most_units; unit++)
#pragma unroll
                    for (int i = 0; i < 4; i++) parts[0][unit][i] += parts[from][unit][i];
            hand_out(parts[0], count, hand, row0 + warp / 4 * kn_pieces * 64 + piece * 64 + warp % 4 * 16, column0 + first * 8);
#if KN_PART_BYTES
            kn_sync_warp();
            kn_note_pairs(noted, piece, [&](int row, int pair) {
                return *reinterpret_cast<const float2*>(hand + row * kn_pitch + pair * 2);
            });
#endif
        }
#if KN_PART_BYTES
        kn_give_parts(reinterpret_cast<float2*>(parts), noted, KN_PART_BYTES / 8, count * 8, row0 + warp / 4 * kn_pieces * 64, column0 + first * 8);
#endif
    }

    // A warp's 16 rows, by KN_LANES neighbours.
    KN_DEVICE void hand_out(const float (&sums)[kn_most_units][4], int count, float* hand, long long row0, int column0) {
        constexpr int width = kn_most_units * 8 / KN_LANES;
        const int lane = threadIdx.x % 32;
        kn_sync_warp();
#pragma unroll
        for (int unit = 0; unit < kn_most_units; unit++) {
            float* const at = hand + lane / 4 * kn_pitch + unit * 8 + lane % 4 * 2;
            *reinterpret_cast<float2*>(at) = make_float2(sums[unit][0], sums[unit][1]);
            *reinterpret_cast<float2*>(at + 8 * kn_pitch) = make_float2(sums[unit][2], sums[unit][3]);
        }
        kn_sync_warp();
#pragma unroll 4
        for (int i = lane; i < 16 * width; i += 32) {
            const long long row = kn_row(row0, i / width);
            const int in_row = i % width * KN_LANES, column = (column0 + in_row) / KN_LANES;
            if (row >= KN_M || in_row >= count * 8 || column >= KN_N / KN_LANES) continue;
            __align__(16) float product[KN_LANES];
#pragma unroll
            for (int j = 0; j < KN_LANES; j++) product[j] = hand[i / width * kn_pitch + in_row + j];
            store(row, column, product);
#if KN_PART_BYTES
#if KN_LANES % 4 == 0
#pragma unroll
            for (int j = 0; j < KN_LANES; j += 4)
                *reinterpret_cast<float4*>(hand + i / width * kn_pitch + in_row + j) = *reinterpret_cast<const float4*>(product + j);
#else
#pragma unroll
            for (int j = 0; j < KN_LANES; j++) hand[i / width * kn_pitch + in_row + j] = product[j];
#endif
#endif
        }
    }
};

// Calls store(row, column / KN_LANES, product) for each KN_LANES neighbours of y, once.
template <class Touch, class Store>
KN_DEVICE void kn_product(const kn_sources& sources, Touch, Store store, float* parts = nullptr) {
    kn_run(sources, kn_added<Store>{store, parts});
}
