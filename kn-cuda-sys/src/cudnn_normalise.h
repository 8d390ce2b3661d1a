// Problems as cuDNN takes them: checked, defaults filled in, at least two spatial dimensions.
// Internal.
#pragma once

#include "kn/cuda_sys/cudnn.h"

namespace kn::cuda::detail {

/// Throws Error where a tensor's extents and strides make no sense.
void check_tensors(const CudnnProblem& problem);

/// Throw Error where ranks do not match.
ConvDesc normalise(ConvDesc desc);
ConvTransposeDesc normalise(ConvTransposeDesc desc);
PoolDesc normalise(PoolDesc desc);

}  // namespace kn::cuda::detail
