// From groups to steps: one function for each kind of group, each in a file of its own.
//
// Each appends the steps of its group to `placement.plan()`, so that every output of the group is
// written where `placement.stored` says. Throws GraphError if no step can be made; the planner
// collects these.
#pragma once

#include <span>

#include "planner/placement.h"

namespace kn::cuda {

void lower_pointwise(Placement& placement, const Group& group);
/// Pointwise groups of which none reads what another computes: one step, but for those whose
/// kernels go through tiles.
void lower_siblings(Placement& placement, std::span<const Group> groups);
void lower_rows(Placement& placement, const Group& group);
void lower_matmul(Placement& placement, const Group& group);
void lower_squeeze(Placement& placement, const Group& group);
void lower_product_chain(Placement& placement, const Group& group);
void lower_product_pair(Placement& placement, const Group& group);
void lower_tensor_product(Placement& placement, const Group& group);
void lower_conv(Placement& placement, const Group& group);
void lower_attention(Placement& placement, const Group& group);
void lower_special(Placement& placement, const Group& group);

/// A strided copy between tensors of equal shape, as one step.
void lower_copy(Placement& placement, const TensorRef& from, const TensorRef& to,
                const std::string& reason);

/// A step that lacks only work and operands: name, origins and reason of its group, and what it
/// produces.
Step step_of(const Graph& graph, const Group& group, const std::string& name);

}  // namespace kn::cuda
