// Source of 3x3 convolutions by minimal filtering along lines (kernels/winograd.cu): two thirds of
// the multiplications of windows, and errors about twice as large, as sums and differences of two
// pixels are rounded to F16 (rms 9e-5 of the peak instead of 5e-5).
#pragma once

#include <optional>
#include <string>

#include <kn/cuda_sys/tensor_map.h>

#include "codegen/tensor_product.h"

namespace kn::cuda {

/// Sums of three weights overflow F16 beyond it.
constexpr float most_filtered_weight = 65504.0f / 3;

/// Of four lines of eight pixels, how eight make a tile of 256 rows of y.
struct Patches {
    int across = 1, down = 1, images = 1;
    int box_width = 0, box_height = 0;  ///< pixels that they read of an image
    bool operator==(const Patches&) const = default;
};

/// Those that read the fewest pixels; none where patches are not whole.
std::optional<Patches> patches_of(const ProductWindows& windows);

/// Why ProductTiles::winograd cannot be.
std::optional<std::string> why_no_winograd(const TensorProduct& product);

/// Of the image, and of PlanConstant::winograd.
TensorMapLayout winograd_map_x(const TensorProduct& product);
TensorMapLayout winograd_map_w(const TensorProduct& product);
/// And, where y is staged, of it and of what is added: pixels `stride` elements apart.
TensorMapLayout winograd_map_y(const TensorProduct& product, DataType type, std::int64_t stride);

/// Of what comes from global memory; behind it is what epilogues have.
int winograd_stages_bytes(const TensorProduct& product);
int winograd_barriers_bytes(const TensorProduct& product);

/// Pixels, weights, products: the text between what all kernels have and epilogues.
std::string winograd_text(const TensorProduct& product);

}  // namespace kn::cuda
