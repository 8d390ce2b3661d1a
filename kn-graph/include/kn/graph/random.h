// Repeatable random tensors, the same on every machine.
//
//     auto inputs = kn::random_inputs(graph, {{"batch", 4}}, 0);
#pragma once

#include <cstdint>
#include <vector>

#include <kn/graph/graph.h>

namespace kn {

/// SplitMix64: state += 0x9e3779b97f4a7c15, then two xor-shift-multiply rounds (Steele, Lea, Flood
/// 2014).
class KN_API Random {
  public:
    explicit Random(std::uint64_t seed) : state_(seed) {}
    std::uint64_t bits();
    double uniform();  ///< in [0, 1), 53 bits
    double normal();   ///< Box-Muller, both halves used
  private:
    std::uint64_t state_;
    bool has_spare_ = false;
    double spare_ = 0;
};

/// Floats N(0, 1), integers and bools 0 or 1.
KN_API Tensor random_tensor(DType dtype, const Ints& shape, Random& random);

/// One tensor for each input of the graph. Throws GraphError that names the input if its size does
/// not follow from `dims`.
KN_API std::vector<Tensor> random_inputs(const Graph& graph, const Bindings& dims = {},
                                         std::uint64_t seed = 0);

}  // namespace kn
