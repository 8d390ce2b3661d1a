// A 3x3 filter as minimal filtering along lines multiplies by it (kernels/winograd.cu).
#pragma once

#include <cstddef>

namespace kn::cuda {

/// From a filter [3, 3, channels] what four positions of each line multiply by: [slabs of 64
/// channels, 3, halves of a slab, pairs of positions, 2, 32]. Places of channels that are not there
/// are left as they are.
void filter_weights(const float* filter, std::size_t channels, float* positions);

}  // namespace kn::cuda
