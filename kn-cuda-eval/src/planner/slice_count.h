// Into how many slices a plan cuts its batch.
#pragma once

#include <functional>
#include <string>

#include <kn/cuda_eval/plan.h>

namespace kn::cuda {

struct SliceChoice {
    std::int64_t count = 1;
    std::string reason;  ///< a sentence; empty where no product exceeds the L2 cache
};

/// The fewest slices with which the data of the plan's products stay in L2, if that pays: most of
/// the time goes into products that exceed L2, slices of one size fit it, weights, which each slice
/// reads again, are small beside all data, and the steps of all slices are expected to take less
/// time than those of the whole, which they do not where a slice fills the multiprocessors worse.
/// `whole` has one slice; `in_slices` gives a plan with several.
SliceChoice choose_slices(const Plan& whole,
                          const std::function<const Plan&(std::int64_t)>& in_slices);

}  // namespace kn::cuda
