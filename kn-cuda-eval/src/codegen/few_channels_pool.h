// Source of a convolution over few channels with the max pool behind it, on Hopper's tensor cores.
//
//     y[image, row, column, n] = max over a window of f(convolution[image, ..., n])
//
// As codegen/few_channels.h, but that filters are the rows of products and that a group of threads
// walks down a strip of an image, so that the convolution's results never leave it. See
// kernels/few_channels_pool.cu.
#pragma once

#include "codegen/few_channels.h"

namespace kn::cuda {

/// Windows of a max pool over two axes; what lies beyond the convolution's result is in none.
struct PoolWindows {
    std::int64_t rows = 0, columns = 0;  ///< of windows
    std::int64_t height = 1, width = 1;
    std::int64_t stride_y = 1, stride_x = 1, pad_y = 0, pad_x = 0;
};

/// How the windows are shared out. A group of 128 threads takes a segment at a time, which is some
/// rows of a strip's windows. A multiprocessor has one block.
struct FewChannelPoolTiles {
    int groups = 2;        ///< that multiply, each with another one that loads
    int stages = 2;        ///< bands in shared memory, for each group
    int columns = 0;       ///< of a strip of the convolution's result, a multiple of 8
    int band_rows = 4;     ///< of the convolution's result
    int segment_rows = 1;  ///< of windows
    bool operator==(const FewChannelPoolTiles&) const = default;
};

struct FewChannelsPool {
    FewChannels conv;  ///< its lanes and tiles are not used
    PoolWindows pool;
    DataType y_type = DataType::F16;  ///< F16, BF16, F32
    FewChannelPoolTiles tiles;

    std::int64_t strip_columns() const;  ///< of windows
    std::int64_t segments() const;
    std::int64_t filter_tiles() const;
    /// Rows of the convolution's result that a segment in the middle takes.
    std::int64_t rows_of_segment() const;
    /// The convolution with bands as these tiles have them.
    FewChannels banded() const;
    int threads() const { return tiles.groups * 256; }
    std::size_t shared_bytes() const;
    /// Registers of a thread that multiplies and of one that loads; what the first ones lack, the
    /// others give them.
    struct Registers {
        int own = 0, loader = 0;
    };
    Registers registers() const;
    /// Cells that a thread loads together.
    int ahead() const;
    Dim3 grid(int sm_count) const;

    /// Why the kernel cannot do this in these tiles, shared memory and registers apart; and in any.
    std::optional<std::string> why_not() const;
    std::optional<std::string> why_never() const;
};

/// The text in front of a kernel that calls kn_product(pixel, w, finish, give): pixel and w as
/// few_channels_helpers() has them; finish(image, filter, row, column, sum) gives the convolution's
/// result in float, give(image, filter, row, column, chunk) takes 16 bytes of y: as many filters
/// from `filter` on.
std::string few_channels_pool_helpers(const FewChannelsPool& conv);

}  // namespace kn::cuda
