// Several small products behind each other in one kernel.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "planner/group.h"

namespace kn::cuda {

/// Why a kernel cannot have these products by weights, each of an operand made of the one before,
/// or is not faster than a step for each; as the end of a sentence.
std::optional<std::string> why_no_chain(const Graph& graph, const std::vector<Value>& products,
                                        std::int64_t sm_count);
/// Rows that a block takes, and neighbouring columns that a thread does.
std::int64_t chain_rows(const Graph& graph, const std::vector<Value>& products,
                        std::int64_t sm_count);
int chain_lanes(const Graph& graph, Value product);

}  // namespace kn::cuda
