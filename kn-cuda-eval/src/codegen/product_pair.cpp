#include "codegen/product_pair.h"

#include <algorithm>

#include <fmt/core.h>

#include "codegen/defines.h"
#include "codegen/kernel_text.h"
#include "codegen/wgmma.h"
#include "planner/ceil_div.h"

namespace kn::cuda {

namespace {

constexpr std::int64_t panel_bytes = 64 * 128;  // of a tile's rows

std::int64_t own_slabs(const ProductPair& pair) { return ceil_div(pair.k, pair.panel()); }

std::int64_t slabs(const ProductPair& pair) {
    return own_slabs(pair) + ceil_div(pair.k_also, pair.panel());
}

}  // namespace

std::string to_string(const PairTiles& tiles) {
    return fmt::format("{} group{} of {} columns, {} + {}{} stages{}", tiles.groups,
                       tiles.groups == 1 ? "" : "s", tiles.columns, tiles.x_stages, tiles.y_stages,
                       tiles.z_stages > 0 ? fmt::format(" + {}", tiles.z_stages) : std::string(),
                       tiles.streamed ? ", weights streamed" : "");
}

std::size_t ProductPair::shared_bytes() const {
    const std::int64_t weights = slabs(*this) * n * 128 + n * n2 * bytes();
    if (tiles.streamed) {
        const std::int64_t x_panels =
            tiles.z_stages > 0 ? slabs(*this) : std::max(slabs(*this), n2 / panel());
        const std::int64_t x = x_panels * tile_rows() * 128;
        const std::int64_t z = tiles.z_stages * tile_rows() * 128;
        const std::int64_t y = tile_rows() * tiles.columns * bytes();
        const std::int64_t stage = y + weights / (n / tiles.columns);
        return static_cast<std::size_t>(tiles.x_stages * x + z + tiles.y_stages * stage +
                                        2 * (tiles.x_stages + tiles.y_stages) * 8);
    }
    const std::int64_t x = tiles.x_stages * slabs(*this) * tile_rows() * 128;
    const std::int64_t y = tiles.y_stages * std::max(n, n2) / panel() * panel_bytes;
    const std::int64_t barriers = (1 + 2 * tiles.x_stages + 2 * tiles.y_stages + tiles.groups) * 8;
    return static_cast<std::size_t>(weights + x + y + barriers);
}

Dim3 ProductPair::grid(int sm_count) const {
    return {static_cast<unsigned>(std::min<std::int64_t>(row_tiles(), sm_count)), 1, 1};
}

TensorMapLayout ProductPair::rows(std::int64_t columns, std::int64_t count,
                                  std::int64_t stride) const {
    TensorMapLayout map;
    map.type = type;
    map.sizes = {columns, count};
    map.strides = {stride * bytes()};
    map.box = {static_cast<int>(panel()), 64};
    return map;
}

TensorMapLayout ProductPair::weights(std::int64_t terms) const {
    TensorMapLayout map = rows(terms, n, terms);
    if (tiles.streamed) map.box[1] = std::min(tiles.columns, 64);
    return map;
}

std::optional<std::string> ProductPair::why_not(const DeviceProperties& device) const {
    if (m < 1 || k < 1 || n < 1 || n2 < 1) return "there is nothing to multiply";
    const bool half = type == DataType::F16 || type == DataType::BF16;
    if (!half && (type != DataType::F32 || !tiles.streamed))
        return "both weights and the rows in flight do not fit in shared memory";
    // Boxes of weights are 64 of them.
    if (n % 64 != 0 || n2 % 64 != 0 || n2 > 256)
        return fmt::format("{} and {} columns are not up to 256 by 64", n, n2);
    const std::int64_t least = tiles.streamed ? panel() : 64;
    if (tiles.columns % least != 0 || (tiles.columns > 64 && tiles.columns % 64 != 0) ||
        tiles.columns > 256 || n % tiles.columns != 0)
        return fmt::format("{} columns at once do not make {}", tiles.columns, n);
    // Every group holds a tile of both; streamed, the columns before stay until the next are made.
    if (tiles.x_stages < 1 || tiles.y_stages < (tiles.streamed ? 2 : tiles.groups))
        return fmt::format("{} groups lack stages", tiles.groups);
    if (tiles.z_stages > 0 && (!tiles.streamed || n2 / panel() % tiles.z_stages != 0))
        return "panels of z do not come round";
    if (shared_bytes() > device.shared_per_block_optin)
        return "both weights and the rows in flight do not fit in shared memory";
    for (const TensorMapLayout& map : {map_x(), map_w(), map_w2()})
        if (auto why = map.why_not()) return why;
    if (k_also > 0)
        for (const TensorMapLayout& map : {map_x_also(), map_w_also()})
            if (auto why = map.why_not()) return why;
    return std::nullopt;
}

std::string product_pair_helpers(const ProductPair& pair) {
    const Defines constants{{"KN_M", pair.m},
                            {"KN_N", pair.n},
                            {"KN_N2", pair.n2},
                            {"KN_SLABS", slabs(pair)},
                            {"KN_OWN_SLABS", own_slabs(pair)},
                            {"KN_COLUMNS", pair.tiles.columns},
                            {"KN_GROUPS", pair.tiles.groups},
                            {"KN_X_STAGES", pair.tiles.x_stages},
                            {"KN_Y_STAGES", pair.tiles.y_stages},
                            {"KN_Z_STAGES", pair.tiles.z_stages},
                            {"KN_Y_BYTES", pair.bytes()},
                            {"KN_BEFORE", pair.before},
                            {"KN_KEEP", pair.keep}};
    std::string text(kernel_text("hopper"));
    text += kernel_text("pipeline");
    text += wgmma_function({"kn_first", pair.type, pair.tiles.columns});
    text += wgmma_function({"kn_second", pair.type, static_cast<int>(pair.n2)});
    text += kernel_text("staged_pairs");
    text += kernel_text(pair.tiles.streamed ? "product_pair_streamed" : "product_pair");
    return constants.around(text);
}

}  // namespace kn::cuda
