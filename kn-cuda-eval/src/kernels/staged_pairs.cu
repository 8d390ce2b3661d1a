// Sums of the tensor cores become rows of a result in shared memory, two neighbours at a time, in panels of 128 bytes a row
// in the 128-byte swizzle: as the copy engine and the tensor cores have them, and with few conflicts.
//
// What the generator defines in front of this text:
//   KN_Y_BYTES        of an element of the result, and of what lies in its place before: 2, 4

#if KN_Y_BYTES == 4
using kn_pair = unsigned long long;
#else
using kn_pair = unsigned;
#endif

// Where a warp's rows lie: `panel_bytes` between panels, KN_M and `columns_end` bound what is computed unless `whole`.
template <int panel_bytes, int columns_end, bool whole>
struct kn_pairs {
    // 16 rows' sums of `columns` columns, `halves` times, or those of eight of the rows, from `part` on (lines: 1).
    template <int columns, int halves, int lines, bool before, int count, class Finish>
    static KN_DEVICE void finish(const float (&sums)[count], int part, unsigned char* rows, long long row0, int column0,
                                 Finish finish_pair) {
        constexpr int pair_bytes = 2 * KN_Y_BYTES;
        const int lane = threadIdx.x % 32, in_chunk = lane % 4 * pair_bytes;
        unsigned char* const line = rows + lane / 4 * 128 + in_chunk % 16;
#pragma unroll
        for (int four = 0; four < columns / 8; four += 4) {
            // Chunks of 16 bytes are exchanged by the row's number.
            const auto pair = [&](int i) {
                const int bytes = four * 8 * KN_Y_BYTES + i / lines * 8 * KN_Y_BYTES;
                const int chunk = bytes % 128 / 16 + in_chunk / 16;
                return reinterpret_cast<kn_pair*>(line + bytes / 128 * panel_bytes + i % lines * 8 * 128 +
                                                  ((chunk ^ lane / 4) << 4));
            };
            // All reads in front of all writes, so that they are under way together; and neighbours in a column one behind the
            // other, which share what is read for it.
            kn_pair pairs[4 * lines] = {};
            if (before) {
#pragma unroll
                for (int i = 0; i < 4 * lines; i++) pairs[i] = *pair(i);
            }
#pragma unroll
            for (int i = 0; i < 4 * lines; i++) {
                const long long row = row0 + lane / 4 + i % lines * 8;
                const int column = column0 + (four + i / lines) * 8 + lane % 4 * 2;
                if (!whole && (row >= KN_M || column >= columns_end)) continue;
                float products[halves][2];
#pragma unroll
                for (int half = 0; half < halves; half++) {
                    const int sum = half * (count / halves) + (four + i / lines) * 4 + (part + i % lines) * 2;
                    products[half][0] = sums[sum];
                    products[half][1] = sums[sum + 1];
                }
                pairs[i] = finish_pair(row, column / 2, products, pairs[i]);
            }
#pragma unroll
            for (int i = 0; i < 4 * lines; i++) *pair(i) = pairs[i];
        }
    }
};
