// The first step of a reduction over rows: what the threads of a row compute of its elements, once
// for all of them. (lower/row_values.h is the last.)
#pragma once

#include "lower/row_threads.h"

namespace kn::cuda {

/// What a reduction is of: each gives a variable for element `k` of the row.
struct RowElements {
    /// The operand.
    RowThreads::Element value;
    /// exp(value - most), for Softmax alone.
    std::function<std::string(const std::string& k, const std::string& most)> exponential;
};

/// The variables that hold the statistics of the row for `finish_reduction`, of a Reduce,
/// ArgReduce, Softmax or Norm.
std::vector<std::string> row_statistics(RowThreads& threads, Code& code, const Graph& graph,
                                        Value reduction, const RowElements& elements);

}  // namespace kn::cuda
