// A graph that computes its batch in slices, one after the other, so that what a slice's operations
// hand on fits a cache, and all slices share the memory of one.
//
//     Slices slices = in_slices(graph, batch_axes(graph), 4);
//
// Each input of the batch is cut by Slice operations, each output is a Concat of the slices'
// results, and between them stands a copy of the network for each slice. What is the same for all
// rows is there once.
#pragma once

#include "planner/batch_axes.h"

namespace kn::cuda {

struct Slices {
    Graph graph;
    /// The values of slice i have indices from first[i] to first[i + 1]; empty without slices.
    std::vector<std::uint32_t> first;

    /// 1 where there are none.
    std::int64_t count() const;
    /// 1, 2, ... for values of slices, 0 for those that they share.
    std::size_t slice_of(Value value) const;
};

/// `axes` are the graph's and have no objection; `count` divides their rows.
Slices in_slices(const Graph& graph, const BatchAxes& axes, std::int64_t count);

}  // namespace kn::cuda
