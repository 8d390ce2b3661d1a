// What the commands that need a GPU's plan have in common.
#pragma once

#include <memory>

#include <kn/cuda_eval/executor.h>

#include "model.h"

namespace kn::tool {

/// The GPU that --device names; throws DeviceError that says why there is none.
cuda::Device require_gpu(const Device& device);

/// "none", "fast", "full"; throws UsageError.
Tuning parse_tuning(const std::string& text);

/// --properties: "h200", or a file that dump_device wrote. Throws UsageError.
cuda::DeviceProperties read_properties(const std::string& name);

std::shared_ptr<const cuda::Plan> make_plan(const StaticModel& model, const ModelFlags& flags,
                                            const cuda::DeviceProperties& device);
/// For a GPU that is here, as the network's options would have it.
std::shared_ptr<const cuda::Plan> make_plan(const StaticModel& model, const ModelFlags& flags,
                                            cuda::Device gpu, Tuning tuning);

/// Device copies of host tensors, and where they lie.
class DeviceTensors {
  public:
    /// Blocks until the copies are there.
    DeviceTensors(cuda::StreamRef stream, const std::vector<Tensor>& tensors);
    /// Uninitialised, of these sizes.
    DeviceTensors(cuda::Device device, const std::vector<cuda::TensorRef>& tensors);
    std::vector<void*> addresses() const;

  private:
    std::vector<cuda::DeviceMemory> memory_;
};

}  // namespace kn::tool
