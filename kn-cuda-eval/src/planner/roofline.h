// What a device needs at least.
#pragma once

#include <kn/cuda_eval/plan.h>

namespace kn::cuda {

/// Bytes a second of the device's memory; where the width of its bus is not known, that of the
/// large parts of its kind.
double memory_rate(const DeviceProperties& device);

}  // namespace kn::cuda
