// Filters are the rows of products, 64 a block, and the outputs of a patch their columns: a cell is read once for all of
// them. A thread has neighbouring outputs of one filter; results lie in shared memory as y wants them, filters innermost in
// panels of 128 bytes in the 128-byte swizzle, from where the copy engine writes them and leaves out what is not in y.
//
// What the generator defines in front of this text:
//   KN_Y_BYTES        of an element of y: 2 or 4

constexpr int kn_outputs = 8 * KN_PATCH_HEIGHT;
constexpr int kn_sums = kn_outputs / 2;
constexpr int kn_panel_bytes = kn_outputs * 128, kn_panels = 64 * KN_Y_BYTES / 128;
constexpr int kn_panel_filters = 128 / KN_Y_BYTES;

// Results of a group, which lie at `panels`.
template <class Finish>
KN_DEVICE void kn_put_results(const float (&sums)[kn_sums], unsigned panels, int image, int top, int left, Finish finish) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x % 128 / 32;
    const int filter = warp * 16 + lane / 4, pair = lane % 4;  // and the eighth filter behind it
    // Of what is not in y, anything may be given.
    const auto inside = [](int place, int count) { return place < count ? place : count - 1; };
    const auto result = [&](int row, int r) {
        const float product[2] = {sums[4 * row + 2 * r], sums[4 * row + 2 * r + 1]};
        return finish(image, inside(blockIdx.y * KN_BN + filter + 8 * r, KN_N), inside(top + row, kn_window_rows),
                      inside(left / 2 + pair, kn_window_columns / 2), product);
    };
#if KN_Y_BYTES == 2
    // Chunks of 16 bytes are exchanged by the output's number.
    const int at_row = lane / 16, output = lane % 8, chunk = warp * 2 + lane / 8 % 2;
#pragma unroll
    for (int row = 0; row < KN_PATCH_HEIGHT; row += 2) {
        unsigned pairs[4];
#pragma unroll
        for (int i = 0; i < 4; i++) pairs[i] = kn_bit_cast<unsigned>(result(row + i / 2, i % 2));
        kn_store_matrices(panels + ((row + at_row) * 8 + output) * 128 + ((chunk ^ output) << 4), pairs);
    }
#else
#pragma unroll
    for (int row = 0; row < KN_PATCH_HEIGHT; row++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const auto both = result(row, r);
            const int in_panel = (filter + 8 * r) % kn_panel_filters;
            const unsigned panel = panels + (filter + 8 * r) / kn_panel_filters * kn_panel_bytes;
#pragma unroll
            for (int i = 0; i < 2; i++) {
                const int output = 2 * pair + i;
                kn_store_shared(panel + (row * 8 + output) * 128 + ((in_panel / 4 ^ output) << 4) + in_panel % 4 * 4,
                                kn_bit_cast<unsigned>(both.lane[i]));
            }
        }
#endif
}

// pixel(image, row, column, channels) loads a pixel of x that is there; finish(image, filter, row, column / 2, product)
// gives two neighbours of y, once.
template <class Pixel, class Weight, class Finish>
KN_DEVICE void kn_product(Pixel pixel, const Weight* w, const kn_tensor_map& map_y, Finish finish) {
    KN_SWIZZLED_SHARED(kn_memory);
    const unsigned memory = kn_shared_address(kn_memory);
    constexpr int results = kn_panels * kn_panel_bytes;  // of a group
    kn_run(memory + KN_GROUPS * results, pixel, w, [&](int group, unsigned stages, unsigned weights, kn_barriers barriers) {
        const unsigned panels = memory + group * results;
        const bool one = threadIdx.x % 128 == 0;
        const unsigned long long a = kn_plain_matrix(weights, KN_BN * 16, 128);
        const auto multiply = [&](float(&sums)[kn_sums], unsigned cells) {
            const unsigned long long b = kn_plain_matrix(cells, 0, kn_window_stride_y * kn_line_bytes);
            kn_sum_up(sums, [&](float(&part)[kn_sums], int step, bool first) {
                const unsigned long long rows = a + step * (2 * KN_BN), columns = b + kn_step_cells(step);
#if KN_EXACT
                kn_wgmma(part, rows + kn_weight_bytes / 16, columns, first);
                kn_wgmma(part, rows, columns + kn_band_bytes / 16, false);
                kn_wgmma(part, rows, columns, false);
#else
                kn_wgmma(part, rows, columns, first);
#endif
            });
        };
        const auto give = [&](const float(&sums)[kn_sums], int image, int top, int left) {
            if (one) kn_wait_stores_read<0>();
            kn_sync_some(2 + group, 128);
            kn_put_results(sums, panels, image, top, left, finish);
            kn_publish();
            kn_sync_some(2 + group, 128);
            if (one) {
#pragma unroll
                for (int panel = 0; panel < kn_panels; panel++)
                    kn_store_patch(map_y, panels + panel * kn_panel_bytes, blockIdx.y * KN_BN + panel * kn_panel_filters, left, top, image);
                kn_commit_stores();
            }
        };
        kn_consume<kn_sums>(group, stages, barriers, multiply, give);
        if (one) kn_wait_stores_read<0>();
    });
}
