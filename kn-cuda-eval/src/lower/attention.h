// Attention as a cuDNN problem.
#pragma once

#include "lower/library.h"

namespace kn::cuda {

/// Why cuDNN does not compute this attention; none if it does. (Its kernels are compiled at run
/// time, so that without a driver it cannot be asked; these are its documented limits.)
std::optional<std::string> why_no_sdpa(const Graph& graph, const op::Attention& attention);

}  // namespace kn::cuda
