// Tensors in NumPy's .npy files.
//
//     kn::Tensor x = kn::read_npy("x.npy");
//     kn::write_npy("y.npy", x);
#pragma once

#include <filesystem>

#include <kn/graph/tensor.h>

namespace kn {

/// Format versions 1 to 3; bool, integers, float16/32/64 in either memory order, little endian.
/// Throws GraphError that names the file and the fault; nothing is allocated before the file proves
/// to hold it.
KN_API Tensor read_npy(const std::filesystem::path& path);

/// bf16 is written as float32. The file appears whole or not at all. Throws GraphError.
KN_API void write_npy(const std::filesystem::path& path, const Tensor& tensor);

}  // namespace kn
