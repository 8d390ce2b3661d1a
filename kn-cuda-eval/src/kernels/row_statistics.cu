// What a product takes of its rows' statistics: it multiplies x as it is by weights that hold the normalisation's factors, and
// makes of the sums those of normalised rows. Statistics come with x, from the step that has written it (row_moments.cu); or from
// the slabs of x that lie in shared memory for the tensor cores, while these are busy with them, and every tile takes those of its
// rows anew.
//
// What the generator defines in front of this text, for tensor_product.cu behind it:
//   KN_STATISTICS     0: none; 1: the mean of squares; 2: mean and variance, where kn_sources::columns shows for each column of
//                     the product the sum of its weights, and what is added to the normalised result
//   KN_GIVEN_PARTS    of a row, equally many elements each, whose means and squared distances kn_sources::given shows,
//                     [KN_GIVEN_PARTS, KN_M]; 0: none, as where there are no means
//   KN_K              elements of a row
//   kn_row_element, kn_epsilon   of x; added to the mean of squares or variance
#if KN_STATISTICS == 0
template <int pieces>
struct kn_row_statistics {
    KN_DEVICE void start(const float*, long long) {}
    KN_DEVICE void load(unsigned, bool) {}
    KN_DEVICE void add(int, bool) {}
    template <int tile_columns, int columns_end, int halves>
    KN_DEVICE void fetch(unsigned, const float*, int) {}
    template <int count>
    KN_DEVICE void normalize(float (&)[pieces][count], const unsigned char*) {}
};
#else
// What both have in common.
struct kn_normalized_sums {
    // What apply() will want of a tile, to shared memory by a group's threads.
    template <int tile_columns, int columns_end, int halves>
    KN_DEVICE void fetch(unsigned target, const float* columns, int column0) {
        if (KN_STATISTICS != 2) return;
        kn_sync_some(2 + threadIdx.x / 128, 128);
        for (int i = threadIdx.x % 128; i < tile_columns * halves / 2; i += 128) {
            const int half = i / (tile_columns / 2), column = column0 + i % (tile_columns / 2) * 2;
            const bool inside = column < columns_end;
            kn_copy_chunk(target + i * 16, columns + (inside ? (column + half * columns_end) * 2 : 0), inside);
        }
    }
    static KN_DEVICE void wait_for_columns() {
        if (KN_STATISTICS != 2) return;
        kn_wait_all_copies();
        kn_sync_some(2 + threadIdx.x / 128, 128);
    }

    // Of the four threads that share a row.
    static KN_DEVICE float total(float x) {
        x += kn_shuffle_xor(x, 1);
        return x + kn_shuffle_xor(x, 2);
    }
    // A piece's sums; of its two rows.
    template <int count>
    static KN_DEVICE void apply(float (&products)[count], const float (&factors)[2], const float (&means)[2],
                                const unsigned char* columns) {
#pragma unroll
        for (int unit = 0; unit < count / 4; unit++) {  // of eight columns: a thread has four neighbouring sums of each
            float weights[2] = {}, added[2] = {};
            if (KN_STATISTICS == 2) {
                const float4 both = reinterpret_cast<const float4*>(columns)[unit * 4 + threadIdx.x % 4];
                weights[0] = both.x, added[0] = both.y, weights[1] = both.z, added[1] = both.w;
            }
#pragma unroll
            for (int i = 0; i < 4; i++) {
                float& product = products[4 * unit + i];
                if (KN_STATISTICS == 2) product -= means[i / 2] * weights[i % 2];
                product = product * factors[i / 2] + added[i % 2];
            }
        }
    }
};

#if KN_GIVEN_PARTS
// Of a warp's rows: 16 of each of the pieces of 64 that its group has. The four threads that share a row have some of its parts
// each, which are under way while the tensor cores multiply.
template <int pieces>
struct kn_row_statistics : kn_normalized_sums {
    static constexpr int trips = (KN_GIVEN_PARTS + 3) / 4;
    float2 parts[pieces][2][trips];
    float factors[pieces][2], means[pieces][2];

