// The graph as the planner wants it: in the precision asked for, every output a value of its own,
// masks as cuDNN takes them.
#pragma once

#include <kn/cuda_eval/plan.h>

namespace kn::cuda {

/// A static graph that computes the same under `precision`. Throws GraphError for f64.
Graph prepare(const Graph& graph, Precision precision);

}  // namespace kn::cuda
