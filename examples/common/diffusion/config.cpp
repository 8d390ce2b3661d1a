#include <array>
#include <fstream>
#include <iterator>
#include <limits>
#include <stdexcept>

#include <nlohmann/json.hpp>

#include "common/diffusion/scheduler.h"

namespace diffusion {

namespace {

using Json = nlohmann::json;

struct MethodName {
    Method method;
    const char* class_name;
    std::string_view name;
};
constexpr MethodName classes[] = {
    {Method::Pndm, "PNDMScheduler", "pndm"},
    {Method::Ddim, "DDIMScheduler", "ddim"},
    {Method::Ddpm, "DDPMScheduler", "ddpm"},
    {Method::Euler, "EulerDiscreteScheduler", "euler"},
    {Method::EulerAncestral, "EulerAncestralDiscreteScheduler", "euler-a"},
    {Method::Heun, "HeunDiscreteScheduler", "heun"},
    {Method::Lms, "LMSDiscreteScheduler", "lms"},
    {Method::Kdpm2, "KDPM2DiscreteScheduler", "kdpm2"},
    {Method::Kdpm2Ancestral, "KDPM2AncestralDiscreteScheduler", "kdpm2-a"},
    {Method::DpmSolver, "DPMSolverMultistepScheduler", "dpm++"},
    {Method::DpmSolver, "DPMSolverMultistepScheduler", "dpm++-karras"},
    {Method::DpmSingle, "DPMSolverSinglestepScheduler", "dpm++-single"},
    {Method::Deis, "DEISMultistepScheduler", "deis"},
    {Method::UniPc, "UniPCMultistepScheduler", "unipc"},
    {Method::Lcm, "LCMScheduler", "lcm"},
    {Method::Tcd, "TCDScheduler", "tcd"},
};

constexpr auto names = [] {
    std::array<std::string_view, std::size(classes)> out;
    for (std::size_t i = 0; i < out.size(); i++) out[i] = classes[i].name;
    return out;
}();

Method method_of(const std::string& name) {
    std::string known;
    for (const MethodName& entry : classes) {
        if (entry.name == name) return entry.method;
        known += (known.empty() ? "" : ", ") + std::string(entry.name);
    }
    throw std::runtime_error("there is no scheduler '" + name + "': " + known + " are known");
}

bool is_solver(Method method) {
    return method == Method::DpmSolver || method == Method::DpmSingle || method == Method::Deis ||
           method == Method::UniPc;
}

// Python writes bare infinities and NaN, which JSON lacks: they become strings.
std::string quote_infinities(const std::string& text) {
    std::string out;
    bool in_string = false;
    for (std::size_t i = 0; i < text.size(); i++) {
        if (in_string && text[i] == '\\' && i + 1 < text.size()) {
            out += text[i++];
        } else if (text[i] == '"') {
            in_string = !in_string;
        } else if (!in_string) {
            bool found = false;
            for (const std::string_view word : {"-Infinity", "Infinity", "NaN"}) {
                if (text.compare(i, word.size(), word) != 0) continue;
                out += '"' + std::string(word) + '"';
                i += word.size() - 1;
                found = true;
                break;
            }
            if (found) continue;
        }
        out += text[i];
    }
    return out;
}

class Reader {
  public:
    Reader(const Json& json, const std::string& source) : json_(json), source_(source) {}

    [[noreturn]] void fail(const std::string& reason) const {
        throw std::runtime_error(source_ + ": " + reason);
    }
    bool has(const char* key) const { return json_.contains(key) && !json_[key].is_null(); }

