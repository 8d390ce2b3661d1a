// PNDM: "Pseudo Numerical Methods for Diffusion Models on Manifolds" (Liu et al. 2022), with or
// without the Runge-Kutta steps at the start.
#include <cmath>
#include <stdexcept>

#include "common/diffusion/tables.h"

namespace diffusion {

namespace {

class Pndm {
  public:
    Pndm(const Config& config, int steps) : config_(config), tables_(config) {
        std::vector<double> up = spaced_timesteps(config, steps, false);
        ascending_.assign(up.rbegin(), up.rend());
        ratio_ = config.train_steps / steps;
        if (config.skip_prk_steps) {
            // The timestep before the last comes twice: the second pass corrects the first.
            const std::size_t n = ascending_.size();
            std::vector<std::int64_t> plan(ascending_.begin(), ascending_.end() - 1);
            if (n > 1) plan.push_back(ascending_[n - 2]);
            plan.push_back(ascending_[n - 1]);
            timesteps_.assign(plan.rbegin(), plan.rend());
        } else {
            plan_runge_kutta();
        }
    }

    Schedule schedule(std::size_t first) {
        Schedule out;
        if (first >= timesteps_.size()) return out;
        const double start = tables_.alpha(timesteps_[first]);
        out.start_original = std::sqrt(start);
        out.start_noise = std::sqrt(1 - start);
        for (std::size_t i = first; i < timesteps_.size(); i++) {
            Step step;
            step.timestep = static_cast<double>(timesteps_[i]);
            const double alpha = tables_.alpha(timesteps_[i]);
            const Linear original = original_of(config_, std::sqrt(alpha), std::sqrt(1 - alpha));
            step.original_sample = original.from_sample;
            step.original_output = original.from_output;
            if (counter_ < prk_timesteps_.size())
                runge_kutta(timesteps_[i], step);
            else
                multistep(timesteps_[i], step);
            counter_++;
            out.steps.push_back(std::move(step));
        }
        return out;
    }

  private:
    void plan_runge_kutta() {
        if (ascending_.size() < 4)
            throw std::runtime_error(
                "PNDM with its Runge-Kutta steps (skip_prk_steps false) needs 4 steps or more");
        std::vector<std::int64_t> halves;
        for (std::size_t i = ascending_.size() - 4; i < ascending_.size(); i++) {
            halves.push_back(ascending_[i]);
            halves.push_back(ascending_[i] + ratio_ / 2);
        }
        halves.pop_back();
        std::vector<std::int64_t> twice;
        for (const std::int64_t t : halves) twice.insert(twice.end(), 2, t);
        prk_timesteps_.assign(twice.rbegin() + 1, twice.rend() - 1);
        timesteps_ = prk_timesteps_;
        timesteps_.insert(timesteps_.end(), ascending_.rbegin() + 3, ascending_.rend());
    }

    // Formula (9) of the paper, from `timestep` to `previous`: base * sample_weight + eps *
    // output_weight. eps is the weighted sum of the sources in `outputs`.
    void transfer(Step& step, std::int64_t timestep, std::int64_t previous, Source base,
                  const std::vector<Term>& outputs) const {
        const double alpha = tables_.alpha(timestep);
        const double alpha_previous = tables_.next_alpha(previous);
        const double beta = 1 - alpha;
        const double beta_previous = 1 - alpha_previous;
        double base_weight = std::sqrt(alpha_previous / alpha);
        double output_weight =
            -(alpha_previous - alpha) /
            (alpha * std::sqrt(beta_previous) + std::sqrt(alpha * beta * alpha_previous));
        if (config_.prediction_type == "v_prediction") {
            base_weight += output_weight * std::sqrt(beta);
            output_weight *= std::sqrt(alpha);
        }
        step.next.push_back({base, base_weight});
        for (const Term& term : outputs)
            step.next.push_back({term.source, term.weight * output_weight});
    }

    // Outputs that later steps use go into slots 0 to 3 in turn; slots 4 and 5 hold those within
    // one Runge-Kutta step.
    void keep(Step& step) {
        step.store = kept_ % 4;
        kept_++;
    }
    Source kept(std::size_t back) const { return slot((kept_ - 1 - back) % 4); }

    void runge_kutta(std::int64_t timestep, Step& step) {
        const std::int64_t previous = timestep - (counter_ % 2 ? 0 : ratio_ / 2);
        const std::int64_t from = prk_timesteps_[counter_ / 4 * 4];
        std::vector<Term> outputs = {{Source::Output, 1}};
        switch (counter_ % 4) {
            case 0:
                keep(step);
                step.save_sample = true;
                break;
            case 1:
                step.store = 4;
                break;
            case 2:
                step.store = 5;
                break;
            default:
                outputs = {{kept(0), 1.0 / 6},
                           {slot(4), 1.0 / 3},
                           {slot(5), 1.0 / 3},
                           {Source::Output, 1.0 / 6}};
        }
        transfer(step, from, previous, Source::Saved, outputs);
    }

    void multistep(std::int64_t timestep, Step& step) {
        if (!config_.skip_prk_steps && kept_ < 3)
            throw std::runtime_error(
                "PNDM's Runge-Kutta steps cannot be cut short: use a higher strength");
        std::int64_t previous = timestep - ratio_;
        const bool second = counter_ == 1;
        if (second) {
            previous = timestep;
            timestep += ratio_;
        } else {
            keep(step);
        }
        Source base = Source::Sample;
        std::vector<Term> outputs;
        if (second) {
            outputs = {{Source::Output, 1.0 / 2}, {kept(0), 1.0 / 2}};
            base = Source::Saved;
        } else if (kept_ == 1) {
            outputs = {{Source::Output, 1}};
            step.save_sample = true;
        } else if (kept_ == 2) {
            outputs = {{kept(0), 3.0 / 2}, {kept(1), -1.0 / 2}};
        } else if (kept_ == 3) {
            outputs = {{kept(0), 23.0 / 12}, {kept(1), -16.0 / 12}, {kept(2), 5.0 / 12}};
        } else {
            outputs = {{kept(0), 55.0 / 24},
                       {kept(1), -59.0 / 24},
                       {kept(2), 37.0 / 24},
                       {kept(3), -9.0 / 24}};
        }
        transfer(step, timestep, previous, base, outputs);
    }

    const Config& config_;
    Tables tables_;
    std::vector<std::int64_t> ascending_;
    std::vector<std::int64_t> prk_timesteps_;
    std::vector<std::int64_t> timesteps_;
    std::int64_t ratio_ = 1;
    std::size_t counter_ = 0;
    std::size_t kept_ = 0;
};

}  // namespace

Schedule pndm_schedule(const Config& config, int steps, std::size_t first) {
    return Pndm(config, steps).schedule(first);
}

}  // namespace diffusion
