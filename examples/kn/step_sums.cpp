#include "step_sums.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <fmt/core.h>

namespace kn::tool {

bool StepSums::fits() const { return std::abs(run_us - steps_us) <= 0.15 * run_us; }

StepSums add_up(const std::vector<double>& step_us, double run_us) {
    StepSums out;
    out.steps_us = std::accumulate(step_us.begin(), step_us.end(), 0.0);
    out.run_us = run_us;
    out.gaps_us = std::max(0.0, run_us - out.steps_us);
    out.overlap_us = std::max(0.0, out.steps_us - run_us);
    return out;
}

std::string to_text(const StepSums& sums) {
    return fmt::format(
        "steps measured alone: {:.1f} us\n"
        "+ gaps between steps: {:.1f} us\n"
        "- overlap of steps:   {:.1f} us\n"
        "= whole run:          {:.1f} us, of which the steps are {:.0f} %{}\n",
        sums.steps_us, sums.gaps_us, sums.overlap_us, sums.run_us,
        100 * sums.steps_us / std::max(sums.run_us, 1e-9),
        sums.fits() ? "" : ": more than 15 % off");
}

}  // namespace kn::tool
