// Tensor maps: how the copy engine of Hopper and newer (sm_90) moves boxes of a strided tensor in
// global memory to shared memory, rows of 128 bytes swizzled as the tensor cores read them.
//
//     kn::cuda::TensorMapLayout layout{.type = DataType::F16, .sizes = {768, 1024},
//                                      .strides = {1536}, .box = {64, 128}};
//     kn::cuda::TensorMap map(layout, weights.data());     // a __grid_constant__ kernel parameter
//
// The source of the rules is the driver API's cuTensorMapEncodeTiled and cuTensorMapEncodeIm2col.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kn/cuda_sys/data_type.h"

namespace kn::cuda {

/// Axes innermost first; the innermost is dense. What lies outside the tensor is copied as zeros.
struct KN_CUDA_API TensorMapLayout {
    /// Windows over an image of axes (channels, width, height, images): a copy takes `channels` of
    /// `positions` successive window positions at one place inside the window.
    struct Windows {
        int channels = 0;               ///< a copy's
        int positions = 0;              ///< a copy's
        std::array<int, 2> begin = {};  ///< of the first window, x and y; -pad
        std::array<int, 2> end = {};    ///< of the last one, less the last pixel's place
        std::array<int, 2> stride = {1, 1};
        bool operator==(const Windows&) const = default;
    };

    DataType type = DataType::F16;           ///< F16, BF16 or F32
    std::vector<std::int64_t> sizes = {};    ///< elements; 1 to 5 axes
    std::vector<std::int64_t> strides = {};  ///< bytes, of all axes but the innermost
    std::vector<int> box = {};               ///< elements that one copy takes of each axis
    std::optional<Windows> windows = {};     ///< instead of box

    /// Why there is no such map: the engine's limits on strides (multiples of 16 bytes), boxes (at
    /// most 256, 128 bytes of the innermost axis), windows.
    std::optional<std::string> why_not() const;
    bool operator==(const TensorMapLayout&) const = default;
};

/// A kernel argument of 128 bytes. Holds the address, no memory.
struct KN_CUDA_API TensorMap {
    /// `data` is a device address, 16-byte aligned, of the first element. Throws Error where the
    /// driver refuses, or knows no tensor maps.
    TensorMap(const TensorMapLayout& layout, void* data);

    alignas(64) std::array<std::uint64_t, 16> words;
};

}  // namespace kn::cuda
