// Source of a float32 matrix product or convolution by three TF32 products on Hopper's tensor
// cores, as exact as sums in float32.
//
//     y[m, n] = sum over k of x[m, k] w[n, k]
//
// Rows of x are contiguous in k, and so are the rows of w. For a convolution, row m is the window
// of output position m in an image with channels innermost, and k runs over (kernel row, kernel
// column, channel).
#pragma once

#include <optional>

#include <kn/cuda_sys/library.h>

#include "codegen/windows.h"

namespace kn::cuda {

struct SplitProduct {
    std::int64_t m = 0, n = 0, k = 0;
    std::int64_t row_stride = 0;     ///< of x, in elements, where there are no windows
    std::int64_t column_stride = 0;  ///< between rows of w
    std::optional<ProductWindows> windows;
    int tile_rows = 128;     ///< 64 a group of 128 threads: 64, 128, 192, 256
    int tile_columns = 128;  ///< 8 to 256, by 8
    int stages = 3;          ///< of 128 bytes of k in flight
    int blocks = 2;          ///< on a multiprocessor, as the register count allows
    int lanes = 1;           ///< neighbouring columns that the epilogue takes at once

    int threads() const { return tile_rows * 2; }
    std::size_t shared_bytes() const;
    Dim3 grid() const;

    /// Why the kernel cannot do this; addresses are 16-byte aligned.
    std::optional<std::string> why_not() const;
};

/// The text in front of a kernel that calls kn_product(x, w, store), x and w of float; store(row,
/// column / lanes, product) is called for each `lanes` neighbours of y. Needs the target sm_90a,
/// threads() threads a block and shared_bytes() of dynamic shared memory.
std::string split_product_helpers(const SplitProduct& product);

}  // namespace kn::cuda
