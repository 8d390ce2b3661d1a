// Constants of a network's file behind what a precision policy has made of them.
#pragma once

#include <kn/graph/graph.h>

namespace kn::cuda {

/// The tensor that holds a constant's elements as the file has them, where the constant is nothing
/// but a cast of it; else the constant's own.
const Tensor& origin(const ConstantData& data);

}  // namespace kn::cuda
