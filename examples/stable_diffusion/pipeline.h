// From prompts to pictures.
//
//     sd::Request request;
//     request.prompts = {"a red circle"};
//     sd::Result result = sd::generate(model, request, {});
//     common::Image picture = sd::to_image(result.image, 0);
#pragma once

#include <functional>
#include <optional>

#include "common/image.h"
#include "stable_diffusion/model.h"

namespace sd {

struct Request {
    std::vector<std::string> prompts;
    std::optional<std::string> negative;  ///< one for all prompts
    diffusion::Config scheduler;
    int steps = 30;
    double guidance = 7.5;
    std::uint64_t seed = 0;
    int count = 1;  ///< pictures for each prompt
    std::int64_t width = 512;
    std::int64_t height = 512;
    std::optional<common::Image> init;  ///< start from this picture, of width x height
    double strength = 0.8;              ///< how much of it may change, 0 to 1
    std::optional<kn::Tensor>
        noise;  ///< f32 [pictures, c, h, w] in place of the seed's first numbers
};

/// Seconds.
/// Seconds.
struct Times {
    double text = 0;
    double denoise = 0;  ///< with the UNet's planning
    double step = 0;     ///< the median of the steps
    double decode = 0;
};

struct Result {
    kn::Tensor
        text_embeddings;  ///< what the UNet saw: negative rows first where guidance is above 1
    std::vector<kn::Tensor> latents;  ///< after each step, if asked for
    kn::Tensor image;                 ///< f32 [pictures, 3, H, W], before clamping
    std::size_t steps = 0;            ///< evaluations of the UNet
    std::size_t device_bytes = 0;     ///< that the steps held on the device by themselves
    Times times;
};

struct Watcher {
    bool keep_latents = false;
    std::function<void(const std::string&)> warn;
    /// Before the first step (done 0) and after each.
    std::function<void(std::size_t done, std::size_t of)> progress;
    /// After each step: what the picture's latents are expected to become.
    std::function<void(std::size_t step, const kn::Tensor& expected)> preview;
};

/// How many pictures a request makes.
std::int64_t picture_count(const Request& request);

/// Everything about the request that can be wrong before the work starts. Throws
/// std::runtime_error.
void check(const Model& model, const Request& request);

/// Pictures of a prompt stand together. The random numbers of one generator: first those of the
/// VAE's sample (from a picture), then the start noise, then what the scheduler asks for, each for
/// all pictures at once. Throws std::runtime_error, kn::Error.
Result generate(Model& model, const Request& request, const Watcher& watcher);

/// Picture `index` of f32 [n, 3, H, W], clamped to -1..1.
common::Image to_image(const kn::Tensor& images, std::int64_t index);
/// f32 [1, 3, H, W], -1 to 1.
kn::Tensor to_tensor(const common::Image& image);
/// All pictures on one sheet, `columns` in a row, `gap` white pixels between them.
common::Image contact_sheet(const kn::Tensor& images, std::int64_t columns, std::size_t gap);

}  // namespace sd
