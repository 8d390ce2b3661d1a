// y[m, n] = sum over k of x[m, k] w[n, k] in float32 on Hopper's tensor cores (sm_90a), by three TF32 products: high*high +
// high*low + low*high, each slab of 32 summed apart and added in float32, so that the tensor cores' rounding towards zero
// does not add up. Row m of x may be a window of an image: k runs over (kernel row, kernel column, channel), channels
// innermost.
//
// What the generator defines in front of this text:
//   KN_BM, KN_BN    rows and columns of a block's tile; KN_BM is 64 for each group of 128 threads
//   KN_STAGES       slabs of k in flight
//   KN_M, KN_N, KN_K
//   KN_WINDOWS      1: rows are windows, with the kn_window_* constants below
//   KN_LANES        neighbouring columns that the epilogue takes at once
//   kn_wgmma(acc, a, b, first)   one k step of a group's tile
//   KN_PITCH        floats between rows of the finished tile

constexpr int kn_threads = KN_BM * 2;
constexpr int kn_chunk = 16 / sizeof(float);  // elements of 16 bytes
constexpr int kn_slab = 8 * kn_chunk;              // of k: 128 bytes of each row
constexpr int kn_slabs = (KN_K + kn_slab - 1) / kn_slab;
constexpr int kn_a_bytes = KN_BM * 128, kn_b_bytes = KN_BN * 128;
constexpr int kn_stage_bytes = kn_a_bytes + kn_b_bytes;
constexpr int kn_steps = 4;  // of 32 bytes of k
constexpr int kn_sums = KN_BN / 2;  // accumulators of a thread

// Rows of 128 bytes whose 16-byte chunks are exchanged by the row's number, as the tensor cores' 128-byte swizzle wants.
KN_DEVICE unsigned kn_swizzled(int row, int chunk) { return row * 128 + ((chunk ^ (row & 7)) << 4); }

KN_DEVICE float kn_high(float x) { return kn_bits_to_float(kn_float_to_bits(x) & 0xffffe000u); }
KN_DEVICE unsigned kn_low(float x) { return kn_round_tf32(x - kn_high(x)); }

// The rows of x that a thread copies, kn_threads / 8 apart. A window outside the matrix begins far above the image.
struct kn_rows {
    static constexpr int count = KN_BM * 8 / kn_threads;
    const float* base[count];
#if KN_WINDOWS
    int top[count], left[count];
#else
    bool inside[count];
#endif

    KN_DEVICE kn_rows(const float* x, long long row0) {
#pragma unroll
        for (int i = 0; i < count; i++) {
            const long long row = row0 + threadIdx.x / 8 + i * (kn_threads / 8);
#if KN_WINDOWS
            const int image = row / (kn_window_rows * kn_window_columns);
            const int position = row - static_cast<long long>(image) * (kn_window_rows * kn_window_columns);
            top[i] = position / kn_window_columns * kn_window_stride_y - kn_window_pad_y;
            left[i] = position % kn_window_columns * kn_window_stride_x - kn_window_pad_x;
            if (row >= KN_M) top[i] = -(1 << 28);
            base[i] = x + image * kn_window_image;
#else
            inside[i] = row < KN_M;
            base[i] = x + row * kn_row_stride;
#endif
        }
    }

    KN_DEVICE void copy(unsigned target, int slab, const float* any) const {
        const int lane = threadIdx.x % 8;
#if KN_WINDOWS
        const int k = slab * kn_slab;
        const int tap = k / kn_window_channels;
        const int channel = k - tap * kn_window_channels + lane * kn_chunk;
        const int dy = tap / kn_window_width * kn_window_dilation_y, dx = tap % kn_window_width * kn_window_dilation_x;
#else
        const int k = slab * kn_slab + lane * kn_chunk;
#endif
#pragma unroll
        for (int i = 0; i < count; i++) {
            const int row = threadIdx.x / 8 + i * (kn_threads / 8);
#if KN_WINDOWS
            const int y = top[i] + dy, x = left[i] + dx;
            const bool ok = static_cast<unsigned>(y) < kn_window_height_in && static_cast<unsigned>(x) < kn_window_width_in;
            const float* source = base[i] + y * kn_window_line + x * kn_window_pixel + channel;
#else
            const bool ok = inside[i] && k < KN_K;
            const float* source = base[i] + k;
#endif
            kn_copy_chunk(target + kn_swizzled(row, lane), ok ? source : any, ok);
        }
    }
};

struct kn_weights {
    static constexpr int count = (KN_BN * 8 + kn_threads - 1) / kn_threads;

    KN_DEVICE static void copy(unsigned target, const float* w, int column0, int slab) {
        const int lane = threadIdx.x % 8, k = slab * kn_slab + lane * kn_chunk;
#pragma unroll
        for (int i = 0; i < count; i++) {
            const int column = threadIdx.x / 8 + i * (kn_threads / 8);
            const bool ok = column0 + column < KN_N && k < KN_K;
            const float* source = w + static_cast<long long>(column0 + column) * kn_column_stride + k;
            if (column < KN_BN) kn_copy_chunk(target + kn_swizzled(column, lane), ok ? source : w, ok);
        }
    }

