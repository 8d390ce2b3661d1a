#include "stable_diffusion/pipeline.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <stdexcept>

#include "common/median.h"
#include "common/torch_random.h"
#include "stable_diffusion/stepper.h"

namespace sd {

namespace {

class Clock {
  public:
    explicit Clock(double& seconds) : seconds_(seconds), start_(std::chrono::steady_clock::now()) {}
    ~Clock() {
        seconds_ +=
            std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    }

  private:
    double& seconds_;
    std::chrono::steady_clock::time_point start_;
};

bool has_guidance(const Model& model, const Request& request) {
    return request.guidance > 1 && !model.embeds_guidance();
}

// How many of the timesteps a start from a picture leaves out.
std::size_t skipped(const Request& request) {
    if (!request.init) return 0;
    const int kept = std::min(static_cast<int>(request.steps * request.strength), request.steps);
    if (kept < 1)
        throw std::runtime_error("a strength of " + std::to_string(request.strength) +
                                 " leaves none of " + std::to_string(request.steps) + " steps");
    return static_cast<std::size_t>(request.steps - kept);
}

kn::Ints latent_shape(const Model& model, const Request& request) {
    return {picture_count(request), model.channels(), request.height / model.scale(),
            request.width / model.scale()};
}

// Row i for each of `counts[i]` pictures.
kn::Tensor repeated(const kn::Tensor& tensor, std::int64_t from, std::int64_t to,
                    std::int64_t times) {
    std::vector<kn::Tensor> out;
    for (std::int64_t row = from; row < to; row++)
        for (std::int64_t k = 0; k < times; k++) out.push_back(rows(tensor, row, row + 1));
    return concat_rows(out);
}

Text encode(Model& model, const Request& request, const Watcher& watcher) {
    const auto warn = [&](const std::string& line) {
        if (watcher.warn) watcher.warn(line);
    };
    const auto prompts = static_cast<std::int64_t>(request.prompts.size());
    if (!has_guidance(model, request)) {
        const Text text = model.encode_text(request.prompts, warn);
        Text out{repeated(text.hidden, 0, prompts, request.count), {}};
        if (model.is_xl()) out.pooled = repeated(text.pooled, 0, prompts, request.count);
        return out;
    }
    std::vector<std::string> texts = {request.negative.value_or("")};
    texts.insert(texts.end(), request.prompts.begin(), request.prompts.end());
    Text text = model.encode_text(texts, warn);
    const auto halves = [&](kn::Tensor all) {
        if (!request.negative && model.zeros_for_no_negative()) {
            const std::size_t row = static_cast<std::size_t>(all.size() / (prompts + 1));
            std::ranges::fill(all.mutable_data<float>().first(row), 0.0f);
        }
        return concat_rows({repeated(all, 0, 1, prompts * request.count),
                            repeated(all, 1, prompts + 1, request.count)});
    };
    Text out{halves(text.hidden), {}};
    if (model.is_xl()) out.pooled = halves(text.pooled);
    return out;
}

std::vector<float> start(Model& model, const Request& request, const diffusion::Schedule& schedule,
                         common::TorchRandom& random) {
    const kn::Ints shape = latent_shape(model, request);
    std::vector<float> x(static_cast<std::size_t>(kn::checked_size(shape)));
    std::vector<float> original;
    if (request.init) {
        // With given noise nothing else is drawn, so that the start is known.
        const Model::Fill fill = [&](std::span<float> to) { random.normal(to); };
        const kn::Tensor latents =
            model.encode(to_tensor(*request.init), request.noise ? Model::Fill() : fill);
        if (latents.shape() != kn::Ints{1, shape[1], shape[2], shape[3]})
            throw std::runtime_error("vae_encoder gives " + latents.type_string() +
                                     " for a picture of " + std::to_string(request.width) + " x " +
                                     std::to_string(request.height));
        const auto one = latents.data<float>();
        for (std::int64_t i = 0; i < shape[0]; i++)
            original.insert(original.end(), one.begin(), one.end());
    }
    if (request.noise)
        std::ranges::copy(request.noise->data<float>(), x.begin());
    else
        random.normal(x);
    for (std::size_t i = 0; i < x.size(); i++)
        x[i] = static_cast<float>(request.init ? original[i] * schedule.start_original +
                                                     x[i] * schedule.start_noise
                                               : x[i] * schedule.init_noise_sigma);
    return x;
}

}  // namespace

std::int64_t picture_count(const Request& request) {
    return static_cast<std::int64_t>(request.prompts.size()) * request.count;
}

void check(const Model& model, const Request& request) {
    if (!std::isfinite(request.guidance))
        throw std::runtime_error("the guidance must be a finite number");
    if (request.init && !(request.strength >= 0 && request.strength <= 1))
        throw std::runtime_error("the strength must be from 0 to 1");
    model.check_size(request.width, request.height);
    diffusion::make_schedule(request.scheduler, request.steps, skipped(request));
    if (!request.noise) return;
    const kn::Ints shape = latent_shape(model, request);
    if (request.noise->shape() != shape)
        throw std::runtime_error("the noise is " + request.noise->type_string() +
                                 ", but these pictures need " + kn::Shape::of(shape).to_string());
    for (const float v : request.noise->data<float>())
        if (!std::isfinite(v)) throw std::runtime_error("the noise has NaN or infinite elements");
}

Result generate(Model& model, const Request& request, const Watcher& watcher) {
    check(model, request);
    const diffusion::Schedule schedule =
        diffusion::make_schedule(request.scheduler, request.steps, skipped(request));
    const kn::Ints shape = latent_shape(model, request);
    common::TorchRandom random(request.seed);
    Result out;
    Text text;
    {
        const Clock clock(out.times.text);
        text = encode(model, request, watcher);
    }
    out.text_embeddings = text.hidden;
    out.steps = schedule.steps.size();
    std::vector<float> x;
    {
        const Clock clock(out.times.denoise);
        const Tensors conditions =
            model.conditions(text, {request.width, request.height, request.guidance});
        const auto stepper =
            make_stepper({model, schedule, conditions, shape, has_guidance(model, request),
                          request.guidance, bool(watcher.preview), watcher.warn});
        stepper->start(start(model, request, schedule, random));
        if (watcher.progress) watcher.progress(0, out.steps);
        std::vector<double> steps;
        for (std::size_t i = 0; i < out.steps; i++) {
            {
                const Clock of_step(steps.emplace_back());
                stepper->step(i, [&](std::span<float> to) { random.normal(to); });
            }
            if (watcher.preview)
                watcher.preview(i, kn::Tensor::from_span<float>(shape, stepper->expected()));
            if (watcher.keep_latents)
                out.latents.push_back(kn::Tensor::from_span<float>(shape, stepper->sample()));
            if (watcher.progress) watcher.progress(i + 1, out.steps);
        }
        // Planning and the first step's set-up are no part of what a step takes.
        out.times.step = common::median(steps);
        x = stepper->sample();
        out.device_bytes = stepper->device_bytes();
    }
    const Clock clock(out.times.decode);
    out.image = model.decode(kn::Tensor::from_span<float>(shape, x));
    const auto is_finite = [](float v) { return std::isfinite(v); };
    if (watcher.warn && !std::ranges::all_of(out.image.data<float>(), is_finite))
        watcher.warn(std::ranges::all_of(x, is_finite)
                         ? "the picture has NaN or infinite elements, which are drawn black: "
                           "vae_decoder overflows; one exported in f32 may not"
                         : "the picture has NaN or infinite elements, which are drawn black: the "
                           "UNet's latents had them already");
    return out;
}

common::Image to_image(const kn::Tensor& images, std::int64_t index) {
    const auto height = static_cast<std::size_t>(images.shape().at(2)),
               width = static_cast<std::size_t>(images.shape().at(3));
    common::Image out{width, height, std::vector<std::uint8_t>(width * height * 3)};
    const std::size_t plane = width * height;
    const auto values =
        images.data<float>().subspan(static_cast<std::size_t>(index) * 3 * plane, 3 * plane);
    for (std::size_t c = 0; c < 3; c++)
        for (std::size_t i = 0; i < plane; i++) {
            const float v = values[c * plane + i];
            const float clamped = v > -1 ? std::min(v, 1.0f) : -1.0f;  // NaN becomes black
            out.rgb[i * 3 + c] =
                static_cast<std::uint8_t>(std::nearbyint((clamped / 2 + 0.5f) * 255));
        }
    return out;
}

kn::Tensor to_tensor(const common::Image& image) {
    const std::size_t plane = image.width * image.height;
    kn::Tensor out(kn::DType::F32, {1, 3, static_cast<std::int64_t>(image.height),
                                    static_cast<std::int64_t>(image.width)});
    std::span<float> values = out.mutable_data<float>();
    for (std::size_t c = 0; c < 3; c++)
        for (std::size_t i = 0; i < plane; i++)
            values[c * plane + i] = static_cast<float>(image.rgb[i * 3 + c]) / 255.0f * 2 - 1;
    return out;
}

common::Image contact_sheet(const kn::Tensor& images, std::int64_t columns, std::size_t gap) {
    const std::int64_t count = images.shape().at(0);
    const auto height = static_cast<std::size_t>(images.shape()[2]),
               width = static_cast<std::size_t>(images.shape()[3]);
    const auto across = static_cast<std::size_t>(columns),
               down = static_cast<std::size_t>((count + columns - 1) / columns);
    common::Image sheet{across * width + (across - 1) * gap, down * height + (down - 1) * gap, {}};
    sheet.rgb.assign(sheet.width * sheet.height * 3, 255);
    for (std::int64_t i = 0; i < count; i++) {
        const common::Image one = to_image(images, i);
        const std::size_t left = static_cast<std::size_t>(i % columns) * (width + gap),
                          top = static_cast<std::size_t>(i / columns) * (height + gap);
        for (std::size_t y = 0; y < height; y++)
            std::ranges::copy(std::span(one.rgb).subspan(y * width * 3, width * 3),
                              sheet.rgb.begin() + static_cast<std::ptrdiff_t>(
                                                      ((top + y) * sheet.width + left) * 3));
    }
    return sheet;
}

}  // namespace sd
