// Where preparation spends its time.
//
//     for (const kn::cuda::Phase& phase : plan.phases)
//         std::printf("%s %.1f ms\n", phase.name.c_str(), phase.ms);
#pragma once

#include <chrono>
#include <string>

namespace kn::cuda {

/// A stretch of preparation. Several threads prepare, so that phases may overlap.
struct Phase {
    std::string name;
    std::chrono::steady_clock::time_point begin;
    double ms = 0;
    bool part = false;  ///< of the phase in front of it: time that is counted there too
};

}  // namespace kn::cuda
