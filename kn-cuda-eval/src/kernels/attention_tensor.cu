// Attention of half types on Hopper's tensor cores (sm_90a): softmax(scale q k^T) v for tiles of queries of one head, the
// softmax kept up in float while tiles of keys go by.
//
// What the generator defines in front of this text:
//   KN_GROUPS       groups of 128 threads, with 64 queries each; one behind them has the copy engine bring keys and values
//   KN_PRODUCER_REGISTERS, KN_CONSUMER_REGISTERS     what that group gives to the others, or 0
//   KN_KEYS         keys of a tile: 16 to 128, by 16
//   KN_STAGES       tiles of keys and values in flight
//   KN_ROUNDS       tiles of queries that a group takes one after the other; above 1 all tiles of keys stay in shared memory
//   KN_WIDTH, KN_VALUE_WIDTH      of a head: multiples of 8
//   KN_CAUSAL       1: query s sees the keys below s + kn_shift + 1
//   kn_batch_heads, kn_heads, kn_sharing (heads for each one of keys), kn_queries, kn_length (of keys)
//   kn_factor       the scale times log2(e)
//   kn_o_{batch,head,row}: strides in elements
//   kn_wgmma_scores(sums, a, b, first), kn_wgmma_values(sums, a, b): one step of 16
//   KN_BF16         1: bfloat16, else half
//
// Rows of queries, keys and values lie in shared memory as panels 64 elements wide, 128 bytes a row, in the 128-byte
// swizzle. Groups wait for each other only through the ring of tiles, so that one's exponentials meet another's products.

constexpr int kn_panels = (KN_WIDTH + 63) / 64, kn_value_panels = (KN_VALUE_WIDTH + 63) / 64;
constexpr int kn_query_bytes = kn_panels * 64 * 128, kn_result_bytes = kn_value_panels * 64 * 128;
// The result takes the queries' place, unless the next ones are on their way.
constexpr int kn_group_bytes = KN_ROUNDS > 1                      ? kn_query_bytes + kn_result_bytes
                               : kn_query_bytes > kn_result_bytes ? kn_query_bytes
                                                                  : kn_result_bytes;
constexpr int kn_key_bytes = kn_panels * KN_KEYS * 128;
constexpr int kn_stage_bytes = kn_key_bytes + kn_value_panels * KN_KEYS * 128;
constexpr int kn_block_queries = 64 * KN_GROUPS * KN_ROUNDS;
constexpr int kn_query_tiles = (kn_queries + kn_block_queries - 1) / kn_block_queries;
constexpr bool kn_one_tile = kn_length <= KN_KEYS;
constexpr int kn_scores = KN_KEYS / 2, kn_sums = KN_VALUE_WIDTH / 2;  // a thread's

#if KN_BF16
using kn_element = kn_bf16;
KN_DEVICE unsigned kn_pack(float first, float second) { return kn_two_bf16(first, second); }
#else
using kn_element = kn_half;
KN_DEVICE unsigned kn_pack(float first, float second) { return kn_two_halves(first, second); }
#endif

// The place of a chunk of 16 bytes in panels of 64 rows.
KN_DEVICE unsigned kn_place(int row, int chunk) { return chunk / 8 * (64 * 128) + row * 128 + (((chunk ^ row) & 7) << 4); }

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

struct kn_maps {
    const kn_tensor_map &q, &k, &v;
};
// Of the heads that a block attends to.
struct kn_head {
    int batch, head;
};
struct kn_barriers : kn_ring_barriers<KN_STAGES> {
    KN_DEVICE unsigned queries(int group) const { return base + (2 * KN_STAGES + group) * 8; }
};

KN_DEVICE void kn_copy_queries(unsigned target, const kn_tensor_map& q, unsigned barrier, int first, kn_head at) {
    kn_expect(barrier, kn_query_bytes);
#pragma unroll
    for (int panel = 0; panel < kn_panels; panel++)
        kn_copy_heads(target + panel * (64 * 128), q, barrier, panel * 64, first, at.head, at.batch);
}

// One thread.
KN_DEVICE void kn_produce(const kn_maps& maps, unsigned ring, kn_barriers barriers, kn_head at, int tiles) {
    int stage = 0;
    unsigned parity = 1;
#pragma unroll 1
    for (int tile = 0; tile < tiles; tile++) {
        const unsigned full = barriers.full(stage), target = ring + stage * kn_stage_bytes;
        kn_wait(barriers.empty(stage), parity);  // passes in the first round
        kn_expect(full, kn_stage_bytes);
#pragma unroll
        for (int panel = 0; panel < kn_panels; panel++)
            kn_copy_heads(target + panel * (KN_KEYS * 128), maps.k, full, panel * 64, tile * KN_KEYS, at.head / kn_sharing, at.batch);
#pragma unroll
        for (int panel = 0; panel < kn_value_panels; panel++)
            kn_copy_heads(target + kn_key_bytes + panel * (KN_KEYS * 128), maps.v, full, panel * 64, tile * KN_KEYS,
                          at.head / kn_sharing, at.batch);
        if (++stage == KN_STAGES) {
            stage = 0;
            parity ^= 1;
        }
    }
}