    static KN_DEVICE bool has(int trip) { return KN_GIVEN_PARTS % 4 == 0 || trip * 4 + static_cast<int>(threadIdx.x) % 4 < KN_GIVEN_PARTS; }
    // row0: the warp's first of the tile.
    KN_DEVICE void start(const float* given, long long row0) {
#pragma unroll
        for (int piece = 0; piece < pieces; piece++)
#pragma unroll
            for (int i = 0; i < 2; i++) {
                const long long row = row0 + piece * 64 + i * 8 + threadIdx.x % 32 / 4;
#pragma unroll
                for (int trip = 0; trip < trips; trip++) {
                    const long long place = (trip * 4 + threadIdx.x % 4) * static_cast<long long>(KN_M) + row;
                    parts[piece][i][trip] =
                        has(trip) && row < KN_M ? reinterpret_cast<const float2*>(given)[place] : make_float2(0, 0);
                }
            }
    }
    KN_DEVICE void load(unsigned, bool) {}
    // Puts parts together behind the first products, which take longer.
    KN_DEVICE void add(int, bool first) {
        if (!first) return;
#pragma unroll
        for (int piece = 0; piece < pieces; piece++)
#pragma unroll
            for (int i = 0; i < 2; i++) {
                const float2(&own)[trips] = parts[piece][i];
                float mean = 0, spread = 0;
#pragma unroll
                for (int trip = 0; trip < trips; trip++) mean += own[trip].x;
                mean = total(mean) * (1.0f / KN_GIVEN_PARTS);
#pragma unroll
                for (int trip = 0; trip < trips; trip++) {
                    const float distance = has(trip) ? own[trip].x - mean : 0;
                    spread += own[trip].y + distance * distance * (KN_K / KN_GIVEN_PARTS);
                }
                means[piece][i] = mean;
                factors[piece][i] = kn_rsqrt_fast(total(spread) * (1.0f / KN_K) + kn_epsilon);
            }
    }
    // The sums of a tile; columns: what fetch() was for.
    template <int count>
    KN_DEVICE void normalize(float (&products)[pieces][count], const unsigned char* columns) {
        wait_for_columns();
#pragma unroll
        for (int piece = 0; piece < pieces; piece++) apply(products[piece], factors[piece], means[piece], columns);
    }
};
#else
// Of a warp's rows: 16 of each of the pieces of 64 that its group has.
template <int pieces>
struct kn_row_statistics : kn_normalized_sums {
    static constexpr int steps = 4;  // of 32 bytes of a slab
    // Of the thread's two rows, as it has their sums, and a part of the columns. Variances are sums of squares of what is left of
    // elements without the row's first one: no element is further from the mean than sqrt(KN_K) standard deviations, so that
    // what float32 loses by the difference of sums is bounded.
    float squares[pieces][2], sums[pieces][2], firsts[pieces][2];
    unsigned pairs[pieces][steps][4];  // of a slab; [..][i]: of row i % 2, chunk i / 2 of 16 bytes

    KN_DEVICE void start(const float*, long long) {}
    // A slab: the group's rows in the 128-byte swizzle. In front of its products, behind which it would wait for them.
    KN_DEVICE void load(unsigned rows, bool first) {
        const int lane = threadIdx.x % 32, matrix = lane / 8;
        const unsigned line = rows + (threadIdx.x / 32 % 4 * 16 + (matrix & 1) * 8 + lane % 8) * 128;
#pragma unroll
        for (int piece = 0; piece < pieces; piece++)
#pragma unroll
            for (int step = 0; step < steps; step++)
                kn_load_matrices(pairs[piece][step],
                                 line + piece * 64 * 128 + (((2 * step + (matrix >> 1)) ^ (lane & 7)) << 4));
        if (!first) return;
#pragma unroll
        for (int piece = 0; piece < pieces; piece++)
#pragma unroll
            for (int row = 0; row < 2; row++) {
                squares[piece][row] = sums[piece][row] = 0;
                if (KN_STATISTICS == 2) firsts[piece][row] = kn_shuffle(element(pairs[piece][0][row], 0), lane & ~3);
            }
    }
    // And to what is known, when they have begun; without branches.
    KN_DEVICE void add(int slab, bool) {
#pragma unroll
        for (int piece = 0; piece < pieces; piece++)
#pragma unroll
            for (int i = 0; i < 4 * steps; i++) {
                // What is copied behind a row's end are zeros.
                constexpr int chunk = 8;
                const bool behind = KN_K % KN_SLAB != 0 && slab * KN_SLAB + i / 2 * chunk >= KN_K;
                const int row = i % 2;
#pragma unroll
                for (int j = 0; j < 2; j++) {
                    float x = element(pairs[piece][i / 4][i % 4], j);
                    if (KN_STATISTICS == 2) {
                        x = behind ? 0 : x - firsts[piece][row];
                        sums[piece][row] += x;
                    }
                    squares[piece][row] += x * x;
                }
            }
    }
    static KN_DEVICE float element(unsigned pair, int i) {
        return kn_widen(kn_bit_cast<kn_vector<kn_row_element, 2>>(pair).lane[i]);
    }

    // The sums of a tile; columns: what fetch() was for.
    template <int count>
    KN_DEVICE void normalize(float (&products)[pieces][count], const unsigned char* columns) {
        wait_for_columns();
#pragma unroll
        for (int piece = 0; piece < pieces; piece++) {
            float factors[2], means[2] = {};
#pragma unroll
            for (int row = 0; row < 2; row++) {
                float spread = total(squares[piece][row]) * (1.0f / KN_K);
                if (KN_STATISTICS == 2) {
                    const float mean = total(sums[piece][row]) * (1.0f / KN_K);
                    spread -= mean * mean;
                    spread = spread < 0 ? 0 : spread;  // and NaN as it is
                    means[row] = firsts[piece][row] + mean;
                }
                factors[row] = kn_rsqrt_fast(spread + kn_epsilon);
            }
            apply(products[piece], factors, means, columns);
        }
    }
};
#endif
#endif
