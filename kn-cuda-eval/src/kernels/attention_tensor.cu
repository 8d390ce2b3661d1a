// Attention of half types on Hopper's tensor cores (sm_90a): softmax(scale q k^T) v for a tile of queries of one head, the
// softmax kept up in float while tiles of keys go by.
//
// What the generator defines in front of this text:
//   KN_GROUPS       groups of 128 threads, with 64 queries each
//   KN_PRODUCER_REGISTERS, KN_CONSUMER_REGISTERS     what the group that copies keys and values gives to the others, or 0
//   KN_KEYS         keys of a tile: 16 to 128, by 16
//   KN_STAGES       tiles of keys and values in flight
//   KN_WIDTH, KN_VALUE_WIDTH      of a head: multiples of 8
//   KN_CAUSAL       1: query s sees the keys below s + kn_shift + 1
//   kn_batch_heads, kn_heads, kn_sharing (heads for each one of keys), kn_queries, kn_length (of keys)
//   kn_factor       the scale times log2(e)
//   kn_{q,k,v,o}_{batch,head,row}: strides in elements
//   kn_wgmma_scores(sums, a, b, first), kn_wgmma_values(sums, a, b): one step of 16
//   KN_BF16         1: bfloat16, else half
//
// Rows of queries, keys and values lie in shared memory as panels 64 elements wide, 128 bytes a row, in the 128-byte
// swizzle. Groups wait for each other only through the ring of tiles, so that one's exponentials meet another's products.

constexpr int kn_panels = (KN_WIDTH + 63) / 64, kn_value_panels = (KN_VALUE_WIDTH + 63) / 64;
constexpr int kn_group_panels = kn_panels > kn_value_panels ? kn_panels : kn_value_panels;
constexpr int kn_group_bytes = kn_group_panels * 64 * 128;  // queries, later the result
constexpr int kn_key_bytes = kn_panels * KN_KEYS * 128;
constexpr int kn_stage_bytes = kn_key_bytes + kn_value_panels * KN_KEYS * 128;
constexpr int kn_query_tiles = (kn_queries + 64 * KN_GROUPS - 1) / (64 * KN_GROUPS);

#if KN_BF16
KN_DEVICE unsigned kn_pack(float first, float second) { return kn_two_bf16(first, second); }
#else
KN_DEVICE unsigned kn_pack(float first, float second) { return kn_two_halves(first, second); }
#endif

// The place of a chunk of 16 bytes in panels of `rows` rows.
KN_DEVICE unsigned kn_place(int rows, int row, int chunk) {
    return chunk / 8 * (rows * 128) + row * 128 + (((chunk ^ row) & 7) << 4);
}

// Once for the warp, when all its threads are here.
KN_DEVICE void kn_arrive_warp(unsigned barrier) {
    kn_sync_warp();
    if (threadIdx.x % 32 == 0) kn_arrive(barrier);
}
KN_DEVICE float kn_quad_largest(float x) {
    x = fmaxf(x, kn_shuffle_xor(x, 1));
    return fmaxf(x, kn_shuffle_xor(x, 2));
}
KN_DEVICE float kn_quad_sum(float x) {
    x += kn_shuffle_xor(x, 1);
    return x + kn_shuffle_xor(x, 2);
}
// How many keys a query sees.
KN_DEVICE int kn_visible(int query) {
#if KN_CAUSAL
    const int n = query + kn_shift + 1;
    return n < 0 ? 0 : n < kn_length ? n : kn_length;
#else
    return kn_length;
#endif
}

// Rows of a matrix, zeros behind the last one; by `threads` threads.
template <int rows, int width, int threads>
KN_DEVICE void kn_copy_rows(unsigned target, const unsigned short* source, int stride, int count,
                                             int thread) {
    constexpr int chunks = width / 8;
#pragma unroll 4
    for (int i = thread; i < rows * chunks; i += threads) {
        const int row = i / chunks, chunk = i % chunks;
        const bool inside = row < count;
        kn_copy_chunk(target + kn_place(rows, row, chunk), source + (inside ? row * stride + chunk * 8 : 0), inside);
    }
}
// The chunk behind rows whose width is no multiple of 16 counts in products.
template <int rows, int width, int threads>
KN_DEVICE void kn_clear_rest(unsigned target, int thread) {
    if (width % 16 != 0)
        for (int row = thread; row < rows; row += threads) kn_clear_shared(target + kn_place(rows, row, width / 8));
}

