// Few long rows: blocks reduce parts of rows, those that compute the result put the parts together.
#pragma once

#include <optional>
#include <string>

#include "lower/lower.h"
#include "planner/rows.h"

namespace kn::cuda {

/// Appends the group's steps: one for each reduction, which writes what it knows of each part of
/// each row, and one for the result. Where that cannot be, appends nothing and says why, as the end
/// of a sentence.
std::optional<std::string> lower_row_parts(Placement& placement, const Group& group,
                                           const RowAnalysis& rows);

}  // namespace kn::cuda
