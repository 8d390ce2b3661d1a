// The last step of a reduction over rows: what its statistics make of one element.
#pragma once

#include "codegen/emit.h"

namespace kn::cuda {

/// What elements of a normalised row are multiplied by (in float64: divided by), from the sum of
/// their squares or squared distances.
std::string norm_scale(const Graph& graph, Value norm, const std::string& squares);

/// Element `index` of the reduction `value` from its row's statistics: the result itself; mean (or
/// nothing) and norm_scale; largest element and sum of exponentials. `exponential`: that of the
/// element, where it is known.
std::string finish_reduction(Emitter& emitter, const Graph& graph, Value value, const Index& index,
                             const std::vector<std::string>& statistics,
                             const std::string& exponential = {});

}  // namespace kn::cuda
