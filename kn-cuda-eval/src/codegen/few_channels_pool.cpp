#include "codegen/few_channels_pool.h"

#include <algorithm>

#include "codegen/defines.h"
#include "planner/ceil_div.h"

namespace kn::cuda {

namespace {

constexpr int filters_of_block = 64;

int size_of_result(DataType type) { return type == DataType::F32 ? 4 : 2; }

}  // namespace

std::int64_t FewChannelsPool::strip_columns() const {
    if (tiles.columns >= conv.windows.columns) return pool.columns;
    return tiles.columns < pool.width ? 0 : (tiles.columns - pool.width) / pool.stride_x + 1;
}

std::int64_t FewChannelsPool::segments() const {
    return conv.windows.images * ceil_div(pool.rows, tiles.segment_rows) *
           ceil_div(pool.columns, strip_columns());
}

std::int64_t FewChannelsPool::filter_tiles() const { return ceil_div(conv.n, filters_of_block); }

std::int64_t FewChannelsPool::rows_of_segment() const {
    const std::int64_t rows = std::min<std::int64_t>(tiles.segment_rows, pool.rows);
    return std::min(conv.windows.rows, (rows - 1) * pool.stride_y + pool.height);
}

FewChannels FewChannelsPool::banded() const {
    FewChannels result = conv;
    result.tiles = {.groups = tiles.groups,
                    .blocks = 1,
                    .stages = tiles.stages,
                    .filters = filters_of_block,
                    .patch_rows = 1,
                    .patch_columns = tiles.columns / 8,
                    .patch_height = tiles.band_rows};
    return result;
}

std::size_t FewChannelsPool::shared_bytes() const {
    const FewChannels bands = banded();
    const std::int64_t row = tiles.columns * (filters_of_block * size_of_result(y_type) + 16);
    return static_cast<std::size_t>(tiles.groups *
                                        (row + tiles.stages * (bands.band_bytes() + 2 * 8) + 8) +
                                    bands.weight_bytes());
}

FewChannelsPool::Registers FewChannelsPool::registers() const {
    const int sums = tiles.columns / 2;
    const int row = sums * size_of_result(y_type) / 4;
    const auto open =
        static_cast<int>(std::max<std::int64_t>(1, ceil_div(pool.height - 1, pool.stride_y)));
    constexpr int others = 40, fewest = 32, most = 65536, most_of_one = 232, eight = 8;
    const int wanted = sums + open * row + others;
    const int each = std::min(255, most / threads()) / eight * eight;
    // What a kernel is compiled for has to suffice for its products.
    if (wanted > most_of_one || sums + fewest > each) return {};
    if (wanted <= each) return {each, each};
    const int own = static_cast<int>(ceil_div(wanted, eight)) * eight;
    return {own, 2 * each - own};
}

int FewChannelsPool::ahead() const {
    const FewChannels bands = banded();
    const int of_cell = bands.taps() * static_cast<int>(conv.windows.channels);
    constexpr int most_loads = 36, others = 26, places = 4;
    const int room = (registers().loader - others) / (of_cell + places);
    const std::int64_t all = ceil_div(bands.line_bytes() * bands.band_rows(), 16 * 128);
    return static_cast<int>(
        std::clamp<std::int64_t>(std::min({room, most_loads / of_cell, 8}), 1, all));
}

Dim3 FewChannelsPool::grid(int sm_count) const {
    const std::int64_t at_once = std::max<std::int64_t>(1, sm_count / filter_tiles());
    return {static_cast<unsigned>(std::min(segments(), at_once)),
            static_cast<unsigned>(filter_tiles()), 1};
}

std::optional<std::string> FewChannelsPool::why_never() const {
    if (auto why = conv.why_never()) return why;
    // Measured: no faster than apart, as the tensor cores have enough to do.
    if (conv.exact) return "float32 takes three products for one";
    if (conv.n % (16 / size_of_result(y_type)) != 0)
        return "filters do not come by 16 bytes of the result";
    if (pool.rows < 1 || pool.columns < 1) return "there are no windows";
    if (pool.pad_y >= pool.height || pool.pad_x >= pool.width ||
        (pool.rows - 1) * pool.stride_y - pool.pad_y >= conv.windows.rows ||
        (pool.columns - 1) * pool.stride_x - pool.pad_x >= conv.windows.columns)
        return "some windows lie in the padding";
    constexpr std::int64_t most = 4;
    if (ceil_div(pool.height - 1, pool.stride_y) > most)
        return "more windows overlap than a thread can join at a time";
    if (pool.width > 16) return "windows are too wide";
    return std::nullopt;
}

std::optional<std::string> FewChannelsPool::why_not() const {
    if (auto why = why_never()) return why;
    if (tiles.columns < 8 || tiles.columns > 256 || tiles.columns % 8 != 0)
        return "columns of a strip come by eights, up to 256";
    if (strip_columns() < 1) return "a strip is narrower than a window";
    if (tiles.groups < 1 || tiles.groups > 4 || tiles.band_rows < 1 || tiles.segment_rows < 1)
        return "there are no such tiles";
    const FewChannels bands = banded();
    // What the description of a matrix has room for.
    constexpr std::int64_t farthest = (1 << 14) * 16;
    if (bands.band_bytes() >= farthest) return "a band is too large";
    if (segments() > 0x7fffffff) return "it is too large";
    return std::nullopt;
}

std::string few_channels_pool_helpers(const FewChannelsPool& conv) {
    const PoolWindows& pool = conv.pool;
    const FewChannelsPool::Registers registers = conv.registers();
    const Defines constants{
        {"KN_Y_TYPE", conv.y_type == DataType::F16    ? 0
                      : conv.y_type == DataType::BF16 ? 1
                                                      : 2},
        {"KN_POOL_ROWS", pool.rows},
        {"KN_POOL_COLUMNS", pool.columns},
        {"KN_POOL_HEIGHT", pool.height},
        {"KN_POOL_WIDTH", pool.width},
        {"KN_POOL_STRIDE_Y", pool.stride_y},
        {"KN_POOL_STRIDE_X", pool.stride_x},
        {"KN_POOL_PAD_Y", pool.pad_y},
        {"KN_POOL_PAD_X", pool.pad_x},
        {"KN_SEGMENT_ROWS", conv.tiles.segment_rows},
        {"KN_STRIP_COLUMNS", conv.strip_columns()},
        {"KN_AHEAD", conv.ahead()},
        {"KN_LOADER_REGISTERS", registers.own == registers.loader ? 0 : registers.loader},
        {"KN_OWN_REGISTERS", registers.own}};
    return constants.around(
        few_channels_text(conv.banded(), conv.tiles.columns, "few_channels_pool"));
}

}  // namespace kn::cuda
