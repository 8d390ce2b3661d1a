#include "common/diffusion/levels.h"

#include <algorithm>

namespace diffusion {

namespace {

bool is_respaced(const Config& config) {
    return config.karras_sigmas || config.exponential_sigmas || config.beta_sigmas;
}

// Where the beta distribution with both parameters 0.6 reaches probability p ("Beta Sampling is All
// You Need", Lee et al. 2024).
double beta_quantile(double p) {
    if (p > 0.5) return 1 - beta_quantile(1 - p);
    constexpr double a = 0.6;
    // The incomplete integral from 0 to x, not above 0.5, by its power series.
    const auto integral = [](double x) {
        double sum = 0, term = 1;
        for (int n = 0; n < 60; n++) {
            sum += term / (a + n);
            term *= (n + 1 - a) / (n + 1) * x;
        }
        return std::pow(x, a) * sum;
    };
    const double wanted = 2 * p * integral(0.5);
    double low = 0, high = 0.5;
    for (int i = 0; i < 60; i++) {
        const double middle = (low + high) / 2;
        (integral(middle) < wanted ? low : high) = middle;
    }
    return (low + high) / 2;
}

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
    } else if (config.beta_sigmas) {
        for (const double ramp : linspace(0, 1, static_cast<std::size_t>(steps)))
            out.push_back(lowest + beta_quantile(1 - ramp) * (highest - lowest));
    } else {
        for (const double log :
             linspace(std::log(highest), std::log(lowest), static_cast<std::size_t>(steps)))
            out.push_back(std::exp(log));
    }
    return out;
}

void finish(const Config& config, const Tables& tables, Levels& levels) {
    double last = config.final_sigmas_type == "sigma_min" || config.method == Method::Deis
                      ? static_cast<double>(tables.sigmas[0])
                      : 0.0;
    if (config.method == Method::Deis && is_respaced(config))
        last = levels.sigmas.back();  // as diffusers: the last step changes nothing
    levels.sigmas.push_back(last);
    for (double& sigma : levels.sigmas) sigma = static_cast<double>(static_cast<float>(sigma));
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

}  // namespace

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
    if (is_respaced(config)) {
        out.sigmas = respaced(config, out.sigmas.front(), out.sigmas.back(), steps);
        out.timesteps.clear();
        for (const double sigma : out.sigmas)
            out.timesteps.push_back(
                static_cast<double>(static_cast<float>(tables.timestep_of(sigma))));
        const bool whole =
            config.method == Method::Kdpm2 || config.method == Method::Kdpm2Ancestral;
        if (whole && config.karras_sigmas)
            for (double& t : out.timesteps) t = round_even(t);
    }
    finish(config, tables, out);
    if (config.continuous_timesteps && config.prediction_type == "v_prediction")
        for (std::size_t i = 0; i < out.timesteps.size(); i++)
            out.timesteps[i] = 0.25 * std::log(out.sigmas[i]);
    return out;
}

Levels solver_levels(const Config& config, const Tables& tables, int steps) {
    Levels out;
    if (is_respaced(config) || config.lu_lambdas) {
        const double highest = tables.sigmas.back(), lowest = tables.sigmas.front();
        if (config.karras_sigmas || !config.lu_lambdas) {
            out.sigmas = respaced(config, highest, lowest, steps);
        } else {
            Config plain = config;  // logarithms spaced evenly, over the whole range
            plain.sigma_min = plain.sigma_max = std::nullopt;
            plain.beta_sigmas = false;
            out.sigmas = respaced(plain, highest, lowest, steps);
        }
        const bool whole =
            (config.karras_sigmas || config.lu_lambdas) &&
            (config.method != Method::DpmSolver || config.beta_schedule != "squaredcos_cap_v2");
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

Linear original_at(const Config& config, double sigma) {
    if (config.prediction_type == "v_prediction")
        return {1 / (sigma * sigma + 1), -sigma / std::sqrt(sigma * sigma + 1)};
    if (config.prediction_type == "epsilon") return {1, -sigma};
    return {0, 1};
}

}  // namespace diffusion
