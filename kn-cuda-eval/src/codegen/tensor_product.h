// Source of a matrix product or a convolution on Hopper's tensor cores, with an epilogue of our
// own.
//
//     y[m, n] = sum over k of x[m, k] w[n, k]
//
// Rows of x are contiguous in k, and so are the rows of w. For a convolution, row m is the window
// of output position m in an image with channels innermost, and k runs over (kernel row, kernel
// column, channel).
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <kn/cuda_sys/library.h>
#include <kn/graph/dtype.h>

namespace kn::cuda {

/// How two-dimensional windows lie in x; strides in elements, those of x's axes but channels, which
/// are dense.
struct ProductWindows {
    std::int64_t channels = 0;
    std::int64_t height = 0, width = 0;  ///< of the image
    std::int64_t rows = 0, columns = 0;  ///< of output positions
    std::int64_t kernel_width = 1;
    std::int64_t stride_y = 1, stride_x = 1, pad_y = 0, pad_x = 0, dilation_y = 1, dilation_x = 1;
    std::int64_t image_stride = 0, line_stride = 0, pixel_stride = 0;
};

struct TensorProduct {
    enum class Arithmetic {
        F16,
        BF16,
        TF32,
        Split,  ///< float32 by three TF32 products, as exact as float32 sums
    };
    Arithmetic arithmetic = Arithmetic::F16;
    std::int64_t m = 0, n = 0, k = 0;
    std::int64_t row_stride = 0;     ///< of x, in elements, where there are no windows
    std::int64_t column_stride = 0;  ///< between rows of w
    std::optional<ProductWindows> windows;
    int tile_rows = 128;     ///< 64 a group of 128 threads: 64, 128, 192, 256
    int tile_columns = 128;  ///< 8 to 256, by 8
    int stages = 3;          ///< of 128 bytes of k in flight
    int blocks = 2;          ///< on a multiprocessor, as the register count allows

    std::int64_t element_bytes() const;
    /// Elements of k that are copied at once.
    std::int64_t slab() const { return 128 / element_bytes(); }
    /// Between rows of the tile in shared memory that the epilogue reads, in floats.
    int pitch() const { return tile_columns + 4; }
    int threads() const { return tile_rows * 2; }
    std::size_t shared_bytes() const;
    Dim3 grid() const;

    /// Why the kernel cannot do this; addresses are 16-byte aligned.
    std::optional<std::string> why_not() const;
};

/// The text in front of a kernel that calls kn_product_tile(x, w, row0, column0), which gives the
/// finished tile as float [tile_rows][pitch] in shared memory; rows and columns beyond m and n are
/// the caller's to leave out. x and w are of float, or unsigned short for half types. Needs the
/// target sm_90a, threads() threads a block and shared_bytes() of dynamic shared memory.
std::string tensor_product_helpers(const TensorProduct& product);

}  // namespace kn::cuda
