// Which reductions inside an expression are over rows: what a row kernel computes once for each row
// and all elements of the row share.
#pragma once

#include <functional>
#include <set>
#include <vector>

#include "planner/group.h"

namespace kn::cuda {

struct RowAnalysis {
    /// An axis of the root, or a digit of its index: (index / divisor) % extent.
    struct Axis {
        std::size_t root;
        std::int64_t divisor, extent;
    };
    /// What numbers the rows, and what lies along a row; outermost first.
    std::vector<Axis> parallel, along;
    /// Reductions (Reduce, ArgReduce, Softmax, Norm) whose result is one for each row; operands of
    /// others come earlier.
    std::vector<Value> reductions;
    /// Reductions that vary inside a row, or are shared by several rows: dear to compute in place.
    std::vector<Value> others;
    /// Values that are computed at the root's own index, the root excepted.
    std::vector<Value> aligned;
    /// Stored values that are read.
    std::vector<Value> leaves;
    /// Softmax and Norm among them whose elements are those of the root's row, at the same places.
    std::set<std::uint32_t> in_place;
    /// Elements that the largest reduction runs over.
    std::int64_t longest = 0;
};

/// Of the expression below `root`, down to values for which `is_leaf` holds.
RowAnalysis analyse_rows(const Graph& graph, Value root, const std::function<bool(Value)>& is_leaf);

/// The axes that a Reduce, ArgReduce, Softmax or Norm reduces, and whether its result has them.
Ints reduced_axes(const Operation& operation);
bool keeps_axes(const Operation& operation);
/// Elements that the operation reduces to one (or one statistic); 0 if it is no reduction.
std::int64_t reduced_count(const Graph& graph, Value value);
/// Whether a reduction is so long that one thread alone should not do it.
bool is_long_reduction(const Graph& graph, Value value);

}  // namespace kn::cuda
