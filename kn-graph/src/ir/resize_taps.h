// What one axis of a resize reads: for each output position, source positions and weights.
#pragma once

#include <kn/graph/ops.h>

namespace kn {

struct ResizeAxis {
    std::int64_t input;
    std::int64_t output;
    double scale;      ///< output / input, > 0
    double roi_start;  ///< of TfCropAndResize
    double roi_end;
};

/// Output position j is sum over t < taps of weights[j * taps + t] * source[positions[j * taps +
/// t]]; where `outside` is set (TfCropAndResize) it is the extrapolation value instead.
struct ResizeTaps {
    std::size_t taps = 1;
    Ints positions;
    std::vector<double> weights;
    std::vector<bool> outside;
    /// Every output position is its source position.
    bool identity = false;
};

/// As the operator Resize-19 of ONNX defines it. input >= 1.
ResizeTaps resize_taps(const op::Resize& op, const ResizeAxis& axis);

}  // namespace kn
