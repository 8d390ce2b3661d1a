#include "codegen/split_product.h"

#include <algorithm>

#include <fmt/core.h>

#include "codegen/defines.h"
#include "codegen/kernel_text.h"
#include "codegen/wgmma.h"

namespace kn::cuda {

namespace {

constexpr int chunk = 4, slab = 32;  // floats of 16 and 128 bytes

// Between rows of the tile in shared memory that the epilogue reads, in floats.
int pitch(const SplitProduct& product) { return product.tile_columns + 4; }

}  // namespace

std::size_t SplitProduct::shared_bytes() const {
    const int low_parts = 2 * tile_columns * 128;
    const int slabs = stages * (tile_rows + tile_columns) * 128 + low_parts;
    const int tile = tile_rows * pitch(*this) * 4;
    return static_cast<std::size_t>(std::max(slabs, tile));
}

Dim3 SplitProduct::grid() const {
    return {static_cast<unsigned>((m + tile_rows - 1) / tile_rows),
            static_cast<unsigned>((n + tile_columns - 1) / tile_columns), 1};
}

std::optional<std::string> SplitProduct::why_not() const {
    if (m < 1 || n < 1 || k < 1) return "there is nothing to multiply";
    if (column_stride % chunk != 0) return "rows of the weights are not aligned to 16 bytes";
    if (!windows) {
        if (k % chunk != 0 || row_stride % chunk != 0)
            return "rows of x are not aligned to 16 bytes";
        return std::nullopt;
    }
    if (windows->channels % slab != 0)
        return fmt::format("{} channels are no multiple of {}", windows->channels, slab);
    if (windows->image_stride % chunk != 0 || windows->line_stride % chunk != 0 ||
        windows->pixel_stride % chunk != 0)
        return "pixels are not aligned to 16 bytes";
    return std::nullopt;
}

std::string split_product_helpers(const SplitProduct& product) {
    const Defines constants{{"KN_BM", product.tile_rows},
                            {"KN_BN", product.tile_columns},
                            {"KN_STAGES", product.stages},
                            {"KN_M", product.m},
                            {"KN_N", product.n},
                            {"KN_K", product.k},
                            {"KN_PITCH", pitch(product)},
                            {"KN_LANES", product.lanes},
                            {"KN_WINDOWS", product.windows.has_value()}};
    std::string text(kernel_text("hopper"));
    if (product.windows)
        text += window_constants(*product.windows);
    else
        text += fmt::format("constexpr long long kn_row_stride = {};\n", product.row_stride);
    text += fmt::format("constexpr long long kn_column_stride = {};\n", product.column_stride);
    text += wgmma_function(
        {.type = DataType::F32, .columns = product.tile_columns, .rows_in_registers = true});
    text += kernel_text("split_product");
    return constants.around(text);
}

}  // namespace kn::cuda
