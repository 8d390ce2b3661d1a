// What products on tensor cores may err, as a part of the result's peak.
#pragma once

#include <kn/graph/device.h>

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