    void read(const char* key, bool& value) const {
        if (!has(key)) return;
        if (!json_[key].is_boolean()) fail(std::string(key) + " must be true or false");
        value = json_[key].get<bool>();
    }
    void read(const char* key, double& value) const {
        if (!has(key)) return;
        const Json& found = json_[key];
        if (found == "-Infinity") {
            value = -std::numeric_limits<double>::infinity();
        } else if (found == "Infinity") {
            value = std::numeric_limits<double>::infinity();
        } else {
            if (!found.is_number()) fail(std::string(key) + " must be a number");
            value = found.get<double>();
        }
    }
    void read(const char* key, std::optional<double>& value) const {
        if (!has(key)) return;
        value = 0;
        read(key, *value);
    }
    void read(const char* key, int& value, int least, int most) const {
        double number = value;
        read(key, number);
        if (!(number >= least && number <= most) || number != static_cast<int>(number))
            fail(std::string(key) + " must be a whole number from " + std::to_string(least) +
                 " to " + std::to_string(most));
        value = static_cast<int>(number);
    }
    void read(const char* key, std::string& value,
              std::initializer_list<std::string_view> known) const {
        if (has(key)) {
            if (!json_[key].is_string()) fail(std::string(key) + " must be a string");
            value = json_[key].get<std::string>();
        }
        for (const std::string_view option : known)
            if (value == option) return;
        fail(std::string(key) + " '" + value + "' is not supported");
    }
    void read(const char* key, std::vector<int>& value) const {
        if (!has(key)) return;
        if (!json_[key].is_array()) fail(std::string(key) + " must be a list of whole numbers");
        for (const Json& entry : json_[key]) {
            if (!entry.is_number_integer())
                fail(std::string(key) + " must be a list of whole numbers");
            value.push_back(entry.get<int>());
        }
    }
    void refuse(const char* key) const {
        bool set = false;
        read(key, set);
        if (set) fail(std::string(key) + " is not supported");
    }

