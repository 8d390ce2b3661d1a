// Comparing tensors, with the worst element named.
//
//     const auto allowed = kn::testing::default_tolerance(expected.dtype());
//     const kn::testing::Difference difference = kn::testing::compare(got, expected, allowed);
//     if (!difference.equal) std::puts(difference.message.c_str());
#pragma once

#include <string>

#include <kn/graph/device.h>
#include <kn/graph/tensor.h>

namespace kn::testing {

/// Equal means |got - expected| <= rtol |expected| + atol_of_peak * max |expected| over the finite
/// values.
struct Tolerance {
    double rtol = 0;
    double atol_of_peak = 0;
};

/// f32, f64: (1e-3, 1e-4); f16: (1e-2, 5e-3); bf16: (3e-2, 2e-2); others: exact.
KN_API Tolerance default_tolerance(DType dtype);
/// What a float32 model may lose when it runs in this precision: as the dtype of that name; TF32 as
/// f16.
KN_API Tolerance default_tolerance(Precision precision);
/// The larger of each.
KN_API Tolerance looser(Tolerance a, Tolerance b);

struct Difference {
    bool equal = true;
    double max_abs = 0;  ///< over elements where both are finite
    /// max_abs over the expected tensor's largest finite magnitude (1 if that is 0).
    double max_rel_to_peak = 0;
    /// Why they differ: dtype, shape, or the worst element with its coordinates, both values and
    /// what was allowed.
    std::string message;
};

/// Integers and bools exactly, floats by the tolerance; NaN equals NaN, infinities by sign.
/// `any_float`: float dtypes may differ.
KN_API Difference compare(const Tensor& got, const Tensor& expected, Tolerance tolerance,
                          bool any_float = false);

}  // namespace kn::testing
