// Copies between strided tensors on the device.
#pragma once

#include <vector>

#include <kn/cuda_eval/device_tensor.h>
#include <kn/cuda_eval/plan.h>
#include <kn/cuda_sys/library.h>

#include "executor/strided.h"

namespace kn::cuda {

/// The kernels of copies, for elements of 1, 2, 4 and 8 bytes in this order.
std::vector<PlanKernel> copy_kernels();

/// Queues target = source; same dtype and shape. `kernels` are copy_kernels(), loaded. Throws
/// GraphError where more than 8 axes remain.
void copy_strided(StreamRef stream, std::span<const std::shared_ptr<const Kernel>> kernels,
                  const DeviceTensor& target, const DeviceTensor& source);

}  // namespace kn::cuda
