// How the times of a plan's steps, each repeated alone, add up to what a whole run takes.
//
//     StepSums sums = add_up({10.0, 20.0, 5.0}, 40.0);   // 35 us in steps, 5 us of gaps
#pragma once

#include <string>
#include <vector>

namespace kn::tool {

struct StepSums {
    double steps_us = 0;
    double run_us = 0;
    /// By which the run is longer: launches, and memory that a step repeated alone finds in the
    /// cache.
    double gaps_us = 0;
    double overlap_us = 0;  ///< by which the run is shorter: steps that begin while others end
    bool fits() const;      ///< whether the steps explain the run within 15 %
};

StepSums add_up(const std::vector<double>& step_us, double run_us);

/// One line for each figure.
std::string to_text(const StepSums& sums);

}  // namespace kn::tool
