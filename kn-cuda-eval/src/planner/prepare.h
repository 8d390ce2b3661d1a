// The graph as the planner wants it: in the precision asked for, every output a value of its own,
// masks as cuDNN takes them.
#pragma once

#include <kn/cuda_eval/plan.h>

namespace kn::cuda {

/// Rewrites of the whole graph that a plan may leave out by name.
std::vector<PlannerRule> preparations();

/// A static graph that computes the same under the options' precision. Throws GraphError for f64.
Graph prepare(const Graph& graph, const PlanOptions& options);

}  // namespace kn::cuda
