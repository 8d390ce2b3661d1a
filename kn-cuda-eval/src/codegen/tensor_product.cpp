#include "codegen/tensor_product.h"

#include <algorithm>
#include <numeric>

#include <fmt/core.h>

#include "codegen/defines.h"
#include "codegen/kernel_text.h"
#include "codegen/wgmma.h"
#include "codegen/winograd.h"
#include "planner/ceil_div.h"

namespace kn::cuda {

namespace {

std::int64_t taps(const TensorProduct& product) {
    return product.windows ? product.windows->kernel_height * product.windows->kernel_width : 1;
}

std::int64_t channels(const TensorProduct& product) { return product.k / taps(product); }

std::int64_t channel_slabs(const TensorProduct& product) {
    return (channels(product) + product.slab() - 1) / product.slab();
}

std::int64_t also_slabs(const TensorProduct& product) {
    return product.also ? ceil_div(product.also->channels, product.slab()) : 0;
}

std::int64_t element_bytes(const TensorProduct& product) {
    return static_cast<std::int64_t>(size_of(product.type));
}

constexpr int kBox = 64;  // rows and terms of small products' weights that are copied at once

/// Why the weights of small products cannot follow the slabs of a tile.
std::optional<std::string> why_not_through_stages(const TensorProduct& product) {
    const ProductSqueeze& squeeze = *product.squeeze;
    const ProductTiles& tiles = product.tiles;
    const int boxes_a_slab = (tiles.rows + tiles.columns) / kBox;
    const std::int64_t hidden = ceil_div(squeeze.hidden, kBox), terms = tiles.columns / kBox;
    const auto units = static_cast<std::int64_t>(squeeze.shifts.size());
    const std::int64_t first = hidden * terms, all = first * (1 + units);
    if (ceil_div(first, boxes_a_slab) > tiles.stages ||
        ceil_div(all, boxes_a_slab) - first / boxes_a_slab > tiles.stages)
        return "the small products' weights are more than the stages hold";
    return std::nullopt;
}

std::string element_and_shifts(const TensorProduct& product) {
    const auto& shifts = product.squeeze->shifts;
    std::string shift = std::to_string(shifts.back());
    for (std::size_t u = shifts.size() - 1; u-- > 0;)
        shift = fmt::format("unit == {} ? {} : {}", u, shifts[u], shift);
    return fmt::format(
        "using kn_element = {};\nKN_DEVICE constexpr int kn_shift(int unit) {{ return {}; }}\n",
        product.type == DataType::F16 ? "kn_half" : "kn_bf16", shift);
}

// Columns of y that a block gives away at once, at most, and what their number is a multiple of.
int given_columns(const ProductTiles& tiles) {
    return (tiles.columns / 8 + tiles.splits - 1) / tiles.splits * 8;
}

int columns_in_common(const ProductTiles& tiles) {
    return tiles.columns / 8 % tiles.splits == 0 ? given_columns(tiles) : 8;
}

// Columns of which a warp notes statistics together: neighbours that a thread takes at once, as far
// as parts are whole numbers of them.
int part_item(const TensorProduct& product) {
    const int columns = product.part_columns();
    if (product.tiles.splits > 1 || product.tiles.winograd) return 2;
    return std::gcd(columns, product.lanes);
}

// Of shared memory in which a warp notes statistics of its rows.
int part_bytes(const TensorProduct& product) {
    if (product.norm_rows == 0 || product.gives_rows() || product.why_no_parts()) return 0;
    return product.tiles.group_rows() / product.part_rows() * given_columns(product.tiles) /
           part_item(product) * 8;
}

std::string column_parts(const TensorProduct& product) {
    const Defines constants{
        {"KN_PART_COLUMNS", product.part_columns()},
        {"KN_PART_PIECES", product.part_rows() / 64},
        {"KN_PART_ITEM", part_item(product)},
        {"KN_PART_UNITS", given_columns(product.tiles) / product.part_columns()}};
    return constants.around(std::string(kernel_text("column_parts")));
}

// From the last window's place to the image's last pixel.
int window_end(std::int64_t pad, std::int64_t windows, std::int64_t stride, std::int64_t size) {
    return static_cast<int>((windows - 1) * stride - pad - (size - 1));
}

}  // namespace

std::int64_t TensorProduct::slab() const { return 128 / element_bytes(*this); }

std::int64_t TensorProduct::slabs() const {
    return taps(*this) * channel_slabs(*this) + also_slabs(*this);
}

std::size_t TensorProduct::shared_bytes() const {
    const int ring = tiles.winograd
                         ? winograd_stages_bytes(*this)
                         : tiles.stages * (tiles.rows + tiles.columns * (exact ? 2 : 1)) * 128;
    const int barriers = tiles.winograd ? winograd_barriers_bytes(*this)
                                        : (2 * tiles.stages + (tiles.turns ? tiles.groups : 0)) * 8;
    if (tiles.splits > 1) {
        // The tile's sums, and what warps hand out (epilogue_cluster.cu).
        const int pitch = (given_columns(tiles) + 23) / 32 * 32 + 8;
        const int hands = tiles.groups * 4 * (16 * pitch * 4 + part_bytes(*this));
        return static_cast<std::size_t>(std::max(ring, tiles.rows * tiles.columns * 4 + hands) +
                                        barriers);
    }
    // What the epilogue has for each warp, which takes 16 rows at a time, or 8 of four bytes.
    const int strips = squeeze ? 1 : before || tiles.group_rows() > 64 || y_bytes == 4 ? 2 : 1;
    const bool has_barriers = !tiles.winograd && (before || beside() > 1);
    const int own = tiles.staged ? strips * 32 * tiles.columns / halves + (has_barriers ? 16 : 0)
                                 : 16 * tiles.chunk * 4 + part_bytes(*this);
    const int columns = statistics == RowStatistics::Variance
                            ? (tiles.groups * tiles.columns * 8 + 1023) / 1024 * 1024
                            : 0;
    return static_cast<std::size_t>(ring + columns + barriers + tiles.groups * 4 * own +
                                    (squeeze ? squeeze->bytes : 0));
}

int TensorProduct::part_rows() const {
    if (gives_rows()) return 1;
    return norm_rows % tiles.group_rows() == 0 ? tiles.group_rows() : 64;
}

int TensorProduct::part_columns() const {
    if (gives_rows()) return tiles.columns;
    return static_cast<int>(std::gcd(norm_columns, columns_in_common(tiles)));
}

std::optional<std::string> TensorProduct::why_no_parts() const {
    if (tiles.staged) return "results go through shared memory by the copy engine";
    if (statistics != RowStatistics::None) return "rows of x are normalised";
    if (lanes < 2) return "rows of y are not aligned";
    if (gives_rows()) {
        if (tiles.splits > 1) return "several blocks have a tile";
        if (n % tiles.columns != 0) return "tiles have different numbers of columns";
        if (n > most_parts * tiles.columns) return "a row would be in too many parts";
        return std::nullopt;
    }
    if (norm_rows % 64 != 0 || m % norm_rows != 0) return "images are no multiple of 64 positions";
    if (tiles.winograd && norm_rows % tiles.rows != 0) return "a tile has several images";
    if (part_columns() % 2 != 0) return "groups of an odd number of channels";
    return std::nullopt;
}

Dim3 TensorProduct::grid(int sm_count) const {
    const std::int64_t count = ceil_div(m, tiles.rows * tiles.share_w) * ceil_div(n, tiles.columns);
    if (beside() > 1) return {static_cast<unsigned>(count), 1, 1};
    const int most = sm_count * tiles.blocks / cluster();
    const std::int64_t clusters = tiles.splits > 1 ? count : std::min<std::int64_t>(count, most);
    return {static_cast<unsigned>(clusters * cluster()), 1, 1};
}

TensorMapLayout TensorProduct::map_x() const {
    if (tiles.winograd) return winograd_map_x(*this);
    if (windows) return map_of(*windows);
    TensorMapLayout map;
    map.type = type;
    map.sizes = {k, m};
    map.strides = {row_stride * element_bytes(*this)};
    map.box = {static_cast<int>(slab()), tiles.rows};
    return map;
}

TensorMapLayout TensorProduct::map_x_also() const { return map_of(*also); }

TensorMapLayout TensorProduct::map_of(const ProductWindows& w) const {
    TensorMapLayout map;
    map.type = type;
    const std::int64_t bytes = element_bytes(*this);
    map.sizes = {w.channels, w.width, w.height, w.images};
    map.strides = {w.pixel_stride * bytes, w.line_stride * bytes, w.image_stride * bytes};
    TensorMapLayout::Windows places;
    places.channels = static_cast<int>(slab());
    places.positions = tiles.rows;
    places.begin = {static_cast<int>(-w.pad_x), static_cast<int>(-w.pad_y)};
    places.end = {window_end(w.pad_x, w.columns, w.stride_x, w.width),
                  window_end(w.pad_y, w.rows, w.stride_y, w.height)};
    places.stride = {static_cast<int>(w.stride_x), static_cast<int>(w.stride_y)};
    map.windows = places;
    return map;
}

TensorMapLayout TensorProduct::map_w() const {
    return tiles.winograd ? winograd_map_w(*this) : map_of(channels(*this), taps(*this));
}

TensorMapLayout TensorProduct::map_w_also() const { return map_of(also->channels, 1); }

TensorMapLayout TensorProduct::map_of(std::int64_t channels, std::int64_t taps) const {
    const std::int64_t row = channels * element_bytes(*this);
    TensorMapLayout map;
    map.type = type;
    map.sizes = {channels, taps, n};
    map.strides = {row, row * taps};
    map.box = {static_cast<int>(slab()), 1, tiles.columns / halves / tiles.share_w};
    return map;
}

TensorMapLayout TensorProduct::map_y(DataType y, std::int64_t stride) const {
    if (tiles.winograd) return winograd_map_y(*this, y, stride);
    return map_y(y, stride, n / halves);
}

TensorMapLayout TensorProduct::map_y(DataType y, std::int64_t stride, std::int64_t columns) const {
    TensorMapLayout map;
    map.type = y;
    map.sizes = {columns, m};
    map.strides = {stride * static_cast<std::int64_t>(size_of(y))};
    map.box = {panel(), 32 / y_bytes};
    return map;
}

TensorMapLayout TensorProduct::map_small(std::int64_t columns, std::int64_t terms) const {
    TensorMapLayout map;
    map.type = type;
    map.sizes = {terms, columns};
    map.strides = {terms * element_bytes(*this)};
    map.box = {kBox, kBox};
    return map;
}

std::optional<std::string> TensorProduct::why_not() const {
    if (m < 1 || n < 1 || k < 1) return "there is nothing to multiply";
    if (tiles.winograd)
        if (auto why = why_no_winograd(*this)) return why;
    if (exact && (type != DataType::F32 || tiles.group_rows() != 64))
        return "exact products are of float32, 64 rows a group";
    if (tiles.splits > 8 || tiles.splits * 8 > tiles.columns)
        return "k is shared out to at most 8 blocks, each with eight columns";
    if (tiles.turns && (exact || tiles.splits > 1)) return "turns are for whole tiles, not exact";
    if (tiles.staged && (tiles.columns % (panel() * halves) != 0 || tiles.splits > 1 || lanes != 2))
        return "staged results are panels of 128 bytes a row, by one block, two at once";
    if (partner > 0) {
        if (!tiles.staged || y_bytes != 2 || halves != 1 || before || squeeze)
            return "columns meet in staged results of two bytes alone";
        if (partner > 1 && partner < 8) return "columns that meet are in different threads";
        if (tiles.columns % (2 * partner) != 0) return "columns that meet are in different tiles";
    }
    if (halves == 2 && (!tiles.staged || n % 4 != 0))
        return "halves of an even number of columns meet in staged results";
    if (squeeze) {
        const int image_rows = squeeze->image_rows;
        if (!tiles.staged || tiles.turns || halves != 1 || y_bytes != 2 || tiles.group_rows() != 64)
            return "images change in staged results of two bytes, 64 rows a group";
        if (tiles.columns * beside() != n || tiles.rows % image_rows != 0 || m % tiles.rows != 0)
            return "tiles are whole images with all their channels";
        if (64 % image_rows != 0 || image_rows % 16 != 0)
            return fmt::format("images of {} positions are not 16, 32 or 64", image_rows);
        if (const auto why = why_not_through_stages(*this)) return why;
    }
    if (statistics != RowStatistics::None) {
        if (windows || element_bytes(*this) != 2)
            return "rows that are normalised are of a half type, and no windows";
        if (tiles.splits > 1) return "a block takes the statistics of whole rows";
        if (given_parts > most_parts ||
            (given_parts > 0 && (k % given_parts != 0 || statistics != RowStatistics::Variance)))
            return "means and variances come with rows of a few equal parts";
        if (statistics == RowStatistics::Variance && n % (2 * halves) != 0)
            return "columns of normalised rows are taken two at a time";
    }
    if (also) {
        if (exact || halves != 1 || squeeze)
            return "what is added is for sums of tensor cores as they are";
        if (also->kernel_height * also->kernel_width != 1 || also->pad_y != 0 || also->pad_x != 0 ||
            also->images * also->rows * also->columns != m)
            return "what is added is not one pixel of another image for each row";
        for (const TensorMapLayout& map : {map_x_also(), map_w_also()})
            if (auto why = map.why_not()) return why;
    }
    if (windows) {
        // How far inside a window a copy may begin.
        constexpr std::int64_t farthest = 255;
        if ((windows->kernel_width - 1) * windows->dilation_x > farthest ||
            (windows->kernel_height - 1) * windows->dilation_y > farthest)
            return "the windows are too large";
    }
    if (const auto why = map_x().why_not()) return "x: " + *why;
    if (const auto why = map_w().why_not()) return "weights: " + *why;
    return std::nullopt;
}

namespace {

std::string row_statistics(const TensorProduct& product) {
    std::string text;
    if (product.statistics != RowStatistics::None)
        text = fmt::format("using kn_row_element = {};\nconstexpr float kn_epsilon = {:a}f;\n",
                           product.type == DataType::BF16 ? "kn_bf16" : "kn_half",
                           static_cast<float>(product.epsilon));
    return text + std::string(kernel_text("row_statistics"));
}

}  // namespace

std::string tensor_product_helpers(const TensorProduct& product) {
    const ProductTiles& tiles = product.tiles;
    const ProductSqueeze squeeze = product.squeeze.value_or(ProductSqueeze());
    const ProductWindows also = product.also.value_or(ProductWindows());
    const bool moments = product.gives_rows() && !product.why_no_parts();
    const Defines constants{{"KN_BM", tiles.rows},
                            {"KN_BN", tiles.columns},
                            {"KN_GROUPS", tiles.groups},
                            {"KN_TURNS", tiles.turns},
                            {"KN_STAGES", tiles.stages},
                            {"KN_M", product.m},
                            {"KN_N", product.n},
                            {"KN_SLABS", product.slabs()},
                            {"KN_CHANNEL_SLABS", channel_slabs(product)},
                            {"KN_SLAB", product.slab()},
                            {"KN_K", product.k},
                            {"KN_STATISTICS", static_cast<int>(product.statistics)},
                            {"KN_GIVEN_PARTS", product.given_parts},
                            {"KN_ALSO_SLABS", also_slabs(product)},
                            {"KN_ALSO_ROWS", also.rows},
                            {"KN_ALSO_COLUMNS", also.columns},
                            {"KN_ALSO_STRIDE_Y", also.stride_y},
                            {"KN_ALSO_STRIDE_X", also.stride_x},
                            {"KN_SHARED_W", tiles.share_w},
                            {"KN_SPLITS", tiles.splits},
                            {"KN_EXACT", product.exact},
                            {"KN_MANY_SUMS", product.many_sums()},
                            {"KN_CHUNK", tiles.chunk},
                            {"KN_HALVES", product.halves},
                            {"KN_LANES", product.lanes},
                            {"KN_PARTNER", product.partner},
                            {"KN_Y_BYTES", product.y_bytes},
                            {"KN_BEFORE", product.before},
                            {"KN_IMAGE_ROWS", squeeze.image_rows},
                            {"KN_SQUEEZE_BYTES", squeeze.bytes},
                            {"KN_BESIDE", product.beside()},
                            {"KN_HIDDEN", squeeze.hidden},
                            {"KN_FIRST_PARTS", squeeze.parts},
                            {"KN_UNITS", squeeze.shifts.size()},
                            {"KN_PART_BYTES", part_bytes(product)},
                            {"KN_PART_PAIRS", product.tiles.winograd && part_bytes(product) > 0},
                            {"KN_ROW_MOMENTS", moments},
                            {"KN_WINDOWS", product.windows.has_value()}};
    const char* const epilogue = tiles.splits > 1                 ? "epilogue_cluster"
                                 : product.squeeze                ? "epilogue_squeezed"
                                 : product.partner > 0            ? "epilogue_paired"
                                 : tiles.staged && tiles.winograd ? "epilogue_patches"
                                 : tiles.staged                   ? "epilogue_staged"
                                                                  : "epilogue_direct";
    std::string text(kernel_text("hopper"));
    text += kernel_text("pipeline");
    if (product.windows) text += window_constants(*product.windows);
    if (tiles.winograd) {
        text += winograd_text(product);
    } else {
        text += wgmma_function(
            {.type = product.type, .columns = tiles.columns, .rows_in_registers = product.exact});
        text += row_statistics(product);
        text += kernel_text("tensor_product");
    }
    text += "\n";
    if (tiles.staged && !tiles.winograd && product.partner == 0)
        text += kernel_text("staged_pairs");
    if (product.squeeze) {
        text += element_and_shifts(product);
        text += kernel_text("squeeze_weights");
    }
    if (part_bytes(product) > 0) text += column_parts(product);
    if (moments) text += kernel_text("row_moments");
    text += kernel_text(epilogue);
    return constants.around(text);
}

}  // namespace kn::cuda
