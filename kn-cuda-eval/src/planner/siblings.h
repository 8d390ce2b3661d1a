// Pointwise groups that stand side by side: one launch instead of several.
#pragma once

#include <functional>
#include <span>

#include "planner/group.h"

namespace kn::cuda {

/// How many of the sorted groups from the first on one kernel can compute: 1, or as many pointwise
/// ones of which none reads what another computes, all of one `slice`.
std::size_t sibling_count(const Grouping& grouping, std::span<const Group> groups,
                          const std::function<std::int64_t(const Group&)>& slice);

}  // namespace kn::cuda
