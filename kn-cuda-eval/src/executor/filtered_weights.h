// A 3x3 filter as minimal filtering along lines multiplies by it (kernels/winograd.cu).
#pragma once

#include <cstddef>

namespace kn::cuda {

/// From a filter [3, 3, channels] what four positions of each line multiply by: [channels / 64, 3,
/// halves of 64 channels, pairs of positions, 2, 32]. The channels are a multiple of 64.
void filter_weights(const float* filter, std::size_t channels, float* positions);

}  // namespace kn::cuda
