// Source of a convolution over few channels on Hopper's tensor cores.
//
//     y[image, row, column, n] = sum over taps and channels of x[window's pixel, channel] w[...]
//
// The kernel reads pixels one by one, so that x may be any tensor, or what is computed from one;
// results are handed out as rows of output positions, channels innermost. See
// kernels/conv_few_channels.cu for how bands of the image lie in shared memory.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <kn/cuda_sys/data_type.h>
#include <kn/cuda_sys/library.h>

#include "codegen/windows.h"

namespace kn::cuda {

/// How the outputs are shared out. A band is patch_rows by patch_columns patches of 8 columns.
struct FewChannelTiles {
    int groups = 2;   ///< of 128 threads, which take a patch each at a time
    int blocks = 2;   ///< on a multiprocessor
    int stages = 2;   ///< bands in shared memory
    int filters = 0;  ///< of a block, a multiple of 8
    int patch_rows = 1, patch_columns = 1;
    int patch_height = 8;  ///< 8, where products take patches
    bool operator==(const FewChannelTiles&) const = default;
};

struct FewChannels {
    DataType type = DataType::F16;  ///< F16, BF16; F32: rounded to TF32
    bool exact = false;             ///< F32 as exact as by multiply-adds: three products for one
    ProductWindows windows;         ///< strides are not used
    std::int64_t n = 0;             ///< filters
    int lanes = 1;                  ///< neighbouring filters that the epilogue takes: 1, 2, 4, 8
    FewChannelTiles tiles;

    /// Channels and taps of a cell of 16 bytes.
    int cell_channels() const;
    int taps() const;
    /// Steps of two cells that a sum takes.
    std::int64_t steps() const;
    std::int64_t planes() const;
    /// Of a band: cells of a row of a plane, rows of the image.
    std::int64_t plane_cells() const;
    std::int64_t band_rows() const;
    std::int64_t line_bytes() const { return planes() * plane_cells() * 16; }
    std::int64_t band_bytes() const { return band_rows() * line_bytes() * (exact ? 2 : 1); }
    std::int64_t weight_bytes() const;

    /// One group more fills bands.
    int threads() const { return (tiles.groups + 1) * 128; }
    std::size_t shared_bytes() const;
    std::int64_t bands() const;
    std::int64_t filter_tiles() const;
    /// Sums of a thread.
    int sums() const;
    Dim3 grid(int sm_count) const;

    /// Why the kernel cannot do this in these tiles, shared memory and registers apart; and in any.
    std::optional<std::string> why_not() const;
    std::optional<std::string> why_never() const;

  private:
    std::int64_t row_cells() const;
    std::int64_t advance() const;
    std::int64_t phase_step() const;
    friend std::string few_channels_text(const FewChannels&, int, std::string_view);
};

/// The text in front of a kernel that calls kn_product(pixel, w, touch, store):
/// pixel(image, row, column, channels) sets float (&channels)[windows.channels], store is called as
/// for a TensorProduct. w is dense [kernel row, tap, channel, filter]. Needs the target sm_90a,
/// threads() threads a block and shared_bytes() of dynamic shared memory.
///
/// Where a cell has more taps than are left of a kernel's row, the pixel beside the window is
/// multiplied by zero: an infinity or NaN there becomes a NaN of y.
std::string few_channels_helpers(const FewChannels& conv);

/// What kernels over such bands have in common, for products of so many columns, and the text of
/// src/kernels behind it that says what becomes of sums.
std::string few_channels_text(const FewChannels& conv, int columns, std::string_view behind);

}  // namespace kn::cuda
