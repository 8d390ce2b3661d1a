#include "stable_diffusion/options.h"

#include <charconv>
#include <cstdio>

#include <CLI/CLI.hpp>

namespace sd {

namespace {

std::string joined_method_names() {
    std::string out;
    for (const std::string_view name : diffusion::method_names())
        out += (out.empty() ? "" : ", ") + std::string(name);
    return out;
}

// The first line of CLI11's message; it may say more.
std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

}  // namespace

std::optional<Options> parse_options(int argc, char** argv) {
    Options out;
    CLI::App app(
        "Draws pictures from prompts with Stable Diffusion models exported to ONNX; without "
        "--model, a tiny one that knows\n"
        "coloured shapes: \"a blue moon left of an orange star on a black background\".");
    app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    app.set_version_flag("--version", kn::version());
    app.add_option("--prompt", out.prompts, "what to draw; several make one batch")
        ->required()
        ->take_all()
        ->allow_extra_args(false);
    app.add_option("--negative", out.negative, "what to keep away from");
    app.add_option("--model", out.model,
                   "folder with text_encoder, unet, vae_decoder, tokenizer, scheduler");
    app.add_option("--steps", out.steps,
                   "denoising steps (30, or what the model's defaults.json says)");
    app.add_option("--guidance", out.guidance,
                   "how much to follow the prompt; 1: no guidance (7.5, or defaults.json)");
    app.add_option("--scheduler", out.scheduler,
                   joined_method_names() + " (what the model's configuration says)");
    app.add_option("--scheduler-config", out.scheduler_config,
                   "a scheduler_config.json in place of the model's");
    app.add_option("--seed", out.seed, "of PyTorch's CPU generator")->capture_default_str();
    app.add_option("--count", out.count, "pictures for each prompt")->capture_default_str();
    app.add_option("--width", out.width, "pixels (what the UNet's configuration says)");
    app.add_option("--height", out.height, "pixels");
    app.add_option("--init", out.init, "PNG to start from");
    app.add_option("--strength", out.strength, "how much of --init may change, 0 to 1 (0.8)");
    app.add_option("--device", out.device, "auto, cpu, cuda or cuda:N")->capture_default_str();
    app.add_option("--precision", out.precision, "auto, f32, tf32, f16 or bf16")
        ->capture_default_str();
    app.add_option("--threads", out.threads, "threads of the CPU; 0: all")
        ->capture_default_str()
        ->check(CLI::Range(0, 1024));
    app.add_option(
        "--noise", out.noise,
        "unscaled N(0, 1) start latents: .npy of [pictures, channels, height / 8, width / 8]");
    app.add_option("--dump", out.dump,
                   "folder for text_embeddings.npy, latents_after_step_NN.npy, image.npy");
    app.add_option("--progress-images", out.progress_images,
                   "folder for the picture as it emerges, step_NN.png");
    app.add_option("--output", out.output,
                   "PNG; several pictures are one sheet, and FILE_N.png each")
        ->capture_default_str();
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        if (error.get_exit_code() == 0) {
            app.exit(error);
            return {};
        }
        throw UsageError(first_line(error.what()));
    }
    if (out.count < 1 || out.count > 4096) throw UsageError("--count must be from 1 to 4096");
    if (out.strength && out.init.empty()) throw UsageError("--strength needs --init");
    if (out.scheduler) {
        const auto names = diffusion::method_names();
        if (std::ranges::find(names, *out.scheduler) == names.end())
            throw UsageError("--scheduler '" + kn::printable(*out.scheduler) +
                             "' is not known: " + joined_method_names() + " are");
    }
    return out;
}

kn::Device parse_device(const std::string& text) {
    if (text == "cpu") return kn::Device::cpu();
    if (text == "auto") return kn::Device::best();
    if (text == "cuda") return kn::Device::cuda(0);
    if (text.starts_with("cuda:")) {
        int index = -1;
        const auto [end, error] =
            std::from_chars(text.data() + 5, text.data() + text.size(), index);
        if (error == std::errc() && end == text.data() + text.size() && index >= 0)
            return kn::Device::cuda(index);
    }
    throw UsageError("--device '" + kn::printable(text) + "': expected auto, cpu, cuda or cuda:N");
}

std::optional<kn::Precision> parse_precision(const std::string& text) {
    if (text == "auto") return {};
    for (const kn::Precision p :
         {kn::Precision::F32, kn::Precision::TF32, kn::Precision::F16, kn::Precision::BF16})
        if (text == kn::name_of(p)) return p;
    throw UsageError("--precision '" + kn::printable(text) +
                     "': expected auto, f32, tf32, f16 or bf16");
}

}  // namespace sd