KN_DEVICE void kn_produce(const unsigned short* k, const unsigned short* v, unsigned ring,
                                           unsigned full, unsigned empty, int tiles) {
    constexpr int threads = 128;
    const int thread = threadIdx.x % 128;
#pragma unroll 1
    for (int stage = 0; stage < KN_STAGES; stage++)
        kn_clear_rest<KN_KEYS, KN_WIDTH, threads>(ring + stage * kn_stage_bytes, thread);
    int stage = 0, before = 0;
    unsigned parity = 1;
#pragma unroll 1
    for (int tile = 0; tile <= tiles; tile++) {
        if (tile < tiles) {
            kn_wait(empty + stage * 8, parity);  // passes in the first round
            const unsigned target = ring + stage * kn_stage_bytes;
            const int first = tile * KN_KEYS, count = kn_length - first;
            kn_copy_rows<KN_KEYS, KN_WIDTH, threads>(target, k + static_cast<long long>(first) * kn_k_row, kn_k_row,
                                                     count, thread);
            kn_copy_rows<KN_KEYS, KN_VALUE_WIDTH, threads>(target + kn_key_bytes,
                                                           v + static_cast<long long>(first) * kn_v_row, kn_v_row,
                                                           count, thread);
        }
        kn_commit_copies();
        if (tile > 0) {
            kn_wait_copies<1>();
            kn_publish();
            kn_arrive_warp(full + before * 8);
        }
        before = stage;
        if (++stage == KN_STAGES) {
            stage = 0;
            parity ^= 1;
        }
    }
}

KN_DEVICE void kn_consume(const unsigned short* q, unsigned short* o, unsigned queries, unsigned ring,
                                           unsigned full, unsigned empty, int first, int tiles) {
    const int thread = threadIdx.x % 128, lane = threadIdx.x % 32;
    const int group = threadIdx.x / 128;
    const int row = first + thread / 32 * 16 + lane / 4;  // and the eighth behind it
    const auto sync_group = [&] { kn_sync_some(group + 1, 128); };

    kn_copy_rows<64, KN_WIDTH, 128>(queries, q + static_cast<long long>(first) * kn_q_row, kn_q_row,
                                    kn_queries - first, thread);
    kn_clear_rest<64, KN_WIDTH, 128>(queries, thread);
    kn_wait_all_copies();
    kn_publish();
    sync_group();

    float sums[KN_VALUE_WIDTH / 2];
#pragma unroll
    for (int i = 0; i < KN_VALUE_WIDTH / 2; i++) sums[i] = 0;
    const float infinity = kn_bits_to_float(0x7f800000);
    float largest[2] = {-infinity, -infinity}, total[2] = {0, 0};
    const int seen_by_all = kn_visible(first);
    const int seen_by_any = first < kn_queries ? kn_visible(first + 63) : 0;
    const int own_tiles = (seen_by_any + KN_KEYS - 1) / KN_KEYS;

    const unsigned long long rows = kn_matrix(queries, 16);
    const unsigned long long first_keys = kn_matrix(ring, 16);
    const unsigned long long first_values = kn_matrix(ring + kn_key_bytes, KN_KEYS * 128);
    int stage = 0, before = 0;
    unsigned parity = 0;
    const auto advance = [&] {
        before = stage;
        if (++stage == KN_STAGES) {
            stage = 0;
            parity ^= 1;
        }
    };
#pragma unroll 1
    for (int tile = 0; tile < own_tiles; tile++) {
        kn_wait(full + stage * 8, parity);
        const unsigned long long keys = kn_behind(first_keys, stage * kn_stage_bytes);
        float scores[KN_KEYS / 2];
        kn_start_products();
#pragma unroll
        for (int step = 0; step < (KN_WIDTH + 15) / 16; step++)
            kn_wgmma_scores(scores, kn_behind(rows, step / 4 * (64 * 128) + step % 4 * 32),
                            kn_behind(keys, step / 4 * (KN_KEYS * 128) + step % 4 * 32), step == 0);
        kn_commit_products();
        kn_wait_products<0>();
        kn_arrived(scores);
        kn_arrived(sums);
        if (tile > 0) kn_arrive_warp(empty + before * 8);

        const int column = tile * KN_KEYS;
        if (column + KN_KEYS > seen_by_all) {
#pragma unroll
            for (int i = 0; i < KN_KEYS / 2; i++) {
                const int key = column + i / 4 * 8 + lane % 4 * 2 + i % 2;
                if (key >= kn_visible(row + i / 2 % 2 * 8)) scores[i] = -infinity;
            }
        }

#pragma unroll
        for (int r = 0; r < 2; r++) {
            float top = largest[r];
#pragma unroll
            for (int i = 0; i < KN_KEYS / 8; i++) top = fmaxf(top, fmaxf(scores[4 * i + 2 * r], scores[4 * i + 2 * r + 1]));
            top = kn_quad_largest(top);
            // While a row has seen nothing there is nothing to subtract.
            const float shift = top == -infinity ? 0.0f : top * kn_factor;
            const float change = kn_power_of_two(largest[r] * kn_factor - shift);
            largest[r] = top;
            float sum = 0;
#pragma unroll
            for (int i = 0; i < KN_KEYS / 8; i++) {
                float& left = scores[4 * i + 2 * r];
                float& right = scores[4 * i + 2 * r + 1];
                left = kn_power_of_two(left * kn_factor - shift);
                right = kn_power_of_two(right * kn_factor - shift);
                sum += left + right;
            }
            total[r] = total[r] * change + sum;
#pragma unroll
            for (int i = 0; i < KN_VALUE_WIDTH / 8; i++) {
                sums[4 * i + 2 * r] *= change;
                sums[4 * i + 2 * r + 1] *= change;
            }
        }

        // The scores' registers of two neighbouring pieces of eight columns are a step's rows of the next product.
        unsigned weights[KN_KEYS / 16][4];
#pragma unroll
        for (int i = 0; i < KN_KEYS / 4; i++) weights[i / 4][i % 4] = kn_pack(scores[2 * i], scores[2 * i + 1]);
        const unsigned long long values = kn_behind(first_values, stage * kn_stage_bytes);
        kn_start_products();
#pragma unroll
        for (int step = 0; step < KN_KEYS / 16; step++)
            kn_wgmma_values(sums, weights[step], kn_behind(values, step * (16 * 128)));
        kn_commit_products();
        advance();
    }
    kn_wait_products<0>();
    kn_arrived(sums);
    if (own_tiles > 0) kn_arrive_warp(empty + before * 8);
    // Other groups may see more.
#pragma unroll 1
    for (int tile = own_tiles; tile < tiles; tile++) {
        kn_wait(full + stage * 8, parity);
        kn_arrive_warp(empty + stage * 8);
        advance();
    }

    // The queries are done with; the result takes their place on its way to whole chunks.
    sync_group();
    const int local = thread / 32 * 16;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        // A row that saw nothing is 0 / 0.
        const float inverse = 1.0f / kn_quad_sum(total[r]);
        const int at = local + lane / 4 + 8 * r;
#pragma unroll
        for (int i = 0; i < KN_VALUE_WIDTH / 8; i++) {
            const unsigned pair = kn_pack(sums[4 * i + 2 * r] * inverse, sums[4 * i + 2 * r + 1] * inverse);
            kn_store_shared(queries + kn_place(64, at, i) + lane % 4 * 4, pair);
        }
    }
    kn_sync_warp();
    constexpr int chunks = KN_VALUE_WIDTH / 8;
    for (int i = lane; i < 16 * chunks; i += 32) {
        const int at = local + i / chunks, chunk = i % chunks;
        if (first + at >= kn_queries) break;
        *reinterpret_cast<kn_words*>(o + static_cast<long long>(first + at) * kn_o_row + chunk * 8) = kn_load_shared(queries + kn_place(64, at, chunk));
    }
}

