// Quantised arithmetic as the importers of ai.onnx and com.microsoft need it. A scale or zero point
// comes here in a shape that broadcasts to the values'.
#pragma once

#include "onnx/node.h"
#include "onnx/spatial.h"

namespace kn::onnx {

/// (x - zero_point) * scale in f32; no zero point: 0.
Var dequantize(Var x, Var scale, std::optional<Var> zero_point);
/// round-half-even(x) + zero_point (f32), saturated to `dtype`.
Var saturate(Var x, std::optional<Var> zero_point, DType dtype);
/// x (f32) / scale, rounded and saturated to the dtype of the zero point.
Var quantize(Var x, Var scale, Var zero_point);

/// A scale or zero point, one for all or one for each index of `axis`, so that it broadcasts to
/// `rank` dims.
Var parameter_along(Node& node, Var parameter, std::size_t rank, std::int64_t axis);

/// x as i32 minus its zero point.
Var centred(Var x, std::optional<Var> zero_point);

/// Values, scale and zero point at three consecutive inputs of a node, per tensor.
struct Quantised {
    Var x;
    Var scale;
    std::optional<Var> zero_point;
    Var real() const { return dequantize(x, scale, zero_point); }
};
Quantised read_quantised(Node& node, std::size_t first);
/// To u8 over the range of x, which is widened to hold 0.
Quantised quantize_dynamically(Var x);

}  // namespace kn::onnx
