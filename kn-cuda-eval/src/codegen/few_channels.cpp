#include "codegen/few_channels.h"

#include <algorithm>
#include <bit>
#include <numeric>

#include <fmt/core.h>

#include "codegen/defines.h"
#include "codegen/kernel_text.h"
#include "codegen/wgmma.h"
#include "planner/ceil_div.h"

namespace kn::cuda {

namespace {

constexpr std::int64_t cell = 16;  // bytes

}  // namespace

int FewChannels::cell_channels() const {
    return static_cast<int>(std::bit_ceil(static_cast<std::uint64_t>(windows.channels)));
}

int FewChannels::taps() const {
    return static_cast<int>(cell / static_cast<std::int64_t>(size_of(type))) / cell_channels();
}

std::int64_t FewChannels::row_cells() const { return ceil_div(windows.kernel_width, taps()); }

std::int64_t FewChannels::steps() const { return ceil_div(windows.kernel_height * row_cells(), 2); }

// Pixels from cell to cell.
std::int64_t FewChannels::advance() const { return taps() * windows.dilation_x; }

std::int64_t FewChannels::phase_step() const { return std::gcd(advance(), windows.stride_x); }

std::int64_t FewChannels::planes() const {
    std::int64_t last = 0;
    for (std::int64_t i = 0; i < row_cells(); ++i)
        last = std::max(last, i * advance() % windows.stride_x / phase_step());
    return last + 1;
}

std::int64_t FewChannels::plane_cells() const {
    return tiles.patch_columns * 8 + (row_cells() - 1) * advance() / windows.stride_x;
}

std::int64_t FewChannels::band_rows() const {
    return (tiles.patch_rows * tiles.patch_height - 1) * windows.stride_y +
           (windows.kernel_height - 1) * windows.dilation_y + 1;
}

std::int64_t FewChannels::weight_bytes() const {
    return 2 * steps() * tiles.filters * cell * (exact ? 2 : 1);
}

std::size_t FewChannels::shared_bytes() const {
    return static_cast<std::size_t>(tiles.stages * (band_bytes() + 2 * 8) + weight_bytes());
}

std::int64_t FewChannels::bands() const {
    return windows.images * ceil_div(windows.rows, tiles.patch_rows * tiles.patch_height) *
           ceil_div(windows.columns, tiles.patch_columns * 8);
}

std::int64_t FewChannels::filter_tiles() const { return ceil_div(n, tiles.filters); }

int FewChannels::sums() const { return tiles.filters / 2 * (exact ? 2 : 1); }

Dim3 FewChannels::grid(int sm_count) const {
    const std::int64_t at_once =
        std::max<std::int64_t>(1, sm_count * tiles.blocks / filter_tiles());
    return {static_cast<unsigned>(std::min(bands(), at_once)),
            static_cast<unsigned>(filter_tiles()), 1};
}

std::optional<std::string> FewChannels::why_never() const {
    const std::int64_t most = cell / static_cast<std::int64_t>(size_of(type));
    if (windows.channels < 1 || windows.channels > most)
        return fmt::format("{} channels: it is for {} at most", windows.channels, most);
    // Steps are unrolled.
    constexpr std::int64_t most_steps = 64;
    if (steps() > most_steps) return "the kernel is too large";
    if (windows.images * windows.rows * windows.columns < 1 || n < 1)
        return "there is nothing to compute";
    return std::nullopt;
}

std::optional<std::string> FewChannels::why_not() const {
    if (auto why = why_never()) return why;
    // What the description of a matrix has room for.
    constexpr std::int64_t farthest = (1 << 14) * cell;
    if (windows.stride_y * line_bytes() >= farthest || tiles.filters * cell >= farthest ||
        windows.dilation_y * line_bytes() >= farthest)
        return "the rows of a band are too long";
    if (tiles.filters < 8 || tiles.filters > 256 || tiles.filters % 8 != 0)
        return "filters come by eights";
    if (tiles.patch_height != 8) return "patches have eight rows";
    if (tiles.groups > tiles.patch_rows * tiles.patch_columns)
        return "there are fewer patches than groups";
    if (bands() > 0x7fffffff) return "it is too large";
    return std::nullopt;
}

std::string few_channels_text(const FewChannels& conv, int columns, std::string_view behind) {
    const FewChannelTiles& tiles = conv.tiles;
    const Defines constants{{"KN_GROUPS", tiles.groups},
                            {"KN_STAGES", tiles.stages},
                            {"KN_TYPE", conv.type == DataType::F16    ? 0
                                        : conv.type == DataType::BF16 ? 1
                                                                      : 2},
                            {"KN_EXACT", conv.exact},
                            {"KN_BN", tiles.filters},
                            {"KN_N", conv.n},
                            {"KN_LANES", conv.lanes},
                            {"KN_PATCH_HEIGHT", tiles.patch_height},
                            {"KN_PATCH_ROWS", tiles.patch_rows},
                            {"KN_PATCH_COLUMNS", tiles.patch_columns},
                            {"KN_TAPS", conv.taps()},
                            {"KN_CELL_CHANNELS", conv.cell_channels()},
                            {"KN_PHASE_STEP", conv.phase_step()},
                            {"KN_PLANES", conv.planes()},
                            {"KN_PLANE_CELLS", conv.plane_cells()},
                            {"KN_BAND_ROWS", conv.band_rows()},
                            {"KN_IMAGES", conv.windows.images},
                            {"KN_KERNEL_HEIGHT", conv.windows.kernel_height}};
    std::string text(kernel_text("hopper"));
    text += kernel_text("pipeline");
    text += window_constants(conv.windows);
    text += wgmma_function({.type = conv.type, .columns = columns});
    text += kernel_text("conv_few_channels");
    text += "\n";
    text += kernel_text(behind);
    return constants.around(text);
}

std::string few_channels_helpers(const FewChannels& conv) {
    return few_channels_text(conv, conv.tiles.filters, "few_channels_outputs");
}

}  // namespace kn::cuda
