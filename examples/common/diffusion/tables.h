// What all methods start from: the training's noise levels, and the timesteps of a run.
#pragma once

#include "common/diffusion/scheduler.h"

namespace diffusion {

/// Products of (1 - beta) after each training step, rounded to float where diffusers keeps floats,
/// since small differences of them matter.
struct Tables {
    explicit Tables(const Config& config);
    std::vector<float> alphas_cumprod;
    std::vector<float> sigmas;  ///< sqrt((1 - alpha) / alpha)
    double final_alpha = 1;     ///< below timestep 0

    /// At a run's timestep; -1 is the last (trailing timesteps may end there). Throws
    /// std::runtime_error for a timestep that the training did not have.
    double alpha(std::int64_t timestep) const;
    /// At the timestep that follows; final_alpha below 0.
    double next_alpha(std::int64_t timestep) const {
        return timestep < 0 ? final_alpha : alpha(timestep);
    }
    /// sigmas at a fractional position, clamped to the ends.
    double sigma(double timestep) const;
    /// The position at which sigma() gives this value, by logarithms.
    double timestep_of(double sigma) const;
};

/// NumPy's linspace, and arange with a step of any sign.
std::vector<double> linspace(double from, double to, std::size_t count);
std::vector<double> arange(double from, double to, double step);
/// To the nearest integer, halves to even.
double round_even(double value);

/// Descending timesteps as the config's timestep_spacing says; not rounded for linspace where
/// `fractional`.
std::vector<double> spaced_timesteps(const Config& config, int steps, bool fractional);

/// What the network means by its output: original picture = x * from_sample + e * from_output, for
/// x = alpha * original + sigma * noise.
struct Linear {
    double from_sample;
    double from_output;
};
Linear original_of(const Config& config, double alpha, double sigma);

/// Throws std::runtime_error if a weight is not finite.
void refuse_infinite(const Schedule& schedule, const std::string& name);

// One per method; `first` steps are left out.
Schedule pndm_schedule(const Config& config, int steps, std::size_t first);
Schedule ddim_schedule(const Config& config, int steps, std::size_t first);
Schedule euler_schedule(const Config& config, int steps, std::size_t first);
Schedule dpm_solver_schedule(const Config& config, int steps, std::size_t first);
Schedule dpm_single_schedule(const Config& config, int steps, std::size_t first);
Schedule deis_schedule(const Config& config, int steps, std::size_t first);
Schedule unipc_schedule(const Config& config, int steps, std::size_t first);
Schedule heun_schedule(const Config& config, int steps, std::size_t first);
Schedule lms_schedule(const Config& config, int steps, std::size_t first);
Schedule kdpm2_schedule(const Config& config, int steps, std::size_t first);
Schedule ddpm_schedule(const Config& config, int steps, std::size_t first);
Schedule lcm_schedule(const Config& config, int steps, std::size_t first);
Schedule tcd_schedule(const Config& config, int steps, std::size_t first);

}  // namespace diffusion
