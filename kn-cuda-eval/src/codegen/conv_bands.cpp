#include "codegen/conv_bands.h"

#include <algorithm>

#include <fmt/core.h>

#include "codegen/defines.h"
#include "codegen/kernel_text.h"
#include "codegen/wgmma.h"
#include "planner/ceil_div.h"

namespace kn::cuda {

namespace {

constexpr std::int64_t cell = 16;  // bytes: some channels of a pixel, or some filters
constexpr std::int64_t filters_of_block = 64;

}  // namespace

std::int64_t ConvBands::line() const {
    return tiles.columns + (windows.kernel_width - 1) * windows.dilation_x;
}

std::int64_t ConvBands::lines() const {
    return tiles.rows + (windows.kernel_height - 1) * windows.dilation_y;
}

std::int64_t ConvBands::pixels() const {
    return ceil_div((tiles.rows - 1) * line() + tiles.columns, 8) * 8;
}

// As many as products reach, and one more than a multiple of eight, so that planes lie in other
// banks.
std::int64_t ConvBands::plane_cells() const {
    const std::int64_t reach = (windows.kernel_height - 1) * windows.dilation_y * line() +
                               (windows.kernel_width - 1) * windows.dilation_x + pixels();
    return by_engine() ? ceil_div(reach, 8) * 8 : ceil_div(reach - 1, 8) * 8 + 1;
}

// Results take a chunk more for each pixel, so that neighbours lie in other banks.
std::int64_t ConvBands::stage_bytes() const {
    const std::int64_t results = pixels() * (filters_of_block * bytes() + cell);
    return ceil_div(std::max(windows.channels * bytes() * plane_cells(), results), 1024) * 1024;
}

std::int64_t ConvBands::weight_bytes() const { return 2 * steps() * (filters_of_block + 1) * cell; }

std::int64_t ConvBands::steps() const {
    return windows.kernel_height * windows.kernel_width * (windows.channels * bytes() / 32);
}

std::int64_t ConvBands::bands() const {
    return windows.images * ceil_div(windows.rows, tiles.rows) *
           ceil_div(windows.columns, tiles.columns);
}

std::int64_t ConvBands::filter_tiles() const { return ceil_div(n, filters_of_block); }

std::size_t ConvBands::shared_bytes() const {
    return static_cast<std::size_t>(tiles.stages * (stage_bytes() + 2 * 8) + weight_bytes() +
                                    tiles.groups * 8);
}

TensorMapLayout ConvBands::map_x() const {
    TensorMapLayout map;
    map.type = type;
    map.sizes = {windows.channels, windows.width, windows.height, windows.images};
    map.strides = {windows.pixel_stride * bytes(), windows.line_stride * bytes(),
                   windows.image_stride * bytes()};
    map.box = {static_cast<int>(128 / bytes()), static_cast<int>(line()), static_cast<int>(lines()),
               1};
    return map;
}

Dim3 ConvBands::grid(int sm_count) const {
    const std::int64_t at_once = std::max<std::int64_t>(1, sm_count / filter_tiles());
    return {static_cast<unsigned>(std::min(bands(), at_once)),
            static_cast<unsigned>(filter_tiles()), 1};
}

std::optional<std::string> ConvBands::why_never() const {
    const std::int64_t of_step = 32 / bytes();
    if (windows.channels < of_step || windows.channels % of_step != 0)
        return fmt::format("{} channels are no multiple of {}", windows.channels, of_step);
    if (n < 8 || n % 8 != 0) return fmt::format("{} filters are no multiple of 8", n);
    if (windows.stride_y != 1 || windows.stride_x != 1) return "its windows are further apart";
    // Steps are unrolled.
    constexpr std::int64_t most_steps = 128;
    if (steps() > most_steps) return "the kernel is too large";
    if (windows.images * windows.rows * windows.columns < 1) return "there is nothing to compute";
    return std::nullopt;
}

std::optional<std::string> ConvBands::why_not() const {
    if (auto why = why_never()) return why;
    if (tiles.columns < 1 || tiles.rows < 1 || pixels() > 256)
        return "a product has 256 columns at most";
    // What the copy engine takes at once.
    if (line() > 256 || lines() > 256) return "the lines of a band are too long or too many";
    if (tiles.stages < tiles.groups) return "there are fewer bands than groups";
    // What the description of a matrix has room for.
    constexpr std::int64_t farthest = (1 << 14) * cell;
    if (plane_cells() * cell >= farthest) return "a band is too large";
    if (bands() > 0x7fffffff) return "it is too large";
    return std::nullopt;
}

std::string conv_bands_helpers(const ConvBands& conv) {
    const BandTiles& tiles = conv.tiles;
    const Defines constants{{"KN_GROUPS", tiles.groups},
                            {"KN_STAGES", tiles.stages},
                            {"KN_SWIZZLED", conv.by_engine()},
                            {"KN_TYPE", conv.type == DataType::F16    ? 0
                                        : conv.type == DataType::BF16 ? 1
                                                                      : 2},
                            {"KN_N", conv.n},
                            {"KN_IMAGES", conv.windows.images},
                            {"KN_KERNEL_HEIGHT", conv.windows.kernel_height},
                            {"KN_ROWS", tiles.rows},
                            {"KN_COLUMNS", tiles.columns},
                            {"KN_PIXELS", conv.pixels()},
                            {"KN_PLANE_CELLS", conv.plane_cells()},
                            {"KN_STAGE_BYTES", conv.stage_bytes()}};
    std::string text(kernel_text("hopper"));
    text += kernel_text("pipeline");
    text += window_constants(conv.windows);
    text += wgmma_function({.type = conv.type, .columns = static_cast<int>(conv.pixels())});
    text += kernel_text("conv_bands");
    return constants.around(text);
}

}  // namespace kn::cuda
