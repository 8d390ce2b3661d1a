// Kernels that may start before the one in front of them has ended: their launch and their blocks'
// start are hidden behind its tail. They wait for its results by their first statement, so that
// what comes after it may read and write anything; since each waits for the whole kernel before it,
// which had itself waited, everything earlier is complete too.
#pragma once

#include <kn/cuda_eval/executor.h>

namespace kn::cuda {

/// Whether GPUs of this compute capability (90) have such launches.
bool can_overlap(int compute);

/// The same kernel with the wait as its first statement, after which the next kernel may start;
/// those that say themselves where they have to wait (kn_wait_for_previous) have their way.
/// Launched in the usual way it does what it did. Throws InternalError if the source has no
/// definition of the entry point.
PlanKernel with_wait(PlanKernel kernel);

/// Whether step `index` may start before the one in front of it ends.
bool may_overlap(const Plan& plan, std::size_t index, Overlap overlap);

}  // namespace kn::cuda
