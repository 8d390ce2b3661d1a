// Columns of a matrix that meet in pairs behind it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "planner/group.h"
#include "planner/paired_columns.h"

namespace kn::cuda {

/// What is computed from a matrix [m, n] alone until it is stored, through views, elementwise
/// operations and Concat.
struct PairedPattern {
    PairedColumns columns;
    std::vector<Value> inner;   ///< between the matrix and the ends
    std::vector<Value> others;  ///< further operands
    /// Why they do not meet in pairs, though some do.
    std::string why_not;
};

/// The pattern behind `root`; none where no column meets another one. It looks at stored values, so
/// that it is for rules that come to the matrix after all that reads it.
std::optional<PairedPattern> find_paired(const Grouping& grouping, Value root);

}  // namespace kn::cuda
