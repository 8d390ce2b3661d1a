// Timing the phases of preparation, from any thread.
#pragma once

#include <mutex>
#include <utility>
#include <vector>

#include <kn/cuda_eval/phase.h>

namespace kn::cuda {

class PhaseLog {
  public:
    /// Runs body() and notes how long it took; gives its result.
    template <class F>
    auto measure(std::string name, F&& body) {
        const Stretch stretch{*this, std::move(name), std::chrono::steady_clock::now()};
        return std::forward<F>(body)();
    }
    /// In the order in which they began.
    std::vector<Phase> take();

  private:
    struct Stretch {
        PhaseLog& log;
        std::string name;
        std::chrono::steady_clock::time_point begin;
        ~Stretch();
    };

    std::mutex mutex_;
    std::vector<Phase> phases_;
};

}  // namespace kn::cuda
