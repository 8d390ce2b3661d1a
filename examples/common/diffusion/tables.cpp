#include "common/diffusion/tables.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <stdexcept>

namespace diffusion {

namespace {

// "Common Diffusion Noise Schedules and Sample Steps are Flawed" (Lin et al. 2023), algorithm 1.
std::vector<float> rescaled_to_zero_snr(const std::vector<float>& betas) {
    std::vector<float> root;
    double product = 1;
    for (const float beta : betas) {
        product *= static_cast<double>(1.0f - beta);
        root.push_back(std::sqrt(static_cast<float>(product)));
    }
    const float first = root.front(), last = root.back();
    std::vector<float> out;
    float before = 1;
    for (const float r : root) {
        const float shifted = (r - last) * (first / (first - last));
        const float bar = shifted * shifted;
        out.push_back(1.0f - bar / before);
        before = bar;
    }
    return out;
}

std::vector<float> make_betas(const Config& config) {
    if (!config.trained_betas.empty()) return config.trained_betas;
    const auto count = static_cast<std::size_t>(config.train_steps);
    std::vector<float> betas;
    if (config.beta_schedule == "squaredcos_cap_v2") {
        const auto bar = [](double t) {
            const double c = std::cos((t + 0.008) / 1.008 * std::numbers::pi / 2);
            return c * c;
        };
        for (std::size_t i = 0; i < count; i++) {
            const double from = static_cast<double>(i) / static_cast<double>(count);
            const double to = static_cast<double>(i + 1) / static_cast<double>(count);
            betas.push_back(static_cast<float>(std::min(1 - bar(to) / bar(from), 0.999)));
        }
        return betas;
    }
    const bool scaled = config.beta_schedule == "scaled_linear";
    const double from = scaled ? std::sqrt(config.beta_start) : config.beta_start;
    const double to = scaled ? std::sqrt(config.beta_end) : config.beta_end;
    for (const double value : linspace(from, to, count)) {
        const auto beta = static_cast<float>(value);
        betas.push_back(scaled ? beta * beta : beta);
    }
    return betas;
}

}  // namespace

Tables::Tables(const Config& config) {
    std::vector<float> betas = make_betas(config);
    if (config.rescale_betas_zero_snr) betas = rescaled_to_zero_snr(betas);
    double product = 1;
    for (const float beta : betas) {
        product *= static_cast<double>(1.0f - beta);
        alphas_cumprod.push_back(static_cast<float>(product));
    }
    // Methods that divide by the last alpha take a small one for 0.
    const bool by_sigma = config.method == Method::Euler ||
                          config.method == Method::EulerAncestral ||
                          config.method == Method::DpmSolver || config.method == Method::UniPc;
    if (config.rescale_betas_zero_snr && by_sigma) alphas_cumprod.back() = std::ldexp(1.0f, -24);
    final_alpha = config.set_alpha_to_one ? 1.0 : static_cast<double>(alphas_cumprod[0]);
    for (const float a : alphas_cumprod) sigmas.push_back(std::sqrt((1.0f - a) / a));
}

double Tables::alpha(std::int64_t timestep) const {
    if (timestep == -1) return alphas_cumprod.back();
    if (timestep < 0 || static_cast<std::size_t>(timestep) >= alphas_cumprod.size())
        throw std::runtime_error(
            "with these steps and this steps_offset the scheduler needs timestep " +
            std::to_string(timestep) + ", but training had " +
            std::to_string(alphas_cumprod.size()));
    return alphas_cumprod[static_cast<std::size_t>(timestep)];
}

double Tables::sigma(double timestep) const {
    if (timestep <= 0) return sigmas.front();
    const auto low = static_cast<std::size_t>(timestep);
    if (low + 1 >= sigmas.size()) return sigmas.back();
    const double slope = static_cast<double>(sigmas[low + 1]) - static_cast<double>(sigmas[low]);
    return slope * (timestep - static_cast<double>(low)) + static_cast<double>(sigmas[low]);
}

double Tables::timestep_of(double sigma) const {
    if (sigmas.size() < 2) return 0;
    const double wanted = std::log(std::max(sigma, 1e-10));
    const auto log_at = [&](std::size_t i) { return static_cast<double>(std::log(sigmas[i])); };
    std::size_t low = 0;
    for (std::size_t i = 0; i + 1 < sigmas.size(); i++)
        if (log_at(i) <= wanted) low = i;
    const double fraction = (log_at(low) - wanted) / (log_at(low) - log_at(low + 1));
    const double weight = std::clamp(fraction, 0.0, 1.0);
    return (1 - weight) * static_cast<double>(low) + weight * static_cast<double>(low + 1);
}

std::vector<double> linspace(double from, double to, std::size_t count) {
    std::vector<double> out;
    const double step = count > 1 ? (to - from) / static_cast<double>(count - 1) : 0;
    for (std::size_t i = 0; i < count; i++) out.push_back(from + static_cast<double>(i) * step);
    if (count > 1) out.back() = to;
    return out;
}

std::vector<double> arange(double from, double to, double step) {
    std::vector<double> out;
    const auto count = static_cast<std::int64_t>(std::ceil((to - from) / step));
    const double delta = (from + step) - from;
    for (std::int64_t i = 0; i < count; i++) out.push_back(from + static_cast<double>(i) * delta);
    return out;
}

double round_even(double value) { return std::nearbyint(value); }

std::vector<double> spaced_timesteps(const Config& config, int steps, bool fractional) {
    const auto count = static_cast<std::size_t>(steps);
    std::vector<double> out;
    if (config.timestep_spacing == "linspace") {
        out = linspace(0, config.train_steps - 1, count);
        for (double& t : out)
            t = fractional ? static_cast<double>(static_cast<float>(t)) : round_even(t);
        std::ranges::reverse(out);
    } else if (config.timestep_spacing == "leading") {
        const int ratio = config.train_steps / steps;
        for (int i = steps - 1; i >= 0; i--) out.push_back(i * ratio + config.steps_offset);
    } else {
        out = arange(config.train_steps, 0, -static_cast<double>(config.train_steps) / steps);
        for (double& t : out) t = round_even(t) - 1;
    }
    return out;
}

Linear original_of(const Config& config, double alpha, double sigma) {
    if (config.prediction_type == "sample") return {0, 1};
    if (config.prediction_type == "v_prediction") return {alpha, -sigma};
    return {1 / alpha, -sigma / alpha};
}

void refuse_infinite(const Schedule& schedule, const std::string& name) {
    for (const Step& step : schedule.steps)
        for (const Term& term : step.next)
            if (!std::isfinite(term.weight))
                throw std::runtime_error("with this scheduler configuration " + name +
                                         " divides by zero: use final_sigmas_type zero with "
                                         "lower_order_final and predict_x0, or sigma_min without "
                                         "use_karras_sigmas, use_exponential_sigmas and "
                                         "use_beta_sigmas");
}

Schedule make_schedule(const Config& config, int steps, std::size_t skipped) {
    if (steps < 1 || steps > config.train_steps)
        throw std::runtime_error("the number of steps must be from 1 to " +
                                 std::to_string(config.train_steps) +
                                 " (the training steps), not " + std::to_string(steps));
    Schedule out;
    switch (config.method) {
        case Method::Pndm:
            out = pndm_schedule(config, steps, skipped);
            break;
        case Method::Ddim:
            out = ddim_schedule(config, steps, skipped);
            break;
        case Method::Ddpm:
            out = ddpm_schedule(config, steps, skipped);
            break;
        case Method::Euler:
        case Method::EulerAncestral:
            out = euler_schedule(config, steps, skipped);
            break;
        case Method::Heun:
            out = heun_schedule(config, steps, skipped);
            break;
        case Method::Lms:
            out = lms_schedule(config, steps, skipped);
            break;
        case Method::Kdpm2:
        case Method::Kdpm2Ancestral:
            out = kdpm2_schedule(config, steps, skipped);
            break;
        case Method::DpmSolver:
            out = dpm_solver_schedule(config, steps, skipped);
            break;
        case Method::DpmSingle:
            out = dpm_single_schedule(config, steps, skipped);
            break;
        case Method::Deis:
            out = deis_schedule(config, steps, skipped);
            break;
        case Method::UniPc:
            out = unipc_schedule(config, steps, skipped);
            break;
        case Method::Lcm:
            out = lcm_schedule(config, steps, skipped);
            break;
        case Method::Tcd:
            out = tcd_schedule(config, steps, skipped);
            break;
    }
    out.threshold_ratio = config.thresholding_ratio;
    out.threshold_max = config.sample_max_value;
    return out;
}

}  // namespace diffusion
