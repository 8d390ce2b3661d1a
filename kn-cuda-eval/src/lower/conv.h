// Convolutions as cuDNN problems.
#pragma once

#include "lower/library.h"

namespace kn::cuda {

/// Whether products may use tensor cores: always for half types, for f32 under TF32.
bool uses_tensor_cores(const PlanOptions& options, DType dtype);
/// The part of their weights that kernels of ours read: float32 is rounded to TF32, as tensor cores
/// would cut it.
Tf32Part tensor_core_part(DType dtype);

/// The group's problem with all tensors dense in its layout; its roles x, w, y and perhaps bias and
/// residual are set. Throws GraphError where cuDNN cannot express it (negative pads, types).
CudnnProblem conv_problem(const Graph& graph, const Group& group);

}  // namespace kn::cuda
