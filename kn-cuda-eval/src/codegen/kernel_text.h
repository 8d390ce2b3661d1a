// The handwritten CUDA C++ of src/kernels, embedded at build time.
#pragma once

#include <string_view>

namespace kn::cuda {

/// The text of src/kernels/NAME.cu.
std::string_view kernel_text(std::string_view name);

}  // namespace kn::cuda
