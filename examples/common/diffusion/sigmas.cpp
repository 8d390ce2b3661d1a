// Methods that step along the noise level: Euler's, with and without fresh noise, and Heun's, after
// "Elucidating the Design Space of Diffusion-Based Generative Models" (Karras et al. 2022) and
// k-diffusion; there, too: linear multistep (LMS) and DPM-Solver-2 with a step to the middle (KDPM2).
#include <algorithm>
#include <cmath>

#include "common/diffusion/levels.h"

namespace diffusion {

namespace {

Schedule starting_at(const Config& config, const Levels& levels, std::size_t first) {
    Schedule out;
    const double highest = *std::ranges::max_element(levels.sigmas);
    const bool leading = config.timestep_spacing == "leading";
    out.init_noise_sigma = leading ? std::sqrt(highest * highest + 1) : highest;
    if (first < levels.timesteps.size()) out.start_noise = levels.sigmas[first];
    return out;
}

/// The noise that an ancestral step from `sigma` to `next` adds, and the level it leaves below.
struct Ancestral {
    Ancestral(double sigma, double next)
        : up(std::sqrt(next * next * (sigma * sigma - next * next) / (sigma * sigma))),
          down(std::sqrt(next * next - up * up)) {}
    double up;
    double down;
};

// At this level the network is asked for the original, which becomes Converted.
Step asking(const Config& config, double timestep, double sigma) {
    Step step;
    step.timestep = timestep;
    step.input_scale = 1 / std::sqrt(sigma * sigma + 1);
    const Linear original = original_at(config, sigma);
    step.from_sample = step.original_sample = original.from_sample;
    step.from_output = step.original_output = original.from_output;
    if (config.clip_sample) step.clamp = config.clip_sample_range;
    return step;
}

// x + (x - original) / sigma * reach
std::vector<Term> along_slope(double sigma, double reach) {
    return {{Source::Sample, 1 + reach / sigma}, {Source::Converted, -reach / sigma}};
}

// The integral from levels[i] to levels[i + 1] of the Lagrange polynomial that is 1 at levels[i - k]
// and 0 at the other `order` - 1 levels up to i.
double lms_weight(const std::vector<double>& levels, std::size_t i, std::size_t order,
                  std::size_t k) {
    std::vector<double> polynomial = {1};  // in (sigma - levels[i]), constant first
    for (std::size_t other = 0; other < order; other++) {
        if (other == k) continue;
        const double root = levels[i - other] - levels[i];
        const double scale = 1 / (levels[i - k] - levels[i - other]);
        std::vector<double> product(polynomial.size() + 1, 0.0);
        for (std::size_t power = 0; power < polynomial.size(); power++) {
            product[power] -= polynomial[power] * root * scale;
            product[power + 1] += polynomial[power] * scale;
        }
        polynomial = std::move(product);
    }
    const double width = levels[i + 1] - levels[i];
    double sum = 0;
    for (std::size_t power = polynomial.size(); power-- > 0;)
        sum = (sum + polynomial[power] / static_cast<double>(power + 1)) * width;
    return sum;
}

}  // namespace

Schedule euler_schedule(const Config& config, int steps, std::size_t first) {
    const Levels levels = euler_levels(config, Tables(config), steps);
    Schedule out = starting_at(config, levels, first);
    for (std::size_t i = first; i < levels.timesteps.size(); i++) {
        const double sigma = levels.sigmas[i], next = levels.sigmas[i + 1];
        Step step;
        step.timestep = levels.timesteps[i];
        step.input_scale = 1 / std::sqrt(sigma * sigma + 1);
        const Ancestral parts(sigma, next);
        const bool ancestral = config.method == Method::EulerAncestral;
        const double reach = ((ancestral ? parts.down : next) - sigma) / sigma;
        const Linear original = original_at(config, sigma);
        step.original_sample = original.from_sample;
        step.original_output = original.from_output;
        step.next = {{Source::Sample, 1 + (1 - original.from_sample) * reach},
                     {Source::Output, -original.from_output * reach}};
        if (ancestral) step.next.push_back({Source::Noise, parts.up});
        out.steps.push_back(std::move(step));
    }
    return out;
}

Schedule heun_schedule(const Config& config, int steps, std::size_t first) {
    const Levels levels = euler_levels(config, Tables(config), steps);
    Schedule out = starting_at(config, levels, first);
    for (std::size_t i = first; i < levels.timesteps.size(); i++) {
        const double sigma = levels.sigmas[i], next = levels.sigmas[i + 1];
        Step step = asking(config, levels.timesteps[i], sigma);
        step.next = along_slope(sigma, next - sigma);
        if (next == 0) {
            out.steps.push_back(std::move(step));
            break;
        }
        step.save_sample = true;
        step.store = 0;
        out.steps.push_back(std::move(step));
        // From where it was, along the mean of the slopes there and at the next level.
        Step again = asking(config, levels.timesteps[i + 1], next);
        const double half = (next - sigma) / 2;
        again.next = {{Source::Saved, 1 + half / sigma},
                      {Source::Slot0, -half / sigma},
                      {Source::Sample, half / next},
                      {Source::Converted, -half / next}};
        out.steps.push_back(std::move(again));
    }
    return out;
}

Schedule kdpm2_schedule(const Config& config, int steps, std::size_t first) {
    const Tables tables(config);
    const Levels levels = euler_levels(config, tables, steps);
    const bool ancestral = config.method == Method::Kdpm2Ancestral;
    Schedule out = starting_at(config, levels, first);
    for (std::size_t i = first; i < levels.timesteps.size(); i++) {
        const double sigma = levels.sigmas[i], next = levels.sigmas[i + 1];
        const Ancestral parts(sigma, next);
        const double target = ancestral ? parts.down : next;
        const double middle = std::sqrt(sigma * target);
        Step step = asking(config, levels.timesteps[i], sigma);
        step.next = along_slope(sigma, middle - sigma);
        step.save_sample = true;
        out.steps.push_back(std::move(step));
        if (next == 0) break;
        // From where it was, along the slope in the middle.
        Step again = asking(config, tables.timestep_of(middle), middle);
        const double reach = (target - sigma) / middle;
        again.next = {{Source::Saved, 1}, {Source::Sample, reach}, {Source::Converted, -reach}};
        if (ancestral) again.next.push_back({Source::Noise, parts.up});
        out.steps.push_back(std::move(again));
    }
    return out;
}

Schedule lms_schedule(const Config& config, int steps, std::size_t first) {
    const Levels levels = euler_levels(config, Tables(config), steps);
    Schedule out = starting_at(config, levels, first);
    for (std::size_t i = first; i < levels.timesteps.size(); i++) {
        const double sigma = levels.sigmas[i];
        Step step = asking(config, levels.timesteps[i], sigma);
        // Kept are slopes: (x - original) / sigma.
        step.from_sample = (1 - step.from_sample) / sigma;
        step.from_output = -step.from_output / sigma;
        step.store = i % 4;
        step.next = {{Source::Sample, 1}};
        // A start from a picture has fewer slopes than its polynomials could take; the rest is
        // left out, as diffusers does.
        const std::size_t order = std::min<std::size_t>(i + 1, 4);
        for (std::size_t k = 0; k < std::min(order, i - first + 1); k++)
            step.next.push_back({slot((i - k) % 4), lms_weight(levels.sigmas, i, order, k)});
        out.steps.push_back(std::move(step));
    }
    return out;
}

}  // namespace diffusion
