// DDIM without added noise: "Denoising Diffusion Implicit Models" (Song et al. 2021), formula (12).
// DDPM: "Denoising Diffusion Probabilistic Models" (Ho et al. 2020), formula (7).
// LCM: "Latent Consistency Models" (Luo et al. 2023).
// TCD: "Trajectory Consistency Distillation" (Zheng et al. 2024), with gamma (eta) 0, which is what
// diffusers' pipelines ask for by default.
#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "common/diffusion/tables.h"

namespace diffusion {

namespace {

void set_original(const Config& config, double alpha, Step& step) {
    const Linear original = original_of(config, std::sqrt(alpha), std::sqrt(1 - alpha));
    step.from_sample = step.original_sample = original.from_sample;
    step.from_output = step.original_output = original.from_output;
    step.threshold = config.thresholding;
    if (config.clip_sample && !config.thresholding) step.clamp = config.clip_sample_range;
}

void set_start(double alpha, Schedule& schedule) {
    schedule.start_original = std::sqrt(alpha);
    schedule.start_noise = std::sqrt(1 - alpha);
}

// Out of the `original_steps` that a consistency model was distilled for.
std::vector<std::int64_t> distilled_timesteps(const Config& config, int steps) {
    if (steps > config.original_steps)
        throw std::runtime_error("this scheduler makes at most " +
                                 std::to_string(config.original_steps) +
                                 " steps (original_inference_steps), not " + std::to_string(steps));
    const int ratio = config.train_steps / config.original_steps;
    std::vector<std::int64_t> out;
    const double stride = static_cast<double>(config.original_steps) / steps;
    for (int i = 0; i < steps; i++)
        out.push_back((config.original_steps - static_cast<int>(std::floor(i * stride))) * ratio -
                      1);
    return out;
}

}  // namespace

Schedule ddim_schedule(const Config& config, int steps, std::size_t first) {
    const Tables tables(config);
    const std::vector<double> timesteps = spaced_timesteps(config, steps, false);
    Schedule out;
    for (std::size_t i = first; i < timesteps.size(); i++) {
        const auto timestep = static_cast<std::int64_t>(timesteps[i]);
        const double alpha = tables.alpha(timestep);
        const double previous = tables.next_alpha(timestep - config.train_steps / steps);
        const double a = std::sqrt(alpha), b = std::sqrt(1 - alpha);
        if (i == first) set_start(alpha, out);
        Step step;
        step.timestep = static_cast<double>(timestep);
        set_original(config, alpha, step);
        const double direction = std::sqrt(1 - previous);
        step.next = {{Source::Converted, std::sqrt(previous)}};
        if (config.prediction_type == "sample") {
            step.next.push_back({Source::Sample, direction / b});
            step.next.push_back({Source::Output, -direction * a / b});
        } else if (config.prediction_type == "v_prediction") {
            step.next.push_back({Source::Output, direction * a});
            step.next.push_back({Source::Sample, direction * b});
        } else {
            step.next.push_back({Source::Output, direction});
        }
        out.steps.push_back(std::move(step));
    }
    return out;
}

Schedule ddpm_schedule(const Config& config, int steps, std::size_t first) {
    const Tables tables(config);
    const std::vector<double> timesteps = spaced_timesteps(config, steps, false);
    Schedule out;
    for (std::size_t i = first; i < timesteps.size(); i++) {
        const auto timestep = static_cast<std::int64_t>(timesteps[i]);
        const double alpha = tables.alpha(timestep);
        const bool last = i + 1 == timesteps.size() || timesteps[i + 1] < 0;
        const double previous =
            last ? 1 : tables.alpha(static_cast<std::int64_t>(timesteps[i + 1]));
        if (i == first) set_start(alpha, out);
        Step step;
        step.timestep = static_cast<double>(timestep);
        set_original(config, alpha, step);
        const double beta = 1 - alpha / previous;
        step.next = {{Source::Converted, std::sqrt(previous) * beta / (1 - alpha)},
                     {Source::Sample, std::sqrt(alpha / previous) * (1 - previous) / (1 - alpha)}};
        const double small = std::max((1 - previous) / (1 - alpha) * beta, 1e-20);
        if (timestep > 0)
            step.next.push_back(
                {Source::Noise, std::sqrt(config.variance_type == "fixed_large" ? beta : small)});
        out.steps.push_back(std::move(step));
    }
    return out;
}

Schedule tcd_schedule(const Config& config, int steps, std::size_t first) {
    const Tables tables(config);
    const std::vector<std::int64_t> timesteps = distilled_timesteps(config, steps);
    Schedule out;
    for (std::size_t i = first; i < timesteps.size(); i++) {
        const double alpha = tables.alpha(timesteps[i]);
        const double next = tables.alpha(i + 1 < timesteps.size() ? timesteps[i + 1] : 0);
        if (i == first) set_start(alpha, out);
        Step step;
        step.timestep = static_cast<double>(timesteps[i]);
        set_original(config, alpha, step);
        // x' = a' original + b' e, with the e that x = a original + b e says.
        const double turn = std::sqrt((1 - next) / (1 - alpha));
        step.next = {{Source::Sample, turn},
                     {Source::Converted, std::sqrt(next) - turn * std::sqrt(alpha)}};
        out.steps.push_back(std::move(step));
    }
    return out;
}

Schedule lcm_schedule(const Config& config, int steps, std::size_t first) {
    const Tables tables(config);
    const std::vector<std::int64_t> timesteps = distilled_timesteps(config, steps);
    Schedule out;
    for (std::size_t i = first; i < timesteps.size(); i++) {
        const double alpha = tables.alpha(timesteps[i]);
        if (i == first) set_start(alpha, out);
        Step step;
        step.timestep = static_cast<double>(timesteps[i]);
        set_original(config, alpha, step);
        constexpr double sigma_data = 0.5;
        const double scaled = step.timestep * config.timestep_scaling;
        const double norm = scaled * scaled + sigma_data * sigma_data;
        const double skip = sigma_data * sigma_data / norm;
        const double keep = scaled / std::sqrt(norm);
        const bool last = i + 1 == timesteps.size();
        const double previous = last ? 1 : tables.alpha(timesteps[i + 1]);
        step.next = {{Source::Converted, std::sqrt(previous) * keep},
                     {Source::Sample, std::sqrt(previous) * skip}};
        if (!last) step.next.push_back({Source::Noise, std::sqrt(1 - previous)});
        out.steps.push_back(std::move(step));
    }
    return out;
}

}  // namespace diffusion