  private:
    const Json& json_;
    const std::string& source_;
};

void set_class_defaults(Config& config) {
    switch (config.method) {
        case Method::Pndm:
        case Method::Ddpm:
            break;
        case Method::Ddim:
            config.set_alpha_to_one = true;
            break;
        case Method::Heun:
        case Method::Kdpm2:
        case Method::Kdpm2Ancestral:
            config.beta_start = 0.00085;
            config.beta_end = 0.012;
            config.timestep_spacing = "linspace";
            break;
        case Method::Euler:
        case Method::EulerAncestral:
        case Method::Lms:
        case Method::DpmSolver:
            config.timestep_spacing = "linspace";
            break;
        case Method::DpmSingle:
            config.timestep_spacing = "linspace";
            config.lower_order_final = false;
            break;
        case Method::Deis:
            config.timestep_spacing = "linspace";
            config.algorithm_type = "deis";
            config.solver_type = "logrho";
            break;
        case Method::UniPc:
            config.timestep_spacing = "linspace";
            config.solver_type = "bh2";
            break;
        case Method::Lcm:
        case Method::Tcd:
            config.beta_start = 0.00085;
            config.beta_end = 0.012;
            config.beta_schedule = "scaled_linear";
            config.set_alpha_to_one = true;
            break;
    }
    config.lambda_min_clipped = -std::numeric_limits<double>::infinity();
}

// The solvers take each other's words for algorithm_type and solver_type for their own defaults.
void read_solver(const Reader& reader, Config& config) {
    const std::string own_algorithm = config.algorithm_type, own_type = config.solver_type;
    reader.read("solver_order", config.solver_order, 1, 3);
    reader.read("solver_type", config.solver_type, {"midpoint", "heun", "logrho", "bh1", "bh2"});
    reader.read("lower_order_final", config.lower_order_final);
    reader.refuse("use_flow_sigmas");
    bool known = false;
    switch (config.method) {
        case Method::UniPc:
            known = config.solver_type == "bh1";
            reader.read("predict_x0", config.predict_x0);
            reader.read("disable_corrector", config.disable_corrector);
            break;
        case Method::Deis:
            reader.read("algorithm_type", config.algorithm_type,
                        {"deis", "dpmsolver", "dpmsolver++"});
            config.algorithm_type = own_algorithm;
            break;
        case Method::DpmSingle:
            known = config.solver_type == "heun";
            reader.read("algorithm_type", config.algorithm_type,
                        {"dpmsolver++", "dpmsolver", "sde-dpmsolver++", "deis"});
            reader.read("lambda_min_clipped", config.lambda_min_clipped);
            break;
        default:
            known = config.solver_type == "heun";
            reader.read("algorithm_type", config.algorithm_type,
                        {"dpmsolver++", "dpmsolver", "sde-dpmsolver++", "sde-dpmsolver", "deis"});
            reader.read("euler_at_final", config.euler_at_final);
            reader.read("use_lu_lambdas", config.lu_lambdas);
            reader.read("lambda_min_clipped", config.lambda_min_clipped);
    }
    if (!known) config.solver_type = own_type;
    if (config.method != Method::Deis && config.algorithm_type == "deis")
        config.algorithm_type = own_algorithm;
}

void read_sigmas(const Reader& reader, Config& config) {
    const Method method = config.method;
    if (method == Method::Euler || method == Method::Heun || method == Method::Lms ||
        method == Method::Kdpm2 || method == Method::Kdpm2Ancestral || is_solver(method)) {
        reader.read("use_karras_sigmas", config.karras_sigmas);
        reader.read("use_exponential_sigmas", config.exponential_sigmas);
        reader.read("use_beta_sigmas", config.beta_sigmas);
    }
    if (method == Method::Euler || method == Method::DpmSolver || method == Method::UniPc) {
        reader.read("sigma_min", config.sigma_min);
        reader.read("sigma_max", config.sigma_max);
    }
    if (method == Method::Euler || method == Method::DpmSolver || method == Method::UniPc ||
        method == Method::DpmSingle)
        reader.read("final_sigmas_type", config.final_sigmas_type, {"zero", "sigma_min"});
    if (method == Method::Euler) {
        reader.read("interpolation_type", config.interpolation_type, {"linear", "log_linear"});
        std::string type = "discrete";
        reader.read("timestep_type", type, {"discrete", "continuous"});
        config.continuous_timesteps = type == "continuous";
    }
}

void read_clipping(const Reader& reader, Config& config) {
    const Method method = config.method;
    const bool clips = method == Method::Ddim || method == Method::Ddpm || method == Method::Lcm;
    if (clips || method == Method::Heun) {
        reader.read("clip_sample", config.clip_sample);
        reader.read("clip_sample_range", config.clip_sample_range);
    }
    if (!clips && !is_solver(method)) return;
    reader.read("thresholding", config.thresholding);
    reader.read("dynamic_thresholding_ratio", config.thresholding_ratio);
    reader.read("sample_max_value", config.sample_max_value);
    if (!(config.thresholding_ratio >= 0 && config.thresholding_ratio <= 1))
        reader.fail("dynamic_thresholding_ratio must be from 0 to 1");
}

Config read_fields(const Reader& reader, Method method) {
    Config config;
    config.method = method;
    set_class_defaults(config);
    reader.read("num_train_timesteps", config.train_steps, 1, 100000);
    reader.read("beta_start", config.beta_start);
    reader.read("beta_end", config.beta_end);
    reader.read("beta_schedule", config.beta_schedule,
                {"linear", "scaled_linear", "squaredcos_cap_v2"});
    const bool has_sample = method != Method::Pndm && method != Method::EulerAncestral &&
                            method != Method::Kdpm2 && method != Method::Kdpm2Ancestral;
    if (has_sample)
        reader.read("prediction_type", config.prediction_type,
                    {"epsilon", "v_prediction", "sample"});
    else
        reader.read("prediction_type", config.prediction_type, {"epsilon", "v_prediction"});
    if (method != Method::DpmSingle) {
        reader.read("timestep_spacing", config.timestep_spacing,
                    {"leading", "linspace", "trailing"});
        reader.read("steps_offset", config.steps_offset, -100000, 100000);
    }
    reader.read("set_alpha_to_one", config.set_alpha_to_one);
    reader.read("skip_prk_steps", config.skip_prk_steps);
    if (method == Method::Ddim || method == Method::Ddpm || method == Method::Euler ||
        method == Method::EulerAncestral || method == Method::DpmSolver ||
        method == Method::UniPc || method == Method::Lcm || method == Method::Tcd)
        reader.read("rescale_betas_zero_snr", config.rescale_betas_zero_snr);
    read_clipping(reader, config);
    read_sigmas(reader, config);
    if (is_solver(method)) read_solver(reader, config);
    if (method == Method::Ddpm)
        reader.read("variance_type", config.variance_type,
                    {"fixed_small", "fixed_small_log", "fixed_large"});
    if (method == Method::Lcm || method == Method::Tcd)
        reader.read("original_inference_steps", config.original_steps, 1, config.train_steps);
    if (method == Method::Lcm) reader.read("timestep_scaling", config.timestep_scaling);
    return config;
}

void check(const Reader& reader, const Config& config) {
    const bool dpm = config.method == Method::DpmSolver || config.method == Method::DpmSingle;
    const bool plus = config.algorithm_type.ends_with("++");
    if (config.karras_sigmas + config.exponential_sigmas + config.beta_sigmas > 1)
        reader.fail(
            "use_karras_sigmas, use_exponential_sigmas and use_beta_sigmas exclude each other");
    if (dpm && !plus && config.final_sigmas_type == "zero")
        reader.fail("algorithm_type " + config.algorithm_type +
                    " needs final_sigmas_type sigma_min");
    if (config.solver_order == 3 && config.algorithm_type == "sde-dpmsolver")
        reader.fail("algorithm_type sde-dpmsolver has no solver_order 3");
    if (config.thresholding &&
        (config.method == Method::Deis || (config.method == Method::DpmSingle && !plus) ||
         (config.method == Method::UniPc && !config.predict_x0)))
        reader.fail("thresholding is not supported with predictions of the noise");
}

}  // namespace

std::span<const std::string_view> method_names() { return names; }

Config parse_config(const std::string& text, const std::optional<std::string>& name,
                    const std::string& source) {
    Json json = Json::parse(quote_infinities(text), nullptr, false);
    if (!json.is_object()) throw std::runtime_error(source + ": is not a JSON object");
    Method method = Method::Pndm;
    if (name) {
        method = method_of(*name);
        // Values that the file's class had by default give way to the new class's defaults.
        if (const Json defaults = json.value("_use_default_values", Json()); defaults.is_array())
            for (const Json& key : defaults)
                if (key.is_string()) json.erase(key.get<std::string>());
    } else {
        const Json class_name = json.value("_class_name", Json());
        if (!class_name.is_string())
            throw std::runtime_error(source + ": does not name its scheduler (_class_name)");
        bool known = false;
        for (const MethodName& entry : classes) {
            if (class_name != entry.class_name) continue;
            method = entry.method;
            known = true;
        }
        if (!known)
            throw std::runtime_error(source + ": the scheduler " + class_name.get<std::string>() +
                                     " is not supported; --scheduler puts another in its place");
    }
    const Reader reader(json, source);
    Config config = read_fields(reader, method);
    if (reader.has("trained_betas")) {
        const Json& betas = json["trained_betas"];
        if (!betas.is_array() || betas.size() != static_cast<std::size_t>(config.train_steps))
            reader.fail("trained_betas must be a list of num_train_timesteps numbers");
        for (const Json& beta : betas) {
            if (!beta.is_number()) reader.fail("trained_betas must be numbers");
            config.trained_betas.push_back(beta.get<float>());
        }
    }
    if (name == "dpm++-karras") {
        config.karras_sigmas = true;
        config.exponential_sigmas = config.beta_sigmas = config.lu_lambdas = false;
    }
    if (name && (method == Method::DpmSolver || method == Method::DpmSingle) &&
        !config.algorithm_type.ends_with("++"))
        config.algorithm_type += "++";
    check(reader, config);
    return config;
}

Config read_config(const std::filesystem::path& file, const std::optional<std::string>& name) {
    std::ifstream stream(file, std::ios::binary);
    std::error_code error;
    if (!stream || std::filesystem::is_directory(file, error))
        throw std::runtime_error(file.string() + ": cannot be read");
    const std::string text{std::istreambuf_iterator<char>(stream), {}};
    return parse_config(text, name, file.string());
}

}  // namespace diffusion
