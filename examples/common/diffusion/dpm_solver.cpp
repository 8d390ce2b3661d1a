// DPM-Solver: "Fast Solver for Guided Sampling of Diffusion Probabilistic Models" (Lu et al. 2022),
// multistep and singlestep; DEIS: "Fast Sampling of Diffusion Models with Exponential Integrator"
// (Zhang and Chen 2023), in log rho.
#include <algorithm>
#include <cmath>

#include "common/diffusion/levels.h"

namespace diffusion {

namespace {

/// What one update multiplies: x' = scale * x + of[0] * D0 + of[1] * D1 + of[2] * D2 + fresh * noise,
/// where D0 is a prediction and D1, D2 are divided differences of several.
struct Factors {
    double scale = 0;
    double of[3] = {};
    std::optional<double> fresh;
};

class DpmSolver {
  public:
    DpmSolver(const Config& config, int steps)
        : config_(config),
          levels_(solver_levels(config, Tables(config), steps)),
          plus_(config.algorithm_type.ends_with("++")),
          sde_(config.algorithm_type.starts_with("sde")) {}

    Schedule multistep(std::size_t first) const {
        Schedule out = starting_at(first);
        const std::size_t count = levels_.timesteps.size();
        for (std::size_t i = first; i < count; i++) {
            Step step = asking(i);
            const bool last = i + 1 == count, before_last = i + 2 == count;
            const bool few = config_.lower_order_final && count < 15;
            std::size_t order = std::min<std::size_t>(
                static_cast<std::size_t>(config_.solver_order), i - first + 1);
            if (last && (config_.euler_at_final || few || config_.final_sigmas_type == "zero"))
                order = 1;
            if (before_last && few) order = std::min<std::size_t>(order, 2);
            const Factors factors = update(i, i + 1, order, order == 2 && !is_heun());
            step.next = {{Source::Sample, factors.scale}};
            add_backward_differences(i, order, factors, step);
            add_noise(factors, step);
            out.steps.push_back(std::move(step));
        }
        return out;
    }

    Schedule singlestep(std::size_t first) const {
        Schedule out = starting_at(first);
        const std::vector<std::size_t> orders = single_orders();
        for (std::size_t i = first; i < levels_.timesteps.size(); i++) {
            Step step = asking(i);
            const std::size_t order = std::min(orders.at(i), i - first + 1);
            step.save_sample = order == 1;
            // Of order 2 and 3: from the sample before the steps of lower order, again.
            const Factors factors = update(i + 1 - order, i + 1, order, order > 1 && !is_heun());
            step.next = {{Source::Saved, factors.scale}};
            add_forward_differences(i, order, factors, step);
            add_noise(factors, step);
            out.steps.push_back(std::move(step));
        }
        return out;
    }

    Schedule deis(std::size_t first) const {
        Schedule out = starting_at(first);
        const std::size_t count = levels_.timesteps.size();
        for (std::size_t i = first; i < count; i++) {
            Step step = asking(i);
            std::size_t order = std::min<std::size_t>(
                static_cast<std::size_t>(config_.solver_order), i - first + 1);
            if (config_.lower_order_final && count < 15) order = std::min(order, count - i);
            const Level now(levels_.sigmas[i]), next(levels_.sigmas[i + 1]);
            step.next = {{Source::Sample, next.alpha / now.alpha}};
            for (std::size_t k = 0; k < order; k++)
                step.next.push_back({slot((i - k) % 3), next.alpha * deis_weight(i, order, k)});
            out.steps.push_back(std::move(step));
        }
        return out;
    }

  private:
    bool is_heun() const { return config_.solver_type == "heun"; }

    Schedule starting_at(std::size_t first) const {
        Schedule out;
        if (first >= levels_.timesteps.size()) return out;
        const Level now(levels_.sigmas[first]);
        out.start_original = now.alpha;
        out.start_noise = now.sigma;
        return out;
    }

    Step asking(std::size_t i) const {
        Step step;
        step.timestep = levels_.timesteps[i];
        convert(Level(levels_.sigmas[i]), step);
        step.store = i % 3;
        return step;
    }

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

    // From level `from` to level `to`. A midpoint's D1 has a simpler factor in order 2, and in order
    // 3 it stands alone.
    Factors update(std::size_t from, std::size_t to, std::size_t order, bool midpoint) const {
        const Level now(levels_.sigmas[from]), next(levels_.sigmas[to]);
        const double h = next.lambda - now.lambda;
        // The exponential that weights predictions: of -h for the original, of h for the noise,
        // with twice the exponent where noise is added.
        const double exponent = sde_ && plus_ ? -2 * h : plus_ ? -h : h;
        const double grow = std::expm1(exponent);
        const double unit = plus_ ? next.alpha : next.sigma * (sde_ ? 2 : 1);
        Factors out;
        out.scale = plus_ ? next.sigma / now.sigma : next.alpha / now.alpha;
        if (sde_ && plus_) out.scale *= std::exp(-h);
        out.of[0] = -unit * grow;
        if (order == 2 && midpoint) out.of[1] = -0.5 * unit * grow;
        if (order >= 2 && !(order == 2 && midpoint))
            out.of[1] = plus_ ? unit * (1 - grow / exponent) : -unit * (grow / h - 1);
        if (order == 3 && !midpoint) {
            const double rest = (grow - exponent) / (exponent * exponent);
            out.of[2] = -unit * (rest + (sde_ && plus_ ? 0.5 : -0.5));  // the sign as in diffusers
        }
        if (sde_)
            out.fresh = next.sigma *
                        (plus_ ? std::sqrt(-std::expm1(-2 * h)) : std::sqrt(std::expm1(2 * h)));
        return out;
    }