    // The low parts of the elements that this thread copied.
    KN_DEVICE static void split(const unsigned char* whole, unsigned char* low) {
        const int lane = threadIdx.x % 8;
#pragma unroll
        for (int i = 0; i < count; i++) {
            const int column = threadIdx.x / 8 + i * (kn_threads / 8);
            if (column >= KN_BN) continue;
            const float4 v = *reinterpret_cast<const float4*>(whole + kn_swizzled(column, lane));
            *reinterpret_cast<uint4*>(low + kn_swizzled(column, lane)) =
                make_uint4(kn_low(v.x), kn_low(v.y), kn_low(v.z), kn_low(v.w));
        }
    }
};

// A warp's 16 rows of eight k values, as registers of one k step.
KN_DEVICE void kn_load_rows(unsigned (&a)[4], unsigned tile, int row0, int step) {
    const int lane = threadIdx.x % 32, matrix = lane / 8;
    const unsigned address = tile + kn_swizzled(row0 + (matrix & 1) * 8 + lane % 8, 2 * step + (matrix >> 1));
    kn_load_matrices(a, address);
}

// Computes the block's tile and hands out its elements: store(row, column / KN_LANES, product) for each KN_LANES of them that
// are in y.
template <class Store>
KN_DEVICE void kn_product(const float* kn_x, const float* kn_w, Store store) {
    const long long row0 = static_cast<long long>(blockIdx.x) * KN_BM;
    const int column0 = blockIdx.y * KN_BN;
    KN_SWIZZLED_SHARED(memory);
    const unsigned stages = kn_shared_address(memory);
    const int group = threadIdx.x / 128;

    const kn_rows rows(kn_x, row0);
    const auto copy_slab = [&](int slab) {
        if (slab < kn_slabs) {
            const unsigned stage = stages + slab % KN_STAGES * kn_stage_bytes;
            rows.copy(stage, slab, kn_x);
            kn_weights::copy(stage + kn_a_bytes, kn_w, column0, slab);
        }
        kn_commit_copies();
    };
#pragma unroll
    for (int slab = 0; slab < KN_STAGES - 1; slab++) copy_slab(slab);

    float sums[kn_sums];
#pragma unroll
    for (int i = 0; i < kn_sums; i++) sums[i] = 0;

    const auto arrived = [] { kn_wait_copies<KN_STAGES - 2>(); };
    const auto ready = [] {
        kn_publish();
        kn_sync();
    };
    unsigned char* const lows = memory + KN_STAGES * kn_stage_bytes;
    const auto split_slab = [&](int slab) {
        kn_weights::split(memory + slab % KN_STAGES * kn_stage_bytes + kn_a_bytes, lows + (slab & 1) * kn_b_bytes);
    };
    arrived();
    split_slab(0);
    ready();

    for (int slab = 0; slab < kn_slabs; slab++) {
        const unsigned a = stages + slab % KN_STAGES * kn_stage_bytes;
        const unsigned b = a + kn_a_bytes;
        unsigned high[kn_steps][4], low[kn_steps][4];
        const int row = group * 64 + threadIdx.x % 128 / 32 * 16;
#pragma unroll
        for (int step = 0; step < kn_steps; step++) {
            kn_load_rows(high[step], a, row, step);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float x = kn_bits_to_float(high[step][i]);
                low[step][i] = kn_low(x);
                high[step][i] = kn_float_to_bits(kn_high(x));
            }
        }
        const unsigned b_low = kn_shared_address(lows) + (slab & 1) * kn_b_bytes;
        float part[kn_sums];
        kn_start_products();
#pragma unroll
        for (int step = 0; step < kn_steps; step++) {
            const unsigned long long whole = kn_matrix(b + step * 32), rest = kn_matrix(b_low + step * 32);
            kn_wgmma(part, low[step], whole, step == 0);
            kn_wgmma(part, high[step], rest, false);
            kn_wgmma(part, high[step], whole, false);
        }
        kn_commit_products();
        copy_slab(slab + KN_STAGES - 1);
        arrived();
        if (slab + 1 < kn_slabs) split_slab(slab + 1);
        kn_wait_products<0>();
        kn_arrived(part);
#pragma unroll
        for (int i = 0; i < kn_sums; i++) sums[i] += part[i];
        ready();
    }

    // The slabs are done with; the tile takes their place.
    kn_wait_all_copies();
    kn_sync();
    float* const tile = reinterpret_cast<float*>(memory);
    const int lane = threadIdx.x % 32;
    const int row = threadIdx.x / 32 * 16 + lane / 4;
#pragma unroll
    for (int j = 0; j < KN_BN / 8; j++) {
        float* const at = tile + row * KN_PITCH + j * 8 + lane % 4 * 2;
        *reinterpret_cast<float2*>(at) = make_float2(sums[4 * j], sums[4 * j + 1]);
        *reinterpret_cast<float2*>(at + 8 * KN_PITCH) = make_float2(sums[4 * j + 2], sums[4 * j + 3]);
    }
    kn_sync();
    constexpr int width = KN_BN / KN_LANES;
    for (int i = threadIdx.x; i < KN_BM * width; i += kn_threads) {
        const long long y_row = row0 + i / width;
        const int y_column = blockIdx.y * width + i % width;
        if (y_row >= KN_M || y_column >= KN_N / KN_LANES) continue;
        const float* const from = tile + i / width * KN_PITCH + i % width * KN_LANES;
        __align__(16) float product[KN_LANES];
#pragma unroll
        for (int j = 0; j < KN_LANES; j++) product[j] = from[j];
        store(y_row, y_column, product);
    }
}
