// Plans that differ in nothing but the tiles of their products, so that steps of one can stand in
// another.
#pragma once

#include <vector>

#include <kn/cuda_eval/plan.h>

namespace kn::cuda {

/// Whether the steps of the same number do the same, on the same buffers.
bool interchangeable(const Plan& a, const Plan& b);

/// The plan with the tiles that the planner expects to be second fastest, third, ..., `count` of
/// them at most. Tiles that would change more (a result that has to be copied) stay `first`'s.
/// Plans on all processors.
std::vector<Plan> tile_variants(const Plan& first, const Graph& graph, std::size_t count);

}  // namespace kn::cuda
