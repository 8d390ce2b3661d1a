// Draws pictures from prompts.
//
//     stable_diffusion --prompt "a blue moon left of an orange star on a black background"
//
// Exit status: 0 done, 1 failed or refused, 2 wrong usage, 3 no such device, 130 interrupted.
#include <sys/resource.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <exception>
#include <new>

#include <fmt/core.h>

#include "stable_diffusion/find_model.h"
#include "stable_diffusion/interrupt.h"
#include "stable_diffusion/options.h"
#include "stable_diffusion/output.h"
#include "stable_diffusion/progress.h"

namespace {

using sd::Options;
using sd::Request;

double seconds_since(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void say(const std::string& line) { fmt::print(stderr, "stable_diffusion: {}\n", line); }

kn::Tensor read_noise(const std::string& file) {
    const kn::Tensor noise = kn::read_npy(file);
    const bool is_float = noise.dtype() == kn::DType::F16 || noise.dtype() == kn::DType::F32 ||
                          noise.dtype() == kn::DType::F64;
    if (!is_float || noise.rank() != 4)
        throw std::runtime_error(file + ": is " + noise.type_string() +
                                 ", not floats of four dimensions");
    return noise.dtype() == kn::DType::F32 ? noise : noise.cast(kn::DType::F32);
}

// The size asked for, else that of the picture or noise to start from, else the model's own.
void set_size(const Options& options, const sd::Model& model, Request& request) {
    request.width = model.default_width();
    request.height = model.default_height();
    if (request.noise) {
        request.height = request.noise->shape()[2] * model.scale();
        request.width = request.noise->shape()[3] * model.scale();
    } else if (request.init) {
        const auto width = static_cast<std::int64_t>(request.init->width),
                   height = static_cast<std::int64_t>(request.init->height);
        std::tie(request.width, request.height) = model.size_below(width, height);
    }
    request.width = options.width.value_or(request.width);
    request.height = options.height.value_or(request.height);
    model.check_size(request.width, request.height);
    if (request.init) {
        const auto width = static_cast<std::size_t>(request.width),
                   height = static_cast<std::size_t>(request.height);
        if (request.init->width != width || request.init->height != height)
            request.init = common::resized(*request.init, width, height);
    }
}

Request make_request(const Options& options, const sd::Model& model,
                     const diffusion::Config& scheduler) {
    Request request;
    request.prompts = options.prompts;
    request.negative = options.negative;
    request.scheduler = scheduler;
    request.steps = options.steps.value_or(model.defaults().steps);
    request.guidance = options.guidance.value_or(model.defaults().guidance);
    request.seed = options.seed;
    request.count = options.count;
    request.strength = options.strength.value_or(0.8);
    if (!options.noise.empty()) request.noise = read_noise(options.noise);
    if (!options.init.empty()) request.init = common::read_png(options.init);
    set_size(options, model, request);
    return request;
}

const char* name_of(diffusion::Method method) {
    switch (method) {
        case diffusion::Method::Pndm:
            return "PNDM";
        case diffusion::Method::Ddim:
            return "DDIM";
        case diffusion::Method::Euler:
            return "Euler";
        case diffusion::Method::EulerAncestral:
            return "Euler a";
        case diffusion::Method::Ddpm:
            return "DDPM";
        case diffusion::Method::Heun:
            return "Heun";
        case diffusion::Method::Lms:
            return "LMS";
        case diffusion::Method::Kdpm2:
            return "KDPM2";
        case diffusion::Method::Kdpm2Ancestral:
            return "KDPM2 a";
        case diffusion::Method::DpmSingle:
            return "DPM-Solver singlestep";
        case diffusion::Method::Deis:
            return "DEIS";
        case diffusion::Method::UniPc:
            return "UniPC";
        case diffusion::Method::Tcd:
            return "TCD";
        case diffusion::Method::DpmSolver:
            return "DPM-Solver";
        case diffusion::Method::Lcm:
            return "LCM";
    }
    return "";
}

std::string scheduler_text(const diffusion::Config& config) {
    std::string out = name_of(config.method);
    if (config.method == diffusion::Method::DpmSolver) out = config.algorithm_type;
    if (config.method == diffusion::Method::DpmSingle) out = config.algorithm_type + " singlestep";
    if (config.karras_sigmas) out += " karras";
    return out;
}

common::PngTexts png_texts(const Options& options, const Request& request,
                           const std::filesystem::path& model) {
    std::string parameters;
    for (const std::string& prompt : request.prompts) parameters += prompt + "\n";
    if (request.negative) parameters += "Negative prompt: " + *request.negative + "\n";
    parameters +=
        fmt::format("Steps: {}, Sampler: {}, CFG scale: {}, Seed: {}, Size: {}x{}, Count: {}",
                    request.steps, scheduler_text(request.scheduler), request.guidance,
                    request.seed, request.width, request.height, request.count);
    if (request.init)
        parameters +=
            fmt::format(", Init: {}, Denoising strength: {}", options.init, request.strength);
    if (request.noise) parameters += ", Noise: " + options.noise;
    parameters += ", Model: " + model.string();
    return {{"parameters", parameters}, {"Software", fmt::format("kn {}", kn::version())}};
}

void summarize(const sd::Model& model, const Request& request, const sd::Result& result,
               kn::Device device, double load, double write) {
    struct rusage usage = {};
    ::getrusage(RUSAGE_SELF, &usage);
    fmt::print("device {}, precision {}, {:.1f} million parameters\n", device.to_string(),
               kn::name_of(model.precision()), static_cast<double>(model.parameters()) / 1e6);
    fmt::print("{} x {}, {} picture{}, {}, {} steps ({} UNet calls), guidance {}, seed {}\n",
               request.width, request.height, sd::picture_count(request),
               sd::picture_count(request) == 1 ? "" : "s", scheduler_text(request.scheduler),
               request.steps, result.steps, request.guidance, request.seed);
    const sd::Times& t = result.times;
    fmt::print("memory: {:.1f} MB on the device, {:.1f} MB of the process at most\n",
               static_cast<double>(model.peak_bytes() + result.device_bytes) / 1e6,
               static_cast<double>(usage.ru_maxrss) * 1024 / 1e6);
    fmt::print(
        "time: load {:.3f} s, text {:.3f} s, denoise {:.3f} s ({:.4f} s/step), decode {:.3f} s, "
        "write {:.3f} s\n",
        load, t.text, t.denoise, t.step, t.decode, write);
}

int run(const Options& options) {
    const auto start = std::chrono::steady_clock::now();
    const kn::Device device = sd::parse_device(options.device);
    const auto precision = sd::parse_precision(options.precision);
    kn::backend_for(device);
    sd::check_outputs(options);
    const std::filesystem::path folder =
        options.model.empty() ? sd::find_tiny_model() : std::filesystem::path(options.model);
    std::error_code error;
    if (!std::filesystem::is_directory(folder, error))
        throw std::runtime_error(folder.string() + ": there is no such folder");
    // First what is quick to find wrong.
    const std::filesystem::path scheduler_file =
        options.scheduler_config.empty() ? folder / "scheduler" / "scheduler_config.json"
                                         : std::filesystem::path(options.scheduler_config);
    const diffusion::Config scheduler = diffusion::read_config(scheduler_file, options.scheduler);
    if (options.steps) diffusion::make_schedule(scheduler, *options.steps);
    sd::Model model(folder, {device, precision, options.threads, !options.init.empty()});
    const Request request = make_request(options, model, scheduler);
    sd::check(model, request);
    const double load = seconds_since(start);

    sd::ProgressBar bar("steps");
    sd::Watcher watcher;
    watcher.keep_latents = !options.dump.empty();
    watcher.warn = say;
    watcher.progress = [&](std::size_t done, std::size_t of) { bar.show(done, of); };
    if (!options.progress_images.empty())
        watcher.preview = [&](std::size_t step, const kn::Tensor& expected) {
            sd::write_progress_image(
                options.progress_images, step,
                sd::contact_sheet(model.decode(expected), sd::sheet_columns(request), 8));
        };
    const sd::Result result = sd::generate(model, request, watcher);
    const auto written = std::chrono::steady_clock::now();
    const std::vector<std::string> pictures =
        sd::write_outputs(options, request, result, png_texts(options, request, folder));
    summarize(model, request, result, device, load, seconds_since(written));
    for (const std::string& picture : pictures) fmt::print("{}\n", picture);
    return 0;
}

// One line, also where kn lists all problems of a file.
std::string one_line(const std::string& text) {
    const std::size_t end = text.find('\n');
    if (end == std::string::npos) return text;
    const auto more = std::count(text.begin() + static_cast<std::ptrdiff_t>(end), text.end(), '\n');
    return text.substr(0, end) + fmt::format(" (and {} more: kn check lists them)", more);
}

}  // namespace

int main(int argc, char** argv) {
    sd::catch_interrupts("stable_diffusion");
    const auto complain = [](const std::string& what, int status) {
        say(one_line(what));
        return status;
    };
    try {
        const auto options = sd::parse_options(argc, argv);
        return options ? run(*options) : 0;
    } catch (const sd::UsageError& error) {
        return complain(error.what(), 2);
    } catch (const kn::DeviceError& error) {
        return complain(error.what(), 3);
    } catch (const std::bad_alloc&) {
        return complain("out of memory", 1);
    } catch (const std::exception& error) {
        return complain(error.what(), 1);
    }
}
