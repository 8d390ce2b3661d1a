// Source of a matrix product or convolution on Hopper's tensor cores, fed by bulk tensor copies,
// with an epilogue of our own.
//
//     y[m, n] = sum over k of x[m, k] w[n, k]
//
// Rows of x are contiguous in k, and so are the rows of w. For a convolution, row m is the window
// of output position m in an image with channels innermost, and k runs over (kernel row, kernel
// column, channel).
#pragma once

#include <optional>
#include <vector>

#include <kn/cuda_sys/library.h>
#include <kn/cuda_sys/tensor_map.h>

#include "codegen/windows.h"

namespace kn::cuda {

/// How a product is cut up.
struct ProductTiles {
    int rows = 128;     ///< 64 or 128 a group of 128 threads
    int columns = 128;  ///< 16 to 256, by 16
    int groups = 2;     ///< of 128 threads, which share the rows
    int stages = 3;     ///< of 128 bytes of k in flight
    int blocks = 2;     ///< on a multiprocessor
    int share_w = 1;    ///< blocks, one below the other, that share what they read of w: 1, 2, 4
    int splits = 1;     ///< blocks that share the k of a tile: 1 to 8
    int chunk = 32;     ///< columns that a warp hands out at once: 16, 32, 64; all of F(2,3)'s
    /// Instead of chunks: y, and what is added to it, go through shared memory by the copy engine;
    /// whole panels of 128 bytes a row of y, no splits.
    bool staged = false;
    /// Groups take whole tiles in turn: one multiplies while another hands out its sums. No splits,
    /// not exact.
    bool turns = false;
    /// A 3x3 convolution by minimal filtering along lines (codegen/winograd.h): 256 rows, at most
    /// 80 columns; stages of weights.
    bool winograd = false;
    int group_rows() const { return turns ? rows : rows / groups; }
    bool operator==(const ProductTiles&) const = default;
};

/// Images that the epilogue changes by two small products of their means (epilogue_squeezed.cu,
/// squeeze_weights.cu).
struct ProductSqueeze {
    int image_rows = 0;                ///< of x: 16, 32, 64
    int blocks = 1;                    ///< of a cluster, beside each other, that have all channels
    int hidden = 0;                    ///< columns of the first product
    int parts = 1;                     ///< of its terms that warps share
    std::vector<std::int64_t> shifts;  ///< column - channel, where the second product is read
    int bytes = 0;                     ///< of shared memory, a multiple of 128
};

/// What a product knows of its rows of x, to multiply them as they would be normalised.
enum class RowStatistics {
    None,
    MeanSquare,  ///< x / sqrt(mean(x^2) + epsilon)
    Variance,    ///< (x - mean(x)) / sqrt(variance(x) + epsilon)
};

struct TensorProduct {
    DataType type = DataType::F16;  ///< F16, BF16; F32: rounded to TF32
    bool exact = false;             ///< F32 as exact as by multiply-adds: three products for one
    std::int64_t m = 0, n = 0, k = 0;
    std::int64_t row_stride = 0;  ///< of x, in elements, where there are no windows
    std::optional<ProductWindows> windows;
    /// Another image, of windows of one pixel, whose product by weights of its own is added.
    std::optional<ProductWindows> also;
    /// 2: y has n / 2 columns, each made of two of the product, n / 2 apart (staged).
    int halves = 1;
    int lanes = 1;    ///< neighbouring columns that the epilogue takes at once; staged: 2
    int y_bytes = 2;  ///< of an element of y; 2 or 4 where it is staged
    /// Half types, without windows. The sums that the epilogue gets are those of normalised rows.
    RowStatistics statistics = RowStatistics::None;
    double epsilon = 0;
    /// Parts of a row of x of which statistics came with it (row_statistics.cu); 0: the kernel takes
    /// them itself.
    int given_parts = 0;
    bool before = false;  ///< the epilogue wants the elements of another tensor like y
    std::optional<ProductSqueeze> squeeze;
    /// The epilogue wants with each column c the column c ^ partner, a power of two (staged, half
    /// types); 0: it does not.
    int partner = 0;
    /// A norm of y has rows of so many neighbouring columns in so many rows: the epilogue gives
    /// statistics of parts of them besides (column_parts.cu); 0: there is none. One row of all
    /// columns: of tiles' rows (row_moments.cu).
    std::int64_t norm_rows = 0, norm_columns = 0;
    bool may_filter = true;  ///< ProductTiles::winograd may be
    ProductTiles tiles;

