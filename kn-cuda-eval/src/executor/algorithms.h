// Which of a library's algorithms computes each step: from the cache, by the library's own
// estimate, or timed on the device with the step's own operands.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <kn/cuda_eval/executor.h>

#include "cache/disk_cache.h"
#include "executor/launch.h"
#include "planner/phases.h"

namespace kn::cuda {

/// The whole product in one line, equal exactly when the products are.
std::string to_text(const MatmulDesc& desc, bool with_c);

/// What the choice for a step depends on, as a cache key: the problem, its workspace, the kind of
/// GPU and the library's version. Empty for steps that leave no choice.
std::string choice_key(const Step& step, const DeviceProperties& device);

struct TuneSetup {
    Tuning tuning = Tuning::Fast;
    DiskCache* cache = nullptr;
    /// Of the plan's buffers, whose contents are overwritten; known once ready() has been called.
    const std::vector<std::byte*>& bases;
    std::function<void()> ready;  ///< called before anything runs on the device
};

/// Fills in the work of all cuBLASLt and cuDNN steps, of launches whose operands are set; equal
/// problems are decided once. A handle is null where no step needs it. Blocks. Throws Error where a
/// library has no algorithm within the workspace.
void choose_algorithms(const Plan& plan, const std::shared_ptr<const CublasLt>& lt,
                       const CudnnHandle* cudnn, StreamRef stream, const TuneSetup& setup,
                       std::vector<Launch>& launches, ExecutorSetup& counts, PhaseLog& log);

}  // namespace kn::cuda
