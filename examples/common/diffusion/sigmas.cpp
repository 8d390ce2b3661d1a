// Methods that count in noise levels: Euler's, and Euler's with fresh noise at every step, after
// "Elucidating the Design Space of Diffusion-Based Generative Models" (Karras et al. 2022) and
// k-diffusion; DPM-Solver(++), "Fast Solver for Guided Sampling" (Lu et al. 2022).
#include <algorithm>
#include <cmath>
#include <limits>

#include "common/diffusion/tables.h"

namespace diffusion {

namespace {

struct Levels {
    std::vector<double> timesteps;
    std::vector<double> sigmas;  // one more than timesteps
};

// `highest` and `lowest` of the levels, spaced as the config says.
std::vector<double> respaced(const Config& config, double highest, double lowest, int steps) {
    lowest = config.sigma_min.value_or(lowest);
    highest = config.sigma_max.value_or(highest);
    std::vector<double> out;
    if (config.karras_sigmas) {
        constexpr double rho = 7;
        const double from = std::pow(highest, 1 / rho), to = std::pow(lowest, 1 / rho);
        for (const double ramp : linspace(0, 1, static_cast<std::size_t>(steps)))
            out.push_back(std::pow(from + ramp * (to - from), rho));
    } else {
        for (const double log :
             linspace(std::log(highest), std::log(lowest), static_cast<std::size_t>(steps)))
            out.push_back(std::exp(log));
    }
    return out;
}

void finish(const Config& config, const Tables& tables, Levels& levels) {
    levels.sigmas.push_back(
        config.final_sigmas_type == "sigma_min" ? static_cast<double>(tables.sigmas[0]) : 0.0);
    for (double& sigma : levels.sigmas) sigma = static_cast<double>(static_cast<float>(sigma));
}

Levels euler_levels(const Config& config, const Tables& tables, int steps) {
    Levels out;
    out.timesteps = spaced_timesteps(config, steps, true);
    for (const double t : out.timesteps) out.sigmas.push_back(tables.sigma(t));
    if (config.method == Method::EulerAncestral) {
        finish(config, tables, out);
        return out;
    }
    if (config.interpolation_type == "log_linear") {
        out.sigmas.clear();
        const double highest = std::log(tables.sigmas.back()),
                     lowest = std::log(tables.sigmas.front());
        for (const double log : linspace(highest, lowest, static_cast<std::size_t>(steps) + 1))
            out.sigmas.push_back(std::exp(log));
    }
    if (config.karras_sigmas || config.exponential_sigmas) {
        out.sigmas = respaced(config, out.sigmas.front(), out.sigmas.back(), steps);
        out.timesteps.clear();
        for (const double sigma : out.sigmas)
            out.timesteps.push_back(
                static_cast<double>(static_cast<float>(tables.timestep_of(sigma))));
    }
    finish(config, tables, out);
    if (config.continuous_timesteps && config.prediction_type == "v_prediction")
        for (std::size_t i = 0; i < out.timesteps.size(); i++)
            out.timesteps[i] = 0.25 * std::log(out.sigmas[i]);
    return out;
}

// The first training step whose signal-to-noise ratio is not below the clip.
int clipped_train_steps(const Config& config, const Tables& tables) {
    int last = config.train_steps;
    for (std::size_t i = tables.sigmas.size(); i-- > 0; last--) {
        const float alpha = std::sqrt(tables.alphas_cumprod[i]);
        const float sigma = std::sqrt(1.0f - tables.alphas_cumprod[i]);
        if (static_cast<double>(std::log(alpha) - std::log(sigma)) >= config.lambda_min_clipped)
            break;
    }
    return last;
}

Levels dpm_levels(const Config& config, const Tables& tables, int steps) {
    Levels out;
    if (config.karras_sigmas || config.exponential_sigmas || config.lu_lambdas) {
        const double highest = tables.sigmas.back(), lowest = tables.sigmas.front();
        if (config.karras_sigmas || !config.lu_lambdas) {
            out.sigmas = respaced(config, highest, lowest, steps);
        } else {
            Config plain = config;  // logarithms spaced evenly, over the whole range
            plain.sigma_min = plain.sigma_max = std::nullopt;
            out.sigmas = respaced(plain, highest, lowest, steps);
        }
        const bool whole = (config.karras_sigmas || config.lu_lambdas) &&
                           config.beta_schedule != "squaredcos_cap_v2";
        for (const double sigma : out.sigmas) {
            const double t = tables.timestep_of(sigma);
            out.timesteps.push_back(whole ? round_even(t) : std::trunc(t));
        }
    } else {
        const int last = clipped_train_steps(config, tables);
        if (config.timestep_spacing == "linspace") {
            const std::vector<double> up =
                linspace(0, last - 1, static_cast<std::size_t>(steps) + 1);
            for (std::size_t i = up.size(); i-- > 1;) out.timesteps.push_back(round_even(up[i]));
        } else if (config.timestep_spacing == "leading") {
            const int ratio = last / (steps + 1);
            for (int i = steps; i > 0; i--)
                out.timesteps.push_back(i * ratio + config.steps_offset);
        } else {
            const double step = -static_cast<double>(config.train_steps) / steps;
            for (const double t : arange(last, 0, step)) out.timesteps.push_back(round_even(t) - 1);
        }
        for (const double t : out.timesteps) out.sigmas.push_back(tables.sigma(t));
    }
    finish(config, tables, out);
    return out;
}

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

class DpmSolver {
  public:
    DpmSolver(const Config& config, int steps)
        : config_(config),
          levels_(dpm_levels(config, Tables(config), steps)),
          plus_(config.algorithm_type.ends_with("++")),
          sde_(config.algorithm_type.starts_with("sde")) {}

