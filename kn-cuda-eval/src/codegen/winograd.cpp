#include "codegen/winograd.h"

#include "codegen/defines.h"
#include "codegen/kernel_text.h"
#include "codegen/wgmma.h"
#include "planner/ceil_div.h"

namespace kn::cuda {

namespace {

constexpr int kPatches = 8;      // of a tile: warps of two groups
constexpr int kPixelStages = 2;  // of 64 channels
constexpr int kSlab = 64;        // channels

Patches required_patches(const TensorProduct& product) {
    return patches_of(*product.windows).value();
}

int pixel_stage_bytes(const Patches& patches) {
    // A border of one pixel comes behind the last line.
    const int bytes = (patches.box_width * patches.box_height * patches.images + 1) * 128;
    return (bytes + 1023) / 1024 * 1024;
}

int weight_stage_bytes(const ProductTiles& tiles) { return 2 * tiles.columns * 128; }

}  // namespace

std::optional<Patches> patches_of(const ProductWindows& windows) {
    if (windows.columns % 8 != 0 || windows.rows % 4 != 0) return std::nullopt;
    const std::int64_t all_across = windows.columns / 8, all_down = windows.rows / 4;
    std::optional<Patches> best;
    for (int across = 1; across <= kPatches; across *= 2)
        for (int down = 1; across * down <= kPatches; down *= 2) {
            if (all_across % across != 0 || all_down % down != 0) continue;
            Patches patches{across, down, kPatches / (across * down)};
            const bool whole = across == all_across && down == all_down;
            if (patches.images > 1 && !whole) continue;
            // An odd width; the border behind a whole line is the next one's.
            patches.box_width = 8 * across + (across == all_across ? 1 : 3);
            patches.box_height = 4 * down + 2;
            if (!best || pixel_stage_bytes(patches) < pixel_stage_bytes(*best)) best = patches;
        }
    return best;
}

std::optional<std::string> why_no_winograd(const TensorProduct& product) {
    const ProductTiles& tiles = product.tiles;
    if (!product.may_filter) return "minimal filtering is not to be taken";
    if (!product.windows) return "it is no convolution of windows";
    const ProductWindows& w = *product.windows;
    if (w.kernel_height != 3 || w.kernel_width != 3 || w.stride_y != 1 || w.stride_x != 1 ||
        w.dilation_y != 1 || w.dilation_x != 1)
        return "minimal filtering is for windows of 3x3 pixels, one pixel apart";
    if (w.pad_y != 1 || w.pad_x != 1 || w.rows != w.height || w.columns != w.width)
        return "minimal filtering is for results of the image's size";
    if (product.type != DataType::F16) return "minimal filtering would show in other types' errors";
    if (product.also || product.squeeze || product.halves != 1 || product.partner > 0 ||
        product.statistics != RowStatistics::None || product.gives_rows())
        return "minimal filtering gives its sums to simple epilogues";
    if (w.channels % 8 != 0) return "the channels are no multiple of 8";
    if (!patches_of(w)) return "the image is not cut into whole patches of 8x4";
    if (tiles.rows != 256 || tiles.groups != 2 || tiles.blocks != 1 || tiles.share_w != 1 ||
        tiles.turns || tiles.columns > 80 || tiles.columns % 16 != 0)
        return "tiles of minimal filtering are of 256 rows and at most 80 columns";
    if (tiles.staged && (tiles.columns != product.panel() || product.y_bytes != 2))
        return "patches that are staged have 64 columns of a half type";
    return std::nullopt;
}

TensorMapLayout winograd_map_x(const TensorProduct& product) {
    const ProductWindows& w = *product.windows;
    const Patches patches = required_patches(product);
    const auto bytes = static_cast<std::int64_t>(size_of(product.type));
    TensorMapLayout map;
    map.type = product.type;
    map.sizes = {w.channels, w.width, w.height, w.images};
    map.strides = {w.pixel_stride * bytes, w.line_stride * bytes, w.image_stride * bytes};
    map.box = {kSlab, patches.box_width, patches.box_height, patches.images};
    return map;
}

TensorMapLayout winograd_map_w(const TensorProduct& product) {
    const std::int64_t groups = ceil_div(product.windows->channels, kSlab) * 12;
    TensorMapLayout map;
    map.type = product.type;
    map.sizes = {kSlab, groups, product.n};
    map.strides = {128, 128 * groups};
    map.box = {kSlab, 1, product.tiles.columns};
    return map;
}

TensorMapLayout winograd_map_y(const TensorProduct& product, DataType type, std::int64_t stride) {
    const ProductWindows& w = *product.windows;
    const std::int64_t pixel = stride * static_cast<std::int64_t>(size_of(type));
    TensorMapLayout map;
    map.type = type;
    map.sizes = {product.n, w.rows, w.columns / 4, 4, w.images};
    map.strides = {w.columns * pixel, 4 * pixel, pixel, w.rows * w.columns * pixel};
    map.box = {kSlab, 4, 2, 4, 1};
    return map;
}

int winograd_stages_bytes(const TensorProduct& product) {
    return kPixelStages * pixel_stage_bytes(required_patches(product)) +
           product.tiles.stages * weight_stage_bytes(product.tiles);
}

int winograd_barriers_bytes(const TensorProduct& product) {
    const bool own = product.tiles.staged && product.before;
    return (2 * (kPixelStages + product.tiles.stages) + (own ? kPatches : 0)) * 8;
}

std::string winograd_text(const TensorProduct& product) {
    const Patches patches = required_patches(product);
    const auto shared = static_cast<std::int64_t>(product.shared_bytes());
    const Defines constants{{"KN_CHANNEL_SLABS", ceil_div(product.windows->channels, kSlab)},
                            {"KN_PATCHES_X", patches.across},
                            {"KN_PATCHES_Y", patches.down},
                            {"KN_PATCH_IMAGES", patches.images},
                            {"KN_BOX_WIDTH", patches.box_width},
                            {"KN_BOX_HEIGHT", patches.box_height},
                            {"KN_BARRIERS_AT", shared - winograd_barriers_bytes(product)}};
    const std::string wgmma = wgmma_function(
        {.type = product.type, .columns = product.tiles.columns, .rows_in_registers = true});
    return wgmma + constants.around(std::string(kernel_text("winograd")));
}

}  // namespace kn::cuda
