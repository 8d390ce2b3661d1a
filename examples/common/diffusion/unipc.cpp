// UniPC: "UniPC: A Unified Predictor-Corrector Framework for Fast Sampling of Diffusion Models" (Zhao
// et al. 2023), with B(h) = h (bh1) or exp(h) - 1 (bh2).
#include <algorithm>
#include <cmath>
#include <map>

#include "common/diffusion/levels.h"

namespace diffusion {

namespace {

using Weights = std::map<std::size_t, double>;  // of the predictions at these steps

// Gaussian elimination of a few equations.
std::vector<double> solve(std::vector<std::vector<double>> a, std::vector<double> b) {
    const std::size_t n = b.size();
    for (std::size_t column = 0; column < n; column++) {
        std::size_t pivot = column;
        for (std::size_t row = column + 1; row < n; row++)
            if (std::abs(a[row][column]) > std::abs(a[pivot][column])) pivot = row;
        std::swap(a[pivot], a[column]);
        std::swap(b[pivot], b[column]);
        for (std::size_t row = column + 1; row < n; row++) {
            const double times = a[row][column] / a[column][column];
            for (std::size_t k = column; k < n; k++) a[row][k] -= times * a[column][k];
            b[row] -= times * b[column];
        }
    }
    for (std::size_t row = n; row-- > 0;) {
        for (std::size_t k = row + 1; k < n; k++) b[row] -= a[row][k] * b[k];
        b[row] /= a[row][row];
    }
    return b;
}

class UniPc {
  public:
    UniPc(const Config& config, int steps)
        : config_(config), levels_(solver_levels(config, Tables(config), steps)) {}

    Schedule schedule(std::size_t first) const {
        Schedule out;
        const std::size_t count = levels_.timesteps.size();
        std::size_t order_before = 0;
        for (std::size_t i = first; i < count; i++) {
            const Level now(levels_.sigmas[i]), next(levels_.sigmas[i + 1]);
            if (i == first) {
                out.start_original = now.alpha;
                out.start_noise = now.sigma;
            }
            Step step;
            step.timestep = levels_.timesteps[i];
            convert(now, step);
            step.store = i % 4;
            std::size_t order = static_cast<std::size_t>(config_.solver_order);
            if (config_.lower_order_final) order = std::min(order, count - i);
            order = std::min(order, i - first + 1);

            const double keep =
                config_.predict_x0 ? next.sigma / now.sigma : next.alpha / now.alpha;
            Weights weights = predictor(i, order);
            weights[i] -= unit(i) * std::expm1(exponent(i));
            // The sample came from the predictor; what the corrector would have added to it instead
            // can still be put right, as both start from the same sum.
            const bool corrected = i > first && std::ranges::find(config_.disable_corrector,
                                                                  static_cast<int>(i) - 1) ==
                                                    config_.disable_corrector.end();
            if (corrected) {
                for (const auto& [at, weight] : predictor(i - 1, order_before))
                    weights[at] -= keep * weight;
                for (const auto& [at, weight] : corrector(i - 1, order_before))
                    weights[at] += keep * weight;
            }
            step.next = {{Source::Sample, keep}};
            for (const auto& [at, weight] : weights) step.next.push_back({slot(at % 4), weight});
            order_before = order;
            out.steps.push_back(std::move(step));
        }
        return out;
    }

  private:
    // Predictions are of the original or of the noise.
    void convert(const Level& now, Step& step) const {
        const Linear original = original_of(config_, now.alpha, now.sigma);
        step.from_sample = step.original_sample = original.from_sample;
        step.from_output = step.original_output = original.from_output;
        if (config_.predict_x0) {
            step.threshold = config_.thresholding;
        } else {
            step.from_sample = (1 - now.alpha * original.from_sample) / now.sigma;
            step.from_output = -now.alpha * original.from_output / now.sigma;
        }
    }

    double lambda(std::size_t i) const { return Level(levels_.sigmas[i]).lambda; }
    double exponent(std::size_t i) const {
        const double h = lambda(i + 1) - lambda(i);
        return config_.predict_x0 ? -h : h;
    }
    double unit(std::size_t i) const {
        const Level next(levels_.sigmas[i + 1]);
        return config_.predict_x0 ? next.alpha : next.sigma;
    }
    double b_of_h(std::size_t i) const {
        return config_.solver_type == "bh1" ? exponent(i) : std::expm1(exponent(i));
    }
    /// Where step i - k lies, seen from step i, in units of the way from i to i + 1.
    double ratio(std::size_t i, std::size_t k) const {
        return (lambda(i - k) - lambda(i)) / (lambda(i + 1) - lambda(i));
    }

    /// Solves sum over j of points[j]^n * rho[j] = n! phi[n + 1] * hh / B(h), n from 0.
    std::vector<double> coefficients(std::size_t i, const std::vector<double>& points) const {
        const double hh = exponent(i);
        double phi = std::expm1(hh) / hh - 1, factorial = 1;
        std::vector<std::vector<double>> rows;
        std::vector<double> right;
        for (std::size_t n = 0; n < points.size(); n++) {
            rows.emplace_back();
            for (const double point : points)
                rows.back().push_back(std::pow(point, static_cast<double>(n)));
            right.push_back(phi * factorial / b_of_h(i));
            factorial *= static_cast<double>(n + 2);
            phi = phi / hh - 1 / factorial;
        }
        return solve(std::move(rows), std::move(right));
    }

    // Adds -unit * B(h) * rho * (m at `at` - m at i) / by.
    void add_difference(std::size_t i, double rho, std::size_t at, double by,
                        Weights& weights) const {
        const double weight = -unit(i) * b_of_h(i) * rho / by;
        weights[at] += weight;
        weights[i] -= weight;
    }

    // What the predictor from i to i + 1 adds to the first-order step.
    Weights predictor(std::size_t i, std::size_t order) const {
        Weights out;
        std::vector<double> points;
        for (std::size_t k = 1; k < order; k++) points.push_back(ratio(i, k));
        std::vector<double> rho = {0.5};  // in order 2 by the authors' choice
        if (order > 2) rho = coefficients(i, points);
        for (std::size_t k = 1; k < order; k++)
            add_difference(i, rho[k - 1], i - k, points[k - 1], out);
        return out;
    }

    // What the corrector of the same step adds, knowing the prediction at i + 1.
    Weights corrector(std::size_t i, std::size_t order) const {
        Weights out;
        std::vector<double> points;
        for (std::size_t k = 1; k < order; k++) points.push_back(ratio(i, k));
        points.push_back(1);
        std::vector<double> rho = {0.5};
        if (order > 1) rho = coefficients(i, points);
        for (std::size_t k = 1; k < order; k++)
            add_difference(i, rho[k - 1], i - k, points[k - 1], out);
        add_difference(i, rho.back(), i + 1, 1, out);
        return out;
    }

    const Config& config_;
    Levels levels_;
};

}  // namespace

Schedule unipc_schedule(const Config& config, int steps, std::size_t first) {
    Schedule out = UniPc(config, steps).schedule(first);
    refuse_infinite(out, "UniPC");
    return out;
}

}  // namespace diffusion
