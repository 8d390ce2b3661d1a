// What products in TF32 read: tensor cores cut float32 to TF32, which makes every sum too small, so
// that whoever writes such a value rounds it.
#pragma once

#include <set>

#include "planner/group.h"

namespace kn::cuda {

/// Values that nothing but products and convolutions by weights in TF32 reads, themselves or through
/// views and concatenations, and that are no outputs. Who reads a value besides, as the next
/// residual does, wants all of its bits: rounded at each of 24 layers BERT's result is 4 times as
/// wrong (2.7e-3 of the peak instead of 6.4e-4).
std::set<std::uint32_t> tf32_operands(const Grouping& grouping);

}  // namespace kn::cuda
