// Samplers of diffusion models: the steps from noise to a picture's latents, after Hugging Face's
// diffusers.
//
//     using namespace diffusion;
//     Config config = read_config("scheduler/scheduler_config.json");
//     Schedule schedule = make_schedule(config, 20);
//     Sampler sampler(schedule);
//     for (std::size_t i = 0; i < schedule.steps.size(); i++) {
//         std::vector<float> e = network(sampler.scaled(i, x), schedule.steps[i].timestep);
//         sampler.step(i, e, x, [&](std::span<float> noise) { generator.fill(noise); });
//     }
//
// All numbers of a run follow from the configuration, so a schedule is data: each step says which
// weighted sum of the sample, the network's output, earlier outputs and fresh noise comes next.
#pragma once

#include <array>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace diffusion {

enum class Method {
    Pndm,
    Ddim,
    Ddpm,
    Euler,
    EulerAncestral,
    Heun,
    Lms,
    Kdpm2,
    Kdpm2Ancestral,
    DpmSolver,
    DpmSingle,
    Deis,
    UniPc,
    Lcm,
    Tcd,
};

/// A scheduler_config.json, with the defaults of its class for what it leaves out.
struct Config {
    Method method = Method::Pndm;
    int train_steps = 1000;
    double beta_start = 0.0001;
    double beta_end = 0.02;
    std::string beta_schedule = "linear";  ///< linear, scaled_linear or squaredcos_cap_v2
    std::vector<float> trained_betas;
    bool rescale_betas_zero_snr = false;
    std::string prediction_type = "epsilon";   ///< epsilon, v_prediction or sample
    std::string timestep_spacing = "leading";  ///< leading, linspace or trailing
    int steps_offset = 0;
    bool set_alpha_to_one = false;
    bool skip_prk_steps = false;
    bool clip_sample = false;  ///< off where the file does not ask for it
    double clip_sample_range = 1;
    bool thresholding = false;
    double thresholding_ratio = 0.995;
    double sample_max_value = 1;
    bool karras_sigmas = false;
    bool exponential_sigmas = false;
    bool beta_sigmas = false;
    bool lu_lambdas = false;
    std::optional<double> sigma_min;
    std::optional<double> sigma_max;
    std::string final_sigmas_type = "zero";  ///< zero or sigma_min
    std::string interpolation_type = "linear";
    bool continuous_timesteps = false;
    int solver_order = 2;
    std::string algorithm_type = "dpmsolver++";
    std::string solver_type = "midpoint";
    bool lower_order_final = true;
    bool euler_at_final = false;
    double lambda_min_clipped = 0;  ///< set by read_config; minus infinity where the file has none
    bool predict_x0 = true;
    std::vector<int> disable_corrector;         ///< steps, from 0, that UniPC does not correct
    std::string variance_type = "fixed_small";  ///< fixed_small, fixed_small_log or fixed_large
    int original_steps = 50;
    double timestep_scaling = 10;
};

/// Names for `name` below: pndm ddim ddpm euler euler-a heun lms kdpm2 kdpm2-a dpm++ dpm++-karras
/// dpm++-single deis unipc lcm tcd.
std::span<const std::string_view> method_names();

/// Reads a file as diffusers writes it. With `name` the betas and all that the other class knows
/// too stay, and the class changes, as from_config does. Throws std::runtime_error that names the
/// file and what is wrong or not supported.
Config read_config(const std::filesystem::path& file, const std::optional<std::string>& name = {});
/// The same from the file's text; `source` names it in messages.
Config parse_config(const std::string& text, const std::optional<std::string>& name,
                    const std::string& source);

/// What a term of a step's sum is multiplied with. Slot0 and those behind it are earlier converted
/// outputs.
enum class Source {
    Sample,
    Saved,
    Output,
    Converted,
    Noise,
    Slot0,
    Slot1,
    Slot2,
    Slot3,
    Slot4,
    Slot5
};
inline constexpr std::size_t slot_count = 6;
Source slot(std::size_t index);

struct Term {
    Source source;
    double weight;
};

struct Step {
    double timestep = 0;     ///< for the network
    double input_scale = 1;  ///< the network sees the sample times this
    double from_sample = 0;  ///< converted = from_sample * sample + from_output * output,
    double from_output = 1;
    std::optional<double> clamp;       ///< then clamped to +- this,
    bool threshold = false;            ///< or by dynamic thresholding (Imagen),
    std::optional<std::size_t> store;  ///< then kept in this slot
    bool save_sample = false;          ///< the sample is kept as Saved before it changes
    std::vector<Term> next;            ///< the next sample is the sum of these
    double original_sample = 1;        ///< the original that this step expects, to look at:
    double original_output = 0;        ///< original_sample * sample + original_output * output
    bool uses_noise() const;
};

struct Schedule {
    std::vector<Step> steps;
    double init_noise_sigma = 1;  ///< the start is N(0, 1) times this
    /// Start from a picture: sample = original * start_original + noise * start_noise.
    double start_original = 1;
    double start_noise = 0;
    double threshold_ratio = 1;
    double threshold_max = 1;
};

/// `steps` from 1 to the training steps; the first `skipped` of them are left out (a start from a
/// picture). Methods of two evaluations a step have two of Schedule::steps for each but the last.
/// Throws std::runtime_error.
Schedule make_schedule(const Config& config, int steps, std::size_t skipped = 0);

/// Fills with N(0, 1).
using NoiseSource = std::function<void(std::span<float>)>;

/// Runs a schedule on samples in host memory.
class Sampler {
  public:
    /// `batch`: how many pictures one sample holds, one after the other.
    explicit Sampler(const Schedule& schedule, std::size_t batch = 1)
        : schedule_(schedule), batch_(batch) {}
    /// What the network gets at step `i`.
    std::vector<float> scaled(std::size_t i, std::span<const float> sample) const;
    /// Replaces the sample by the next one. Steps must come in order. `noise` is called once for a
    /// step that uses noise.
    void step(std::size_t i, std::span<const float> output, std::vector<float>& sample,
              const NoiseSource& noise);

  private:
    void threshold(std::vector<float>& values) const;

    const Schedule& schedule_;
    std::size_t batch_;
    std::array<std::vector<float>, slot_count> slots_;
    std::vector<float> saved_;
};

}  // namespace diffusion
