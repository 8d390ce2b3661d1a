// Products and convolutions by a weight in our own kernel for Hopper's tensor cores.
#pragma once

#include "planner/group.h"

namespace kn::cuda {

/// Why a MatMul or Conv is none for the kernel; nothing if it is. Independent of layouts.
std::optional<std::string> why_no_tensor_product(const Grouping& grouping, Value product);

}  // namespace kn::cuda
