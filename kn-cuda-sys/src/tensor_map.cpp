#include "kn/cuda_sys/tensor_map.h"

#include <algorithm>
#include <cstring>

#include <cuda.h>
#include <cuda_runtime_api.h>

#include "check.h"

namespace kn::cuda {

namespace {

std::int64_t bytes_of(DataType type) { return static_cast<std::int64_t>(size_of(type)); }

CUtensorMapDataType type_of(DataType type) {
    switch (type) {
        case DataType::F16: return CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
        case DataType::BF16: return CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
        default: return CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
    }
}

// One of the driver's functions, so that nothing links libcuda.
template <class Function>
Function driver_function(const char* name) {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found{};
#if CUDART_VERSION >= 12050
    constexpr unsigned version = 12000;
    const cudaError_t status =
        cudaGetDriverEntryPointByVersion(name, &function, version, cudaEnableDefault, &found);
#else
    const cudaError_t status = cudaGetDriverEntryPoint(name, &function, cudaEnableDefault, &found);
#endif
    KN_CUDA_REQUIRE(status == cudaSuccess && function != nullptr, "TensorMap",
                    "the driver knows no {}", name);
    return reinterpret_cast<Function>(function);
}

template <class To, class From>
std::vector<To> converted(const From& values) {
    std::vector<To> result;
    for (const auto value : values) result.push_back(static_cast<To>(value));
    return result;
}

}  // namespace

std::optional<std::string> TensorMapLayout::why_not() const {
    if (type != DataType::F16 && type != DataType::BF16 && type != DataType::F32)
        return fmt::format("no tensor maps of {}", to_string(type));
    if (sizes.empty() || sizes.size() > 5 || strides.size() + 1 != sizes.size())
        return "a tensor map has 1 to 5 axes, and strides of all but the innermost";
    for (const std::int64_t size : sizes)
        if (size < 1 || size > std::int64_t{1} << 32) return fmt::format("an axis of {}", size);
    for (const std::int64_t stride : strides)
        if (stride < 0 || stride % 16 != 0 || stride >= std::int64_t{1} << 40)
            return fmt::format("a stride of {} bytes", stride);
    if (!windows) {
        if (box.size() != sizes.size()) return "the box has other axes";
        for (const int extent : box)
            if (extent < 1 || extent > 256) return fmt::format("a box of {}", extent);
        const std::int64_t row = box[0] * bytes_of(type);
        if (row > 128 || row % 16 != 0) return fmt::format("a box of {} bytes a row", row);
        return std::nullopt;
    }
    if (sizes.size() != 4) return "windows need the axes channels, width, height, images";
    const std::int64_t row = windows->channels * bytes_of(type);
    if (row < 16 || row > 128 || row % 16 != 0)
        return fmt::format("windows of {} bytes a pixel", row);
    if (windows->positions < 1 || windows->positions > 1024)
        return fmt::format("{} windows a copy", windows->positions);
    for (std::size_t i = 0; i < 2; ++i) {
        if (windows->begin[i] < -128 || windows->begin[i] > 127 || windows->end[i] < -128 ||
            windows->end[i] > 127)
            return fmt::format("windows from {} to {} of an image", windows->begin[i],
                               windows->end[i]);
        if (sizes[i + 1] - 1 + windows->end[i] < windows->begin[i])
            return "there is no window in the image";
        if (windows->stride[i] < 1 || windows->stride[i] > 8)
            return fmt::format("a window stride of {}", windows->stride[i]);
    }
    return std::nullopt;
}

TensorMap::TensorMap(const TensorMapLayout& layout, void* data) : words() {
    const auto why = layout.why_not();
    KN_CUDA_REQUIRE(!why, "TensorMap", "{}", *why);
    const auto rank = static_cast<cuuint32_t>(layout.sizes.size());
    const auto sizes = converted<cuuint64_t>(layout.sizes);
    const auto strides = converted<cuuint64_t>(layout.strides);
    std::vector<cuuint32_t> steps(rank, 1);
    CUtensorMap map;
    CUresult status = CUDA_SUCCESS;
    if (layout.windows) {
        const auto& windows = *layout.windows;
        steps[1] = static_cast<cuuint32_t>(windows.stride[0]);
        steps[2] = static_cast<cuuint32_t>(windows.stride[1]);
        const auto encode =
            driver_function<decltype(&cuTensorMapEncodeIm2col)>("cuTensorMapEncodeIm2col");
        status = encode(&map, type_of(layout.type), rank, data, sizes.data(), strides.data(),
                        windows.begin.data(), windows.end.data(),
                        static_cast<cuuint32_t>(windows.channels),
                        static_cast<cuuint32_t>(windows.positions), steps.data(),
                        CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                        CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    } else {
        const auto box = converted<cuuint32_t>(layout.box);
        const auto encode =
            driver_function<decltype(&cuTensorMapEncodeTiled)>("cuTensorMapEncodeTiled");
        status =
            encode(&map, type_of(layout.type), rank, data, sizes.data(), strides.data(), box.data(),
                   steps.data(), CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                   CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    }
    KN_CUDA_REQUIRE(status == CUDA_SUCCESS, "TensorMap", "the driver refuses it (status {})",
                    static_cast<int>(status));
    static_assert(sizeof(map) == sizeof(words));
    std::memcpy(words.data(), &map, sizeof(map));
}

}  // namespace kn::cuda