// What kn_wgmma_scores leaves in a warp's registers, without the group's other warps.
KN_DEVICE void kn_score_alone(float (&scores)[kn_scores], unsigned queries, unsigned keys) {
    const int lane = threadIdx.x % 32, matrix = lane / 8;
#pragma unroll
    for (int i = 0; i < kn_scores; i++) scores[i] = 0;
    queries += (threadIdx.x / 32 % 4 * 16 + matrix % 2 * 8 + lane % 8) * 128;
    keys += (matrix / 2 * 8 + lane % 8) * 128;
#pragma unroll 1
    for (int step = 0; step < (KN_WIDTH + 15) / 16; step++) {
        unsigned a[4];
        kn_load_matrices(a, queries + step / 4 * (64 * 128) + (((step % 4 * 2 + matrix / 2) ^ (lane % 8)) << 4));
#pragma unroll
        for (int two = 0; two < KN_KEYS / 16; two++) {
            unsigned b[4];
            kn_load_matrices(b, keys + step / 4 * (KN_KEYS * 128) + two * (16 * 128) +
                                    (((step % 4 * 2 + matrix % 2) ^ (lane % 8)) << 4));
#pragma unroll
            for (int eight = 0; eight < 2; eight++) {
                float part[4];
#pragma unroll
                for (int i = 0; i < 4; i++) part[i] = scores[two * 8 + eight * 4 + i];
                kn_multiply_halves(kn_element(), part, a, b[eight * 2], b[eight * 2 + 1]);
#pragma unroll
                for (int i = 0; i < 4; i++) scores[two * 8 + eight * 4 + i] = part[i];
            }
        }
    }
}

// Of a thread's two rows, the second eight behind the first.
struct kn_softmax {
    float shift[2] = {-1e30f, -1e30f};  // weights are 2^(factor * score - shift)
    float change[2] = {1, 1};           // what earlier weights are to be multiplied by
    bool moved = false;                 // for some row of the warp
    float total[2] = {0, 0};            // of this thread's columns

    // From here on the largest score so far has the weight 1.
    KN_DEVICE void rise(const float (&scores)[kn_scores]) {
        moved = true;
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float top = scores[2 * r];
#pragma unroll
            for (int i = 0; i < KN_KEYS / 8; i++) top = fmaxf(top, fmaxf(scores[4 * i + 2 * r], scores[4 * i + 2 * r + 1]));
            const float next = fmaxf(shift[r], kn_quad_largest(top) * kn_factor);
            change[r] = kn_power_of_two(shift[r] - next);
            shift[r] = next;
            total[r] *= change[r];
        }
    }
    // Scores become weights; false if some row of the warp has weights that half cannot hold. NaN does not count: it stays.
    KN_DEVICE bool weigh(float (&scores)[kn_scores]) {
        constexpr float most = 32768;
#pragma unroll
        for (int i = 0; i < kn_scores; i++) scores[i] = kn_power_of_two(fmaf(scores[i], kn_factor, -shift[i / 2 % 2]));
        float sum[2];
#pragma unroll
        for (int r = 0; r < 2; r++) {
            sum[r] = scores[2 * r] + scores[2 * r + 1];
#pragma unroll
            for (int i = 1; i < KN_KEYS / 8; i++) sum[r] += scores[4 * i + 2 * r] + scores[4 * i + 2 * r + 1];
        }
        if (kn_ballot(sum[0] > most || sum[1] > most) != 0) return false;
        total[0] += sum[0];
        total[1] += sum[1];
        return true;
    }
};

