// Lifetimes of arena buffers, and their places in one allocation.
#pragma once

#include <kn/cuda_eval/plan.h>

namespace kn::cuda {

/// Offsets of arena buffers are multiples of this.
inline constexpr std::size_t arena_alignment = 256;

/// Drops constants and arena buffers that no step uses, sets lifetimes from the steps' operands and
/// offsets so that buffers alive at the same time do not overlap; arena_bytes is the exact peak.
void plan_memory(Plan& plan);

}  // namespace kn::cuda
