#include "planner/phases.h"

#include <algorithm>

namespace kn::cuda {

PhaseLog::Stretch::~Stretch() {
    const std::chrono::duration<double, std::milli> passed =
        std::chrono::steady_clock::now() - begin;
    const std::lock_guard lock(log.mutex_);
    try {
        log.phases_.push_back({std::move(name), begin, passed.count()});
    } catch (const std::bad_alloc&) {
        // A line less in a report.
    }
}

std::vector<Phase> PhaseLog::take() {
    const std::lock_guard lock(mutex_);
    std::ranges::stable_sort(phases_, {}, &Phase::begin);
    return std::exchange(phases_, {});
}

}  // namespace kn::cuda