    void add_noise(const Factors& factors, Step& step) const {
        if (factors.fresh) step.next.push_back({Source::Noise, *factors.fresh});
    }

    double lambda(std::size_t i) const { return Level(levels_.sigmas[i]).lambda; }

    // D0 is the newest prediction.
    void add_backward_differences(std::size_t i, std::size_t order, const Factors& factors,
                                  Step& step) const {
        double weights[3] = {factors.of[0], 0, 0};
        const double h = lambda(i + 1) - lambda(i);
        if (order == 2) {
            const double inverse = h / (lambda(i) - lambda(i - 1));  // 1 / r0
            weights[0] += factors.of[1] * inverse;
            weights[1] -= factors.of[1] * inverse;
        } else if (order == 3) {
            const double r0 = (lambda(i) - lambda(i - 1)) / h;
            const double r1 = (lambda(i - 1) - lambda(i - 2)) / h;
            // D1 = d0 + r0 / (r0 + r1) (d0 - d1), D2 = (d0 - d1) / (r0 + r1), d0 = (m0 - m1) / r0,
            // d1 = (m1 - m2) / r1
            const double of_d0 = factors.of[1] * (1 + r0 / (r0 + r1)) + factors.of[2] / (r0 + r1);
            const double of_d1 = -factors.of[1] * r0 / (r0 + r1) - factors.of[2] / (r0 + r1);
            weights[0] += of_d0 / r0;
            weights[1] += -of_d0 / r0 + of_d1 / r1;
            weights[2] -= of_d1 / r1;
        }
        for (std::size_t k = 0; k < order; k++)
            step.next.push_back({slot((i - k) % 3), weights[k]});
    }

    // D0 is the prediction that the `order` steps began with.
    void add_forward_differences(std::size_t i, std::size_t order, const Factors& factors,
                                 Step& step) const {
        double weights[3] = {factors.of[0], 0, 0};  // of the first prediction, the second, ...
        const std::size_t from = i + 1 - order;
        const double h = lambda(i + 1) - lambda(from);
        if (order == 2) {
            const double inverse = h / (lambda(i) - lambda(from));
            weights[0] -= factors.of[1] * inverse;
            weights[1] += factors.of[1] * inverse;
        } else if (order == 3) {
            const double r0 = (lambda(i) - lambda(from)) / h;
            const double r1 = (lambda(i - 1) - lambda(from)) / h;
            // a = (m1 - m0) / r1, b = (m2 - m0) / r0; midpoint: D1 = b, else
            // D1 = (r0 a - r1 b) / (r0 - r1), D2 = 2 (b - a) / (r0 - r1)
            double of_a = 0, of_b = factors.of[1];
            if (is_heun()) {
                of_a = (factors.of[1] * r0 - 2 * factors.of[2]) / (r0 - r1);
                of_b = (-factors.of[1] * r1 + 2 * factors.of[2]) / (r0 - r1);
            }
            weights[0] -= of_a / r1 + of_b / r0;
            weights[1] += of_a / r1;
            weights[2] += of_b / r0;
        }
        for (std::size_t k = 0; k < order; k++)
            step.next.push_back({slot((from + k) % 3), weights[k]});
    }

    // 1, 2, 3, 1, 2, 3, ...; the last step may have to be of order 1.
    std::vector<std::size_t> single_orders() const {
        const std::size_t count = levels_.timesteps.size();
        const auto most = static_cast<std::size_t>(config_.solver_order);
        std::vector<std::size_t> out;
        for (std::size_t i = 0; i < count; i++) out.push_back(i % most + 1);
        if (config_.final_sigmas_type == "zero" || (config_.lower_order_final && count % most == 0))
            out.back() = 1;
        return out;
    }

    // The integral in rho, from level i to the next, of the polynomial in log rho that is 1 at level
    // i - k and 0 at the other `order` - 1 levels up to i.
    double deis_weight(std::size_t i, std::size_t order, std::size_t k) const {
        const double from = levels_.sigmas[i], to = levels_.sigmas[i + 1];
        if (order == 1) return to - from;
        std::vector<double> others;
        double scale = 1;
        for (std::size_t other = 0; other < order; other++) {
            if (other == k) continue;
            others.push_back(std::log(levels_.sigmas[i - other]));
            scale *= std::log(levels_.sigmas[i - k]) - others.back();
        }
        const auto integral = [&](double rho) {
            const double x = std::log(rho), a = others[0];
            if (order == 2) return rho * (x - 1 - a);
            const double b = others[1];
            return rho * (x * x - (a + b + 2) * x + a * b + a + b + 2);
        };
        return (integral(to) - integral(from)) / scale;
    }

    const Config& config_;
    Levels levels_;
    bool plus_;
    bool sde_;
};

}  // namespace

Schedule dpm_solver_schedule(const Config& config, int steps, std::size_t first) {
    return DpmSolver(config, steps).multistep(first);
}

Schedule dpm_single_schedule(const Config& config, int steps, std::size_t first) {
    return DpmSolver(config, steps).singlestep(first);
}

Schedule deis_schedule(const Config& config, int steps, std::size_t first) {
    return DpmSolver(config, steps).deis(first);
}

}  // namespace diffusion