// A group: softmax(scores) v for the 64 queries from `first` on. `tiles`: of keys, the block's.
template <class NextQueries>
KN_DEVICE void kn_attend(unsigned short* o, unsigned queries, unsigned result, unsigned ring, kn_barriers barriers, int first,
                         int tiles, NextQueries next_queries) {
    const int thread = threadIdx.x % 128, lane = threadIdx.x % 32;
    const int row = first + thread / 32 * 16 + lane / 4;  // and the eighth behind it
    float sums[kn_sums];
#pragma unroll
    for (int i = 0; i < kn_sums; i++) sums[i] = 0;
    kn_softmax softmax;
    const int seen_by_all = kn_visible(first);
    const int seen_by_any = first < kn_queries ? kn_visible(first + 63) : 0;
    const int own_tiles = (seen_by_any + KN_KEYS - 1) / KN_KEYS;

    const unsigned long long rows = kn_matrix(queries, 16);
    const unsigned long long first_keys = kn_matrix(ring, 16);
    const unsigned long long first_values = kn_matrix(ring + kn_key_bytes, KN_KEYS * 128);
    int stage = 0, before = 0;  // of this tile and the one before it
    unsigned parity = 0;
    const auto next_stage = [&] {
        before = stage;
        if (++stage == KN_STAGES) {
            stage = 0;
            parity ^= 1;
        }
    };
    const auto start_scores = [&](float (&scores)[kn_scores], int stage) {
        const unsigned long long keys = kn_behind(first_keys, stage * kn_stage_bytes);
        kn_start_products();
#pragma unroll
        for (int step = 0; step < (KN_WIDTH + 15) / 16; step++)
            kn_wgmma_scores(scores, kn_behind(rows, step / 4 * (64 * 128) + step % 4 * 32),
                            kn_behind(keys, step / 4 * (KN_KEYS * 128) + step % 4 * 32), step == 0);
        kn_commit_products();
    };
    unsigned weights[KN_KEYS / 16][4];
    const auto start_values = [&](int stage) {
        const unsigned long long values = kn_behind(first_values, stage * kn_stage_bytes);
        kn_start_products();
#pragma unroll
        for (int step = 0; step < KN_KEYS / 16; step++)
            kn_wgmma_values(sums, weights[step], kn_behind(values, step * (16 * 128)));
        kn_commit_products();
    };
    const auto release = [&](int stage) {
        if (KN_ROUNDS > 1) return;
        kn_sync_warp();
        if (threadIdx.x % 32 == 0) kn_arrive(barriers.empty(stage));
    };
    const auto hide = [&](float (&scores)[kn_scores], int tile) {
        const int column = tile * KN_KEYS;
        if (column + KN_KEYS <= seen_by_all) return;
#pragma unroll
        for (int i = 0; i < kn_scores; i++) {
            const int key = column + i / 4 * 8 + lane % 4 * 2 + i % 2;
            if (key >= kn_visible(row + i / 2 % 2 * 8)) scores[i] = kn_bits_to_float(0xff800000);
        }
    };
    // A tile's largest score is not looked for: weights by the largest one of earlier tiles are as good while half can hold
    // them, and where it cannot, scores have become weights beyond recall and are multiplied again.
    const auto weigh = [&](float (&scores)[kn_scores], int tile) {
        softmax.moved = false;
        hide(scores, tile);
        if (!softmax.weigh(scores)) {
            kn_score_alone(scores, queries, ring + stage * kn_stage_bytes);
            hide(scores, tile);
            softmax.rise(scores);
            softmax.weigh(scores);
        }
    };
    // No product of values is under way.
    const auto settle = [&](const float (&scores)[kn_scores]) {
        // The scores' registers of two neighbouring pieces of eight columns are a step's rows of the next product.
#pragma unroll
        for (int i = 0; i < KN_KEYS / 4; i++) weights[i / 4][i % 4] = kn_pack(scores[2 * i], scores[2 * i + 1]);
        if (softmax.moved) {
#pragma unroll
            for (int i = 0; i < kn_sums; i++) sums[i] *= softmax.change[i / 2 % 2];
        }
    };

    if (own_tiles > 0) {
        float scores[kn_scores];
        kn_wait(barriers.full(0), 0);
        start_scores(scores, 0);
        kn_wait_products<0>();
        kn_arrived(scores);
        if (kn_one_tile) next_queries();
        hide(scores, 0);
        softmax.rise(scores);
        softmax.weigh(scores);
        settle(scores);
#pragma unroll 1
        for (int tile = 1; tile < own_tiles; tile++) {
            next_stage();
            kn_wait(barriers.full(stage), parity);
            start_scores(scores, stage);
            start_values(before);
            kn_wait_products<1>();
            kn_arrived(scores);
            weigh(scores, tile);
            kn_wait_products<0>();
            kn_arrived(sums);
            release(before);
            settle(scores);
        }
        if (!kn_one_tile) next_queries();
        start_values(stage);
        kn_wait_products<0>();
        kn_arrived(sums);
        release(stage);
    } else {
        next_queries();
    }
    // Other groups may see more.
#pragma unroll 1
    for (int tile = own_tiles; tile < tiles; tile++) {
        kn_wait(barriers.full(tile % KN_STAGES), tile / KN_STAGES % 2);
        release(tile % KN_STAGES);
    }

    // Through shared memory on its way to whole chunks.
    const int local = thread / 32 * 16;
    kn_sync_warp();
#pragma unroll
    for (int r = 0; r < 2; r++) {
        // A row that saw nothing is 0 / 0.
        const float inverse = 1.0f / kn_quad_sum(softmax.total[r]);
        const int at = local + lane / 4 + 8 * r;
#pragma unroll
        for (int i = 0; i < KN_VALUE_WIDTH / 8; i++) {
            const unsigned pair = kn_pack(sums[4 * i + 2 * r] * inverse, sums[4 * i + 2 * r + 1] * inverse);
            kn_store_shared(result + kn_place(at, i) + lane % 4 * 4, pair);
        }
    }
    kn_sync_warp();
    constexpr int chunks = KN_VALUE_WIDTH / 8;
    for (int i = lane; i < 16 * chunks; i += 32) {
        const int at = local + i / chunks, chunk = i % chunks;
        if (first + at >= kn_queries) break;
        *reinterpret_cast<kn_words*>(o + static_cast<long long>(first + at) * kn_o_row + chunk * 8) = kn_load_shared(result + kn_place(at, chunk));
    }
}

