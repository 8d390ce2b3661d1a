// Attention as a cuDNN problem, or by our kernel for Hopper's tensor cores.
#pragma once

#include "lower/library.h"

namespace kn::cuda {

/// Why cuDNN does not compute this attention; none if it does. (Its kernels are compiled at run
/// time, so that without a driver it cannot be asked; these are its documented limits.)
std::optional<std::string> why_no_sdpa(const Graph& graph, const op::Attention& attention);

/// Why our tensor core kernel does not compute this attention; none if it does.
std::optional<std::string> why_no_tensor_attention(const Grouping& grouping,
                                                   const op::Attention& attention);
/// Why it should not, though it can: where cuDNN is known to be as fast.
std::optional<std::string> why_library_attention(const Grouping& grouping,
                                                 const op::Attention& attention);

/// Whether rows are dense and begin at multiples of 16 bytes, without repetition.
bool has_aligned_rows(const Plan& plan, const TensorRef& tensor);

void lower_tensor_attention(Placement& placement, const Group& group);

}  // namespace kn::cuda
