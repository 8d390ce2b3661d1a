// Average pooling for the importers of ai.onnx and com.microsoft.
#pragma once

#include "onnx/spatial.h"

namespace kn::onnx {

/// Reads the attributes of AveragePool and pools x [N, C, ...].
Var pool_average(Node& node, Var x, bool has_ceil_mode, bool has_dilations);

}  // namespace kn::onnx
