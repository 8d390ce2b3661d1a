// Whether a plan's kernels should start before those in front of them have ended: it hides launches
// behind tails, and takes room from kernels that need it. So it is timed.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <kn/cuda_eval/executor.h>

namespace kn::cuda {

/// For each step, whether it starts early.
std::vector<bool> early_steps(const Plan& plan, Overlap overlap);

/// Those that differ for this plan, the simplest first.
std::vector<Overlap> overlaps_to_try(const Plan& plan);

/// What the answer depends on, as a cache key: the steps in their order and the kind of GPU.
std::string overlap_key(const Plan& plan, const DeviceProperties& device);

/// The fastest by medians (milliseconds), of which each but the first has to gain a hundredth.
Overlap fastest_overlap(std::vector<std::pair<Overlap, std::vector<double>>> times);

/// "none", "own", "all"; and back, none of these: nothing.
std::string name_of(Overlap overlap);
std::optional<Overlap> parse_overlap(const std::string& name);

}  // namespace kn::cuda
