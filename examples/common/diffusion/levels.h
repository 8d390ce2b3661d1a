// Noise levels of a run, for the methods that count in them.
#pragma once

#include <cmath>
#include <limits>

#include "common/diffusion/tables.h"

namespace diffusion {

struct Levels {
    std::vector<double> timesteps;
    std::vector<double> sigmas;  ///< one more than timesteps
};

/// As the methods after k-diffusion space them: Euler's, Heun's, LMS and KDPM2.
Levels euler_levels(const Config& config, const Tables& tables, int steps);
/// As the DPM solvers, DEIS and UniPC space them.
Levels solver_levels(const Config& config, const Tables& tables, int steps);

/// A noise level as the solver sees it: x = alpha * original + sigma * noise.
struct Level {
    explicit Level(double ratio)
        : alpha(1 / std::sqrt(ratio * ratio + 1)),
          sigma(ratio * alpha),
          lambda(ratio > 0 ? -std::log(ratio) : std::numeric_limits<double>::infinity()) {}
    double alpha;
    double sigma;
    double lambda;
};

/// What the network's output says of the original where x = original + sigma * noise.
Linear original_at(const Config& config, double sigma);

}  // namespace diffusion
