// Element types of cuBLAS and cuDNN operands.
#pragma once

#include <cstddef>

#include "kn/cuda_sys/export.h"

namespace kn::cuda {

enum class DataType { F16, BF16, F32, F64, I8, U8, I32, I64, Bool };

/// Bytes an element.
KN_CUDA_API std::size_t size_of(DataType type) noexcept;
/// "f16", "bf16"...; a static string.
KN_CUDA_API const char* to_string(DataType type) noexcept;

}  // namespace kn::cuda