KN_DEVICE void kn_attention(const unsigned short* q, const unsigned short* k, const unsigned short* v,
                                             unsigned short* o) {
    KN_SWIZZLED_SHARED(kn_memory);
    const unsigned memory = kn_shared_address(kn_memory);
    const unsigned ring = memory + KN_GROUPS * kn_group_bytes;
    const unsigned full = ring + KN_STAGES * kn_stage_bytes, empty = full + KN_STAGES * 8;
    if (threadIdx.x == 0)
        for (int i = 0; i < KN_STAGES; i++) {
            kn_init_barrier(full + 8 * i, 4);
            kn_init_barrier(empty + 8 * i, KN_GROUPS * 4);
        }
    kn_sync();

#if KN_CAUSAL
    // The last queries see most keys: they go first.
    const int query_tile = kn_query_tiles - 1 - static_cast<int>(blockIdx.x / kn_batch_heads);
    const int batch_head = blockIdx.x % kn_batch_heads;
#else
    const int query_tile = blockIdx.x % kn_query_tiles;
    const int batch_head = blockIdx.x / kn_query_tiles;
#endif
    const long long batch = batch_head / kn_heads, head = batch_head % kn_heads;
    const int first = query_tile * (64 * KN_GROUPS);
    const int last = first + 64 * KN_GROUPS < kn_queries ? first + 64 * KN_GROUPS - 1 : kn_queries - 1;
    // Of the groups, some may round their last query up.
    const int seen = kn_visible(last / 64 * 64 + 63);
    const int tiles = (seen + KN_KEYS - 1) / KN_KEYS;
    const int group = kn_shuffle(static_cast<int>(threadIdx.x / 128), 0);
    if (group == KN_GROUPS) {
#if KN_PRODUCER_REGISTERS
        KN_GIVE_REGISTERS(KN_PRODUCER_REGISTERS);
#endif
        kn_produce(k + batch * kn_k_batch + head / kn_sharing * kn_k_head,
                   v + batch * kn_v_batch + head / kn_sharing * kn_v_head, ring, full, empty, tiles);
    } else {
#if KN_PRODUCER_REGISTERS
        KN_TAKE_REGISTERS(KN_CONSUMER_REGISTERS);
#endif
        kn_consume(q + batch * kn_q_batch + head * kn_q_head, o + batch * kn_o_batch + head * kn_o_head,
                   memory + group * kn_group_bytes, ring, full, empty, first + group * 64, tiles);
    }
}
