// What products in TF32 read: tensor cores cut float32 to TF32, which makes every sum too small, so
// that whoever writes such a value rounds it.
#pragma once

#include <set>

#include "planner/group.h"

namespace kn::cuda {

/// Values that products and convolutions by weights read, themselves or through views and
/// concatenations, where they do so in TF32. None that the network's outputs are made of by views
/// alone: those are float32.
std::set<std::uint32_t> tf32_operands(const Grouping& grouping);

}  // namespace kn::cuda