KN_DEVICE void kn_attention(const kn_maps& maps, unsigned short* o) {
    KN_SWIZZLED_SHARED(kn_memory);
    const unsigned memory = kn_shared_address(kn_memory);
    const unsigned ring = memory + KN_GROUPS * kn_group_bytes;
    const kn_barriers barriers{ring + KN_STAGES * kn_stage_bytes};
#if KN_CAUSAL
    // The last queries see most keys: they go first.
    const int query_tile = kn_query_tiles - 1 - static_cast<int>(blockIdx.x / kn_batch_heads);
    const int batch_head = blockIdx.x % kn_batch_heads;
#else
    const int query_tile = blockIdx.x % kn_query_tiles;
    const int batch_head = blockIdx.x / kn_query_tiles;
#endif
    const kn_head at{batch_head / kn_heads, batch_head % kn_heads};
    const int first = query_tile * kn_block_queries;
    const int last = first + kn_block_queries < kn_queries ? first + kn_block_queries - 1 : kn_queries - 1;
    // Of the groups, some may round their last query up.
    const int seen = kn_visible(last / 64 * 64 + 63);
    const int tiles = (seen + KN_KEYS - 1) / KN_KEYS;
    const int group = kn_shuffle(static_cast<int>(threadIdx.x / 128), 0);
    if (threadIdx.x == KN_GROUPS * 128) {
        for (int i = 0; i < KN_STAGES; i++) {
            kn_init_barrier(barriers.full(i), 1);
            kn_init_barrier(barriers.empty(i), KN_GROUPS * 4);
        }
        for (int i = 0; i < KN_GROUPS; i++) kn_init_barrier(barriers.queries(i), 1);
        kn_publish_barriers();
        for (int i = 0; i < KN_GROUPS; i++)
            kn_copy_queries(memory + i * kn_group_bytes, maps.q, barriers.queries(i), first + i * 64, at);
    }
    kn_sync();
    if (group == KN_GROUPS) {
#if KN_PRODUCER_REGISTERS
        KN_GIVE_REGISTERS(KN_PRODUCER_REGISTERS);
#endif
        if (threadIdx.x == KN_GROUPS * 128) kn_produce(maps, ring, barriers, at, tiles);
        return;
    }
#if KN_PRODUCER_REGISTERS
    KN_TAKE_REGISTERS(KN_CONSUMER_REGISTERS);
#endif
    const unsigned queries = memory + group * kn_group_bytes;
    const unsigned result = KN_ROUNDS > 1 ? queries + kn_query_bytes : queries;
    const long long head = at.batch * static_cast<long long>(kn_o_batch) + at.head * static_cast<long long>(kn_o_head);
#pragma unroll 1
    for (int round = 0; round < KN_ROUNDS; round++) {
        const int own = first + (round * KN_GROUPS + group) * 64;
        if (round > 0 && own >= kn_queries) break;
        kn_wait(barriers.queries(group), round % 2);
        kn_attend(o + head, queries, result, ring, barriers, own, tiles, [&] {
            // All its warps have multiplied the queries.
            kn_sync_some(group + 1, 128);
            const int next = own + KN_GROUPS * 64;
            if (round + 1 < KN_ROUNDS && next < kn_queries && threadIdx.x % 128 == 0)
                kn_copy_queries(queries, maps.q, barriers.queries(group), next, at);
        });
    }
}
