// Seeded numbers in place of weights, scaled so that a network's activations stay finite.
//
//     Tensor w = random_weight(7, "conv1.weight", DType::F32, {64, 3, 7, 7});   // about N(0,
//     1/147)
#pragma once

#include <cstdint>
#include <string>

#include <kn/graph/tensor.h>

namespace kn::onnx {

/// Inline tensors up to this many elements are not weights worth replacing: epsilons, scales,
/// masks.
constexpr std::uint64_t max_small_weight = 16;

/// Rank 2 and above: mean 0, variance 1 / fan-in. Below (scales, biases, variances): between 0.5
/// and 1.5. The same for the same seed, name and shape.
Tensor random_weight(std::uint64_t seed, const std::string& name, DType dtype, const Ints& shape);

}  // namespace kn::onnx
