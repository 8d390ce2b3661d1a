// Source of two matrix products behind each other on Hopper's tensor cores, in one kernel that
// reads what lies between from shared memory.
//
//     y[m, n] = first of sum over k of x[m, k] w[n, k]  (+ the same of x_also and w_also)
//     z[m, j] = second of sum over n of y[m, n] w2[j, n]
//
// Rows of all matrices are contiguous. Both weights stay in a block's shared memory, or come again
// for each tile of rows (streamed).
#pragma once

#include <optional>
#include <string>

#include <kn/cuda_sys/device_properties.h>
#include <kn/cuda_sys/library.h>
#include <kn/cuda_sys/tensor_map.h>

namespace kn::cuda {

/// How a pair of products is worked on, 64 rows at a time.
struct PairTiles {
    int groups = 2;     ///< of 128 threads, which take tiles in turn
    int columns = 256;  ///< of y that are multiplied at once, to 256: panels of 128 bytes
    int x_stages = 2;   ///< tiles of x in flight
    int y_stages = 3;   ///< tiles of y, and of what is added to it; streamed: pieces of them
    /// Columns of y come piece by piece, weights anew with them for each tile, and groups share
    /// tiles; otherwise both weights stay in shared memory, and groups take tiles in turn.
    bool streamed = false;
    int z_stages = 0;  ///< streamed: panels of z in flight, or 0, where z takes the place of x
    bool operator==(const PairTiles&) const = default;
};

/// "2 groups of 256 columns, 2 + 3 stages".
std::string to_string(const PairTiles& tiles);

struct ProductPair {
    DataType type =
        DataType::F16;  ///< of everything: F16, BF16; F32, streamed: its TF32 part counts
    std::int64_t m = 0, k = 0, n = 0, n2 = 0;
    std::int64_t row_stride = 0;                   ///< of x, in elements
    std::int64_t k_also = 0, row_stride_also = 0;  ///< 0: there is no other x
    bool before = false;  ///< the first epilogue wants the elements of another tensor like y
    bool keep = true;     ///< y is written, too
    PairTiles tiles;

    int tile_rows() const { return tiles.streamed ? tiles.groups * 64 : 64; }
    std::int64_t row_tiles() const { return (m + tile_rows() - 1) / tile_rows(); }
    int threads() const { return tiles.groups * 128 + 128; }
    std::size_t shared_bytes() const;
    Dim3 grid(int sm_count) const;

    /// The kernel's maps of x and of w (dense [n, k]), of the other ones, of w2 (dense [n2, n]).
    TensorMapLayout map_x() const { return rows(k, m, row_stride); }
    TensorMapLayout map_w() const { return weights(k); }
    TensorMapLayout map_x_also() const { return rows(k_also, m, row_stride_also); }
    TensorMapLayout map_w_also() const { return weights(k_also); }
    TensorMapLayout map_w2() const { return rows(n, n2, n); }
    /// Of y, what is added to it, or z: m rows, `stride` elements apart.
    TensorMapLayout rows(std::int64_t columns, std::int64_t stride) const {
        return rows(columns, m, stride);
    }

    /// Why the kernel cannot do this; addresses are 16-byte aligned.
    std::optional<std::string> why_not(const DeviceProperties& device) const;

    std::int64_t bytes() const { return static_cast<std::int64_t>(size_of(type)); }
    /// Columns of 128 bytes.
    std::int64_t panel() const { return 128 / bytes(); }

  private:
    TensorMapLayout weights(std::int64_t terms) const;
    TensorMapLayout rows(std::int64_t columns, std::int64_t count, std::int64_t stride) const;
};

/// The text in front of a kernel that calls kn_product_pair({map_x, map_w, map_x_also,
/// map_w_also, map_w2}, map_before, map_y, map_z, first, second), where first and second(row,
/// column / 2, products, pair) give two neighbours of y and of z as one number; products[0][0 and
/// 1] are the product's, `pair` those of map_before. Needs the target sm_90a, threads() threads a
/// block, one block on a multiprocessor and shared_bytes() of dynamic shared memory.
std::string product_pair_helpers(const ProductPair& pair);

}  // namespace kn::cuda