    Schedule schedule(std::size_t first) const {
        Schedule out;
        const std::size_t count = levels_.timesteps.size();
        for (std::size_t i = first; i < count; i++) {
            const Level now(levels_.sigmas[i]);
            if (i == first) {
                out.start_original = now.alpha;
                out.start_noise = now.sigma;
            }
            Step step;
            step.timestep = levels_.timesteps[i];
            convert(now, step);
            step.store = i % 3;
            const bool last = i + 1 == count, before_last = i + 2 == count;
            const bool few = config_.lower_order_final && count < 15;
            std::size_t order = std::min<std::size_t>(
                static_cast<std::size_t>(config_.solver_order), i - first + 1);
            if (last && (config_.euler_at_final || few || config_.final_sigmas_type == "zero"))
                order = 1;
            if (before_last && few) order = std::min<std::size_t>(order, 2);
            update(i, order, step);
            out.steps.push_back(std::move(step));
        }
        return out;
    }

  private:
    // The solver works on predictions of the original (++) or of the noise.
    void convert(const Level& now, Step& step) const {
        const Linear original = original_of(config_, now.alpha, now.sigma);
        step.original_sample = original.from_sample;
        step.original_output = original.from_output;
        if (plus_) {
            step.from_sample = original.from_sample;
            step.from_output = original.from_output;
            step.threshold = config_.thresholding;
        } else if (config_.prediction_type == "epsilon") {
            step.from_sample = 0;
            step.from_output = 1;
        } else {
            step.from_sample = (1 - now.alpha * original.from_sample) / now.sigma;
            step.from_output = -now.alpha * original.from_output / now.sigma;
        }
    }

    // x' = scale * x + factors[0] * D0 + factors[1] * D1 + factors[2] * D2 + fresh * noise, where
    // D0 is the newest prediction and D1, D2 are divided differences.
    void update(std::size_t i, std::size_t order, Step& step) const {
        const Level now(levels_.sigmas[i]), next(levels_.sigmas[i + 1]);
        const double h = next.lambda - now.lambda;
        // The exponential that weights predictions: of -h for the original, of h for the noise,
        // with twice the exponent where noise is added.
        const double exponent = sde_ && plus_ ? -2 * h : plus_ ? -h : h;
        const double grow = std::expm1(exponent);
        const double unit = plus_ ? next.alpha : next.sigma * (sde_ ? 2 : 1);
        double scale = plus_ ? next.sigma / now.sigma : next.alpha / now.alpha;
        if (sde_ && plus_) scale *= std::exp(-h);
        double factors[3] = {-unit * grow, 0, 0};
        if (order == 2 && config_.solver_type == "midpoint") factors[1] = -0.5 * unit * grow;
        if (order >= 2 && !(order == 2 && config_.solver_type == "midpoint"))
            factors[1] = plus_ ? unit * (1 - grow / exponent) : -unit * (grow / h - 1);
        if (order == 3) factors[2] = third(exponent, grow, unit);
        step.next = {{Source::Sample, scale}};
        add_differences(i, order, factors, h, step);
        if (!sde_) return;
        const double fresh = plus_ ? std::sqrt(-std::expm1(-2 * h)) : std::sqrt(std::expm1(2 * h));
        step.next.push_back({Source::Noise, next.sigma * fresh});
    }

