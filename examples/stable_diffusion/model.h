// A Stable Diffusion model folder as Hugging Face's optimum exports it to ONNX.
//
//     sd::Model model("tiny/model", {.device = kn::Device::best()});
//     sd::Text text = model.encode_text({"a red circle"});
//     kn::Tensor e = model.predict(latents, timestep, text, conditions);
//     kn::Tensor picture = model.decode(latents);
//
// Stable Diffusion 1.x, 2.x, their turbo and LCM variants, and SDXL with its two text encoders.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/diffusion/scheduler.h"
#include "stable_diffusion/clip_tokenizer.h"
#include "stable_diffusion/part.h"

namespace sd {

/// What a folder's defaults.json says; else the defaults of Stable Diffusion.
struct Defaults {
    double guidance = 7.5;
    int steps = 30;
};

/// Which device and arithmetic; `precision` none: what suits the device.
struct ModelOptions {
    kn::Device device = kn::Device::cpu();
    std::optional<kn::Precision> precision;
    int threads = 0;
    bool with_encoder = false;  ///< load vae_encoder, to start from a picture
};

/// One row a text: what the UNet is conditioned on.
struct Text {
    kn::Tensor hidden;  ///< f32 [texts, tokens, width]
    kn::Tensor pooled;  ///< f32 [texts, width2], SDXL only
};

/// What the UNet gets besides latents, timestep and text.
struct Conditions {
    std::int64_t width = 0;  ///< of the picture
    std::int64_t height = 0;
    double guidance = 1;  ///< for models that take it as an input
};

class Model {
  public:
    /// Throws std::runtime_error, kn::OnnxError, kn::DeviceError; the message names the file.
    Model(const std::filesystem::path& folder, const ModelOptions& options);

    const Defaults& defaults() const { return defaults_; }
    std::filesystem::path scheduler_file() const {
        return folder_ / "scheduler" / "scheduler_config.json";
    }
    kn::Precision precision() const { return precision_; }
    /// Picture pixels for one latent, on either side.
    std::int64_t scale() const { return scale_; }
    std::int64_t channels() const { return channels_; }
    std::int64_t default_width() const { return default_latent_width_ * scale_; }
    std::int64_t default_height() const { return default_latent_height_ * scale_; }
    /// The model takes guidance as an input and needs no second half.
    bool embeds_guidance() const { return guidance_width_ > 0; }
    bool is_xl() const { return text_encoder_2_ != nullptr; }
    /// An absent negative prompt is all zeros instead of the empty text (SDXL).
    bool zeros_for_no_negative() const { return is_xl() && zeros_for_no_negative_; }

    /// Throws std::runtime_error that says which sizes the networks take, if not this one.
    void check_size(std::int64_t width, std::int64_t height) const;
    /// The largest size up to this one that the networks take.
    std::pair<std::int64_t, std::int64_t> size_below(std::int64_t width, std::int64_t height) const;

    /// `warn` gets a line for each text that is cut.
    Text encode_text(const std::vector<std::string>& texts,
                     const std::function<void(const std::string&)>& warn);
    /// What the UNet reads besides latents and timestep, by input name, f32; the text's rows are
    /// the batch.
    Tensors conditions(const Text& text, const Conditions& conditions) const;
    /// latents f32 [n, c, h, w], conditions of n rows; gives f32 [n, c, h, w].
    kn::Tensor predict(const kn::Tensor& latents, double timestep, const Tensors& conditions);
    const Part& unet() const { return *unet_; }
    /// The UNet's input for latents.
    const std::string& sample_name() const { return sample_name_; }
    kn::Device device() const { return device_; }
    /// latents f32 [n, c, h, w] as the UNet knows them; gives f32 [n, 3, H, W], about -1 to 1.
    kn::Tensor decode(const kn::Tensor& latents);
    /// Pictures f32 [n, 3, H, W], -1 to 1; gives latents as the UNet knows them. The encoder says
    /// mean and variance: `noise` [n, c, h, w] draws from them, without it the mean is taken.
    using Fill = std::function<void(std::span<float>)>;
    kn::Tensor encode(const kn::Tensor& pictures, const Fill& noise);

    std::size_t parameters() const;
    std::size_t peak_bytes() const;

  private:
    std::vector<const Part*> parts() const;
    void read_configs();
    void check_interface() const;
    bool takes_latents(std::int64_t width, std::int64_t height) const;
    std::int64_t granularity() const;
    kn::Tensor run_encoder(Part& encoder, const std::vector<std::vector<std::int64_t>>& ids,
                           kn::Tensor* pooled);

    std::filesystem::path folder_;
    kn::Device device_;
    kn::Precision precision_ = kn::Precision::F32;
    Defaults defaults_;
    ClipTokenizer tokenizer_;
    std::unique_ptr<ClipTokenizer> tokenizer_2_;
    std::unique_ptr<Part> text_encoder_;
    std::unique_ptr<Part> text_encoder_2_;
    std::unique_ptr<Part> unet_;
    std::unique_ptr<Part> decoder_;
    std::unique_ptr<Part> encoder_;
    std::string sample_name_ = "sample";
    std::int64_t channels_ = 4;
    std::int64_t scale_ = 8;
    std::int64_t default_latent_width_ = 64;
    std::int64_t default_latent_height_ = 64;
    std::int64_t guidance_width_ = 0;
    double scaling_factor_ = 0.18215;
    double shift_ = 0;
    std::vector<double> latents_mean_;
    std::vector<double> latents_std_;
    bool zeros_for_no_negative_ = true;
};

}  // namespace sd