    /// Of a part, where there is a norm.
    bool gives_rows() const { return norm_rows == 1 && norm_columns == n; }
    int part_rows() const;
    int part_columns() const;
    /// Why these tiles give no statistics.
    std::optional<std::string> why_no_parts() const;
    static constexpr int most_parts = 16;  ///< of a row: readers hold them in registers

    /// Columns of y that are staged in rows of 128 bytes.
    int panel() const { return 128 / y_bytes; }
    /// Elements of k that are copied at once: 128 bytes.
    std::int64_t slab() const;
    std::int64_t slabs() const;
    /// Whether a thread's sums leave little room among the registers it has by rights.
    bool many_sums() const {
        const int sums = tiles.group_rows() * tiles.groups * tiles.columns * (exact ? 2 : 1);
        return tiles.winograd || (tiles.blocks == 1 && sums > 128 * 160);
    }
    int threads() const { return tiles.groups * 128 + (many_sums() ? 128 : 32); }
    int cluster() const { return tiles.share_w * tiles.splits * beside(); }
    int beside() const { return squeeze ? squeeze->blocks : 1; }
    std::size_t shared_bytes() const;
    Dim3 grid(int sm_count) const;

    /// The kernel's maps of x and of w, which is dense [n, taps, channels], or filtered.
    TensorMapLayout map_x() const;
    TensorMapLayout map_w() const;
    /// Of the other image and its weights, dense [n, channels].
    TensorMapLayout map_x_also() const;
    TensorMapLayout map_w_also() const;
    /// And, where y is staged, of it and of what is added: rows `stride` elements apart; or of some
    /// of its columns.
    TensorMapLayout map_y(DataType y, std::int64_t stride) const;
    TensorMapLayout map_y(DataType y, std::int64_t stride, std::int64_t columns) const;
    /// And of the weights of a small product, dense [columns, terms].
    TensorMapLayout map_small(std::int64_t columns, std::int64_t terms) const;

    /// Why the kernel cannot do this; addresses are 16-byte aligned.
    std::optional<std::string> why_not() const;

  private:
    TensorMapLayout map_of(const ProductWindows& windows) const;
    TensorMapLayout map_of(std::int64_t channels, std::int64_t taps) const;
};

/// The text in front of a kernel that calls kn_product({map_x, map_w, map_w_low}, touch, store), or
/// {map_x, map_w, map_w_low, map_x_also, map_w_also}, with maps of type kn_tensor_map; map_w_low is
/// for exact products, whose maps of w show its high and low parts (Tf32Part). With
/// RowStatistics::Variance, a fourth is a pointer to two floats for each column of the product: the
/// sum of its weights, and what is added to it; with given_parts, a fifth, to pairs of floats, mean
/// and squared distances, [given_parts, m]. store(row, column / lanes, product) is called for
/// each `lanes` neighbours of y, touch(row, column / lanes) a while before for what may be fetched
/// into L2.
/// With norm_rows, kn_product({...}, touch, store, parts), where `parts` are pairs of floats, mean
/// and squared distances, [m / part_rows(), n / part_columns()], or of rows [n / part_columns(), m],
/// and store leaves y in `product`.
/// Staged: kn_product({...}, map_y, map_before, finish), where finish(row, column / 2, products,
/// pair) gives two elements of y as one number; products[half][0 and 1] are the product's, `pair`
/// those of map_before. With squeeze, kn_product({..., map_first, map_second}, map_y, map_before,
/// excite), as epilogue_squeezed.cu says; with a partner, kn_product({...}, place, finish), as
/// epilogue_paired.cu says. Exact products of infinities are NaN, since one of the parts is zero.
/// Needs the target sm_90a, threads() threads a block, blocks in clusters of cluster(), and
/// shared_bytes() of dynamic shared memory.
std::string tensor_product_helpers(const TensorProduct& product);

}  // namespace kn::cuda
