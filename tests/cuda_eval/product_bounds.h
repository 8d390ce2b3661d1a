// What products on tensor cores may err, as a part of the result's peak; tiles in messages.
#pragma once

#include <ostream>

#include <kn/graph/device.h>

#include "lower/product_tiles.h"

namespace kn::cuda {

inline void PrintTo(const ProductTiles& tiles, std::ostream* out) { *out << to_string(tiles); }

}  // namespace kn::cuda

namespace kn::test {

struct ProductBound {
    Precision precision;
    double of_peak;  ///< float32: some roundings; others: those of the inputs' type, summed over k
};
constexpr ProductBound product_bounds[] = {{Precision::F32, 1e-6},
                                           {Precision::TF32, 2e-3},
                                           {Precision::F16, 3e-3},
                                           {Precision::BF16, 2e-2}};

}  // namespace kn::test
