// The text of a stored plan: a header line, the problem, then cuDNN's JSON. Internal.
#pragma once

#include "kn/cuda_sys/cudnn.h"

namespace kn::cuda::detail {

struct StoredPlan {
    CudnnCandidate candidate;
    std::string problem;  ///< to_text of it
    std::string json;
};

std::string write_stored(const StoredPlan& plan);
/// Throws Error for other text, another cuDNN version or another problem.
StoredPlan read_stored(const std::string& text, const std::string& problem);

}  // namespace kn::cuda::detail
