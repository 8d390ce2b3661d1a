// Source of a convolution whose windows lie one pixel apart, on Hopper's tensor cores.
//
//     y[image, row, column, n] = sum over taps and channels of x[window's pixel, channel] w[...]
//
// A band of the image is copied to shared memory once, however many windows meet its pixels, and
// the weights stay there: for channels and filters of which both fit. See kernels/conv_bands.cu.
#pragma once

#include <optional>
#include <string>

#include <kn/cuda_sys/data_type.h>
#include <kn/cuda_sys/library.h>
#include <kn/cuda_sys/tensor_map.h>

#include "codegen/windows.h"

namespace kn::cuda {

/// How the outputs are shared out. A multiprocessor has one block.
struct BandTiles {
    int groups = 2;             ///< of 128 threads that multiply in turn, a band each
    int stages = 3;             ///< bands in shared memory
    int rows = 1, columns = 0;  ///< outputs of a band
    bool operator==(const BandTiles&) const = default;
};

struct ConvBands {
    DataType type = DataType::F16;  ///< of x, w, y: F16, BF16; F32: its TF32 part counts
    ProductWindows windows;
    std::int64_t n = 0;  ///< filters, a multiple of 8
    BandTiles tiles;

    std::int64_t line() const;    ///< pixels of a line of a band
    std::int64_t lines() const;   ///< of a band
    std::int64_t pixels() const;  ///< columns of products
    std::int64_t plane_cells() const;
    std::int64_t stage_bytes() const;
    std::int64_t weight_bytes() const;
    std::int64_t bytes() const { return static_cast<std::int64_t>(size_of(type)); }
    /// Steps of 32 bytes of channels that a sum takes.
    std::int64_t steps() const;
    std::int64_t bands() const;
    std::int64_t filter_tiles() const;
    /// Whether the copy engine fills bands, 128 bytes of channels a row; else one more group does,
    /// with any number.
    bool by_engine() const { return windows.channels * bytes() % 128 == 0; }
    TensorMapLayout map_x() const;
    int threads() const { return tiles.groups * 128 + (by_engine() ? 32 : 128); }
    /// Sums of a thread.
    std::int64_t sums() const { return pixels() / 2; }
    std::size_t shared_bytes() const;
    Dim3 grid(int sm_count) const;

    /// Why the kernel cannot do this in these tiles, shared memory and registers apart; and in any.
    std::optional<std::string> why_not() const;
    std::optional<std::string> why_never() const;
};

/// The text in front of a kernel that calls kn_product(x, w, finish, give): x has channels
/// innermost, its pixels aligned to 16 bytes, and is a kn_tensor_map where by_engine(); w is dense
/// [filter, kernel row, tap, channel]. finish(image, filter, row, column, sum) gives the result in
/// float, give(image, filter, row, column, chunk) takes 16 bytes of filters of y, from `filter` on.
/// Needs the target sm_90a, threads() threads a block and shared_bytes() of dynamic shared memory.
std::string conv_bands_helpers(const ConvBands& conv);

}  // namespace kn::cuda