    double third(double exponent, double grow, double unit) const {
        const double rest = (grow - exponent) / (exponent * exponent);
        return -unit * (rest + (sde_ && plus_ ? 0.5 : -0.5));  // the sign as in diffusers
    }

    void add_differences(std::size_t i, std::size_t order, const double (&factors)[3], double h,
                         Step& step) const {
        double weights[3] = {factors[0], 0, 0};
        const auto lambda = [&](std::size_t k) { return Level(levels_.sigmas[k]).lambda; };
        if (order == 2) {
            const double inverse = h / (lambda(i) - lambda(i - 1));  // 1 / r0
            weights[0] += factors[1] * inverse;
            weights[1] -= factors[1] * inverse;
        } else if (order == 3) {
            const double r0 = (lambda(i) - lambda(i - 1)) / h;
            const double r1 = (lambda(i - 1) - lambda(i - 2)) / h;
            // D1 = d0 + r0 / (r0 + r1) (d0 - d1), D2 = (d0 - d1) / (r0 + r1), d0 = (m0 - m1) / r0,
            // d1 = (m1 - m2) / r1
            const double of_d0 = factors[1] * (1 + r0 / (r0 + r1)) + factors[2] / (r0 + r1);
            const double of_d1 = -factors[1] * r0 / (r0 + r1) - factors[2] / (r0 + r1);
            weights[0] += of_d0 / r0;
            weights[1] += -of_d0 / r0 + of_d1 / r1;
            weights[2] -= of_d1 / r1;
        }
        for (std::size_t k = 0; k < order; k++)
            step.next.push_back({slot((i - k) % 3), weights[k]});
    }

    const Config& config_;
    Levels levels_;
    bool plus_;
    bool sde_;
};

}  // namespace

Schedule euler_schedule(const Config& config, int steps, std::size_t first) {
    const Levels levels = euler_levels(config, Tables(config), steps);
    Schedule out;
    const double highest = *std::ranges::max_element(levels.sigmas);
    const bool leading = config.timestep_spacing == "leading";
    out.init_noise_sigma = leading ? std::sqrt(highest * highest + 1) : highest;
    for (std::size_t i = first; i < levels.timesteps.size(); i++) {
        const double sigma = levels.sigmas[i], next = levels.sigmas[i + 1];
        if (i == first) out.start_noise = sigma;
        Step step;
        step.timestep = levels.timesteps[i];
        step.input_scale = 1 / std::sqrt(sigma * sigma + 1);
        double up = 0, down = next;
        if (config.method == Method::EulerAncestral) {
            up = std::sqrt(next * next * (sigma * sigma - next * next) / (sigma * sigma));
            down = std::sqrt(next * next - up * up);
        }
        const double reach = (down - sigma) / sigma;
        Linear original{0, 1};
        if (config.prediction_type == "v_prediction")
            original = {1 / (sigma * sigma + 1), -sigma / std::sqrt(sigma * sigma + 1)};
        else if (config.prediction_type == "epsilon")
            original = {1, -sigma};
        step.original_sample = original.from_sample;
        step.original_output = original.from_output;
        step.next = {{Source::Sample, 1 + (1 - original.from_sample) * reach},
                     {Source::Output, -original.from_output * reach}};
        if (config.method == Method::EulerAncestral) step.next.push_back({Source::Noise, up});
        out.steps.push_back(std::move(step));
    }
    return out;
}

Schedule dpm_solver_schedule(const Config& config, int steps, std::size_t first) {
    return DpmSolver(config, steps).schedule(first);
}

}  // namespace diffusion
