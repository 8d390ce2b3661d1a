#include "stable_diffusion/model.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "stable_diffusion/json_file.h"

namespace sd {

namespace fs = std::filesystem;

namespace {

using Json = nlohmann::json;

constexpr std::int64_t largest_side = 1 << 14;

fs::path checked_folder(const fs::path& folder) {
    std::error_code error;
    if (!fs::is_directory(folder, error))
        throw std::runtime_error(folder.string() + ": there is no such folder");
    return folder;
}

double number(const Json& json, const char* key, double otherwise, const fs::path& file) {
    const auto found = json.find(key);
    if (found == json.end() || found->is_null()) return otherwise;
    if (!found->is_number())
        throw std::runtime_error(file.string() + ": " + key + " must be a number");
    return found->get<double>();
}

std::vector<double> numbers(const Json& json, const char* key) {
    std::vector<double> out;
    if (const auto found = json.find(key); found != json.end() && found->is_array())
        for (const Json& value : *found)
            if (value.is_number()) out.push_back(value.get<double>());
    return out;
}

Json config_of(const fs::path& file) { return fs::exists(file) ? read_json(file) : Json::object(); }

// What suits the device where nothing is asked for.
kn::Precision chosen(const ModelOptions& options) {
    if (options.precision) return *options.precision;
    return options.device.kind() == kn::Device::Kind::Cpu ? kn::Precision::F32 : kn::Precision::F16;
}

}  // namespace

Model::Model(const fs::path& folder, const ModelOptions& options)
    : folder_(checked_folder(folder)),
      device_(options.device),
      precision_(chosen(options)),
      tokenizer_(folder / "tokenizer") {
    kn::NetworkOptions network;
    network.device = options.device;
    network.precision = precision_;
    network.threads = options.threads;
    const auto load = [&](const char* name, const kn::NetworkOptions& how) {
        return std::make_unique<Part>(folder_, name, how);
    };
    for (const char* name : {"text_encoder", "unet", "vae_decoder"})
        if (!fs::exists(folder_ / name / "model.onnx"))
            throw std::runtime_error((folder_ / name / "model.onnx").string() + ": is missing");
    text_encoder_ = load("text_encoder", network);
    if (fs::exists(folder_ / "text_encoder_2")) {
        tokenizer_2_ = std::make_unique<ClipTokenizer>(folder_ / "tokenizer_2");
        text_encoder_2_ = load("text_encoder_2", network);
    }
    unet_ = load("unet", network);
    // Some autoencoders overflow in half precision, and say so.
    const fs::path vae_config = folder_ / "vae_decoder" / "config.json";
    if (precision_ == kn::Precision::F16 && fs::exists(vae_config) &&
        read_json(vae_config).value("force_upcast", Json()) == true)
        network.precision = kn::Precision::F32;
    decoder_ = load("vae_decoder", network);
    if (options.with_encoder) encoder_ = load("vae_encoder", network);
    read_configs();
    check_interface();
}

void Model::read_configs() {
    const fs::path defaults_file = folder_ / "defaults.json";
    const Json defaults = config_of(defaults_file);
    defaults_.guidance = number(defaults, "guidance", defaults_.guidance, defaults_file);
    defaults_.steps = static_cast<int>(number(defaults, "steps", defaults_.steps, defaults_file));
    const fs::path vae_file = folder_ / "vae_decoder" / "config.json";
    const Json vae = config_of(vae_file);
    scaling_factor_ = number(vae, "scaling_factor", scaling_factor_, vae_file);
    shift_ = number(vae, "shift_factor", 0, vae_file);
    if (!(std::abs(scaling_factor_) > 0))
        throw std::runtime_error(vae_file.string() + ": scaling_factor is 0");
    if (is_xl()) {
        latents_mean_ = numbers(vae, "latents_mean");
        latents_std_ = numbers(vae, "latents_std");
    }
    const fs::path unet_file = folder_ / "unet" / "config.json";
    const Json unet = config_of(unet_file);
    const kn::OnnxInfo::Port* sample = unet_->input(sample_name_);
    if (!sample) sample = &unet_->first_input();
    sample_name_ = sample->name;
    channels_ = unet_->fixed_dim(*sample, 1)
                    .value_or(static_cast<std::int64_t>(number(unet, "in_channels", 4, unet_file)));
    const Json size = unet.value("sample_size", Json());
    if (size.is_number()) default_latent_width_ = default_latent_height_ = size.get<std::int64_t>();
    if (size.is_array() && size.size() == 2 && size[0].is_number() && size[1].is_number()) {
        default_latent_height_ = size[0].get<std::int64_t>();
        default_latent_width_ = size[1].get<std::int64_t>();
    }
    default_latent_height_ = unet_->fixed_dim(*sample, 2).value_or(default_latent_height_);
    default_latent_width_ = unet_->fixed_dim(*sample, 3).value_or(default_latent_width_);
    if (unet_->input("timestep_cond")) {
        guidance_width_ =
            static_cast<std::int64_t>(number(unet, "time_cond_proj_dim", 256, unet_file));
        guidance_width_ =
            unet_->fixed_dim(*unet_->input("timestep_cond"), 1).value_or(guidance_width_);
    }
    const fs::path index = folder_ / "model_index.json";
    zeros_for_no_negative_ =
        config_of(index).value("force_zeros_for_empty_prompt", Json(true)) != false;
    const std::int64_t probe_height = decoder_->fixed_dim(decoder_->first_input(), 2).value_or(64);
    const std::int64_t probe_width = decoder_->fixed_dim(decoder_->first_input(), 3).value_or(64);
    const auto out = decoder_->output_sizes(decoder_->first_input().name,
                                            {1, channels_, probe_height, probe_width});
    if (out && out->size() == 4 && probe_height > 0 && (*out)[2] >= probe_height)
        scale_ = (*out)[2] / probe_height;
}

void Model::check_interface() const {
    const auto fail = [](const Part& part, const std::string& what) {
        throw std::runtime_error(part.file().string() + ": " + what);
    };
    const auto rank = [](const kn::OnnxInfo::Port& port) {
        return port.shape ? port.shape->rank() : 0;
    };
    if (rank(unet_->first_input()) != 4 || !unet_->input("timestep") ||
        !unet_->input("encoder_hidden_states"))
        fail(*unet_, "is no UNet: it must take sample, timestep and encoder_hidden_states");
    static const std::vector<std::string> known = {"timestep", "encoder_hidden_states",
                                                   "timestep_cond", "text_embeds", "time_ids"};
    const auto info = kn::read_onnx_info(unet_->file());
    for (const kn::OnnxInfo::Port& port : info.inputs)
        if (port.name != sample_name_ && std::ranges::find(known, port.name) == known.end() &&
            std::ranges::find(info.defaulted_inputs, port.name) == info.defaulted_inputs.end())
            fail(*unet_, "takes an input '" + kn::printable(port.name) +
                             "' that this program does not know");
    if (unet_->input("text_embeds") && !is_xl())
        fail(*unet_, "needs a second text encoder (text_encoder_2)");
    if (channels_ != decoder_->fixed_dim(decoder_->first_input(), 1).value_or(channels_))
        fail(*unet_, "takes " + std::to_string(channels_) + " channels, but vae_decoder " +
                         std::to_string(*decoder_->fixed_dim(decoder_->first_input(), 1)) +
                         " (an inpainting model is not supported)");
    if (rank(decoder_->first_input()) != 4) fail(*decoder_, "is no decoder of latents");
    if (encoder_ && rank(encoder_->first_input()) != 4)
        fail(*encoder_, "is no encoder of pictures");
    if (rank(text_encoder_->first_input()) != 2)
        fail(*text_encoder_, "is no text encoder: it must take ids");
}

bool Model::takes_latents(std::int64_t width, std::int64_t height) const {
    if (width < 1 || height < 1) return false;
    const kn::Ints sizes = {1, channels_, height, width};
    return unet_->takes(sample_name_, sizes) &&
           decoder_->takes(decoder_->first_input().name, sizes);
}

// The networks take multiples of this many latents (0: not even small multiples).
std::int64_t Model::granularity() const {
    for (std::int64_t g = 1; g <= 64; g++) {
        bool all = true;
        for (std::int64_t k = 1; k <= 8 && all; k++)
            all = takes_latents(8 * g * k, g * k) && takes_latents(g * k, 8 * g);
        if (all) return g;
    }
    return 0;
}

void Model::check_size(std::int64_t width, std::int64_t height) const {
    if (std::max(width, height) > largest_side)
        throw std::runtime_error("the picture must not be wider or higher than " +
                                 std::to_string(largest_side));
    if (width > 0 && height > 0 && width % scale_ == 0 && height % scale_ == 0 &&
        takes_latents(width / scale_, height / scale_))
        return;
    const std::string asked = std::to_string(width) + " x " + std::to_string(height);
    const kn::OnnxInfo::Port& sample = *unet_->input(sample_name_);
    const auto h = unet_->fixed_dim(sample, 2), w = unet_->fixed_dim(sample, 3);
    const auto size_text = [&](std::int64_t across, std::int64_t down) {
        return std::to_string(across * scale_) + " x " + std::to_string(down * scale_);
    };
    const auto decoder_h = decoder_->fixed_dim(decoder_->first_input(), 2),
               decoder_w = decoder_->fixed_dim(decoder_->first_input(), 3);
    if (h && w && decoder_h && decoder_w && (h != decoder_h || w != decoder_w))
        throw std::runtime_error("the model cannot draw " + asked + ": its unet was exported for " +
                                 size_text(*w, *h) + " alone, its vae_decoder for " +
                                 size_text(*decoder_w, *decoder_h));
    if (h && w)
        throw std::runtime_error("the model cannot draw " + asked + ": it was exported for " +
                                 size_text(*w, *h) + " alone");
    const std::int64_t multiple = granularity() * scale_;
    throw std::runtime_error(
        "the model cannot draw " + asked + ": " +
        (multiple > 0 ? "width and height must be multiples of " + std::to_string(multiple)
                      : std::string("its networks do not fit that size")));
}

std::pair<std::int64_t, std::int64_t> Model::size_below(std::int64_t width,
                                                        std::int64_t height) const {
    const std::int64_t multiple = std::max<std::int64_t>(granularity() * scale_, 1);
    return {std::max(width / multiple * multiple, multiple),
            std::max(height / multiple * multiple, multiple)};
}

kn::Tensor Model::run_encoder(Part& encoder, const std::vector<std::vector<std::int64_t>>& ids,
                              kn::Tensor* pooled) {
    std::vector<std::int64_t> flat;
    for (const auto& row : ids) flat.insert(flat.end(), row.begin(), row.end());
    const kn::Ints shape = {static_cast<std::int64_t>(ids.size()),
                            static_cast<std::int64_t>(ids[0].size())};
    const std::string main = encoder.input("input_ids") ? "input_ids" : encoder.first_input().name;
    Tensors inputs = {{main, kn::Tensor::from_span<std::int64_t>(shape, flat)}};
    if (encoder.input("attention_mask"))
        inputs["attention_mask"] =
            kn::Tensor::from_span<std::int64_t>(shape, std::vector<std::int64_t>(flat.size(), 1));
    const Tensors outputs = encoder.run(inputs, main);
    if (is_xl()) {
        // The last layer but one; outputs are numbered from the embeddings on.
        std::vector<std::pair<int, const kn::Tensor*>> layers;
        for (const auto& [name, tensor] : outputs)
            if (const std::size_t dot = name.rfind('.');
                name.starts_with("hidden_states") && dot != std::string::npos)
                layers.emplace_back(std::atoi(name.c_str() + dot + 1), &tensor);
        std::ranges::sort(layers);
        if (layers.size() < 2)
            throw std::runtime_error(encoder.file().string() +
                                     ": has no outputs hidden_states.N, which SDXL needs");
        if (pooled) {
            const auto found = outputs.find("text_embeds");
            *pooled =
                found != outputs.end() ? found->second : outputs.at(encoder.output_names()[0]);
            if (pooled->rank() != 2)
                throw std::runtime_error(encoder.file().string() +
                                         ": has no output text_embeds, which SDXL needs");
        }
        return *layers[layers.size() - 2].second;
    }
    const auto found = outputs.find("last_hidden_state");
    if (found != outputs.end()) return found->second;
    for (const std::string& name : encoder.output_names())
        if (outputs.at(name).rank() == 3) return outputs.at(name);
    throw std::runtime_error(encoder.file().string() + ": has no output last_hidden_state");
}

Text Model::encode_text(const std::vector<std::string>& texts,
                        const std::function<void(const std::string&)>& warn) {
    const auto tokenize = [&](const ClipTokenizer& tokenizer, const Part& part, bool tell) {
        std::vector<std::vector<std::int64_t>> out;
        for (const std::string& text : texts) {
            Tokens tokens = tokenizer.encode(text);
            if (tell && !tokens.cut.empty())
                warn("the prompt is longer than " + std::to_string(tokenizer.max_length()) +
                     " tokens; this is left out: \"" + tokens.cut + "\"");
            out.push_back(std::move(tokens.ids));
        }
        const fs::path config = folder_ / part.name() / "config.json";
        const double words = number(config_of(config), "vocab_size", HUGE_VAL, config);
        for (const auto& row : out)
            if (const auto largest = std::ranges::max(row); static_cast<double>(largest) >= words)
                throw std::runtime_error(part.file().string() + ": takes ids below " +
                                         std::to_string(static_cast<std::int64_t>(words)) +
                                         ", but the tokenizer gives " + std::to_string(largest) +
                                         ": the parts are not of one model");
        const auto fixed = part.fixed_dim(part.first_input(), 1);
        if (fixed && *fixed != static_cast<std::int64_t>(tokenizer.max_length()))
            throw std::runtime_error(part.file().string() + ": takes " + std::to_string(*fixed) +
                                     " tokens, but the tokenizer gives " +
                                     std::to_string(tokenizer.max_length()));
        return out;
    };
    Text out;
    out.hidden = run_encoder(*text_encoder_, tokenize(tokenizer_, *text_encoder_, true), nullptr);
    if (is_xl()) {
        const kn::Tensor second = run_encoder(
            *text_encoder_2_, tokenize(*tokenizer_2_, *text_encoder_2_, false), &out.pooled);
        // Side by side along the last axis.
        const std::int64_t a = out.hidden.shape().at(2), b = second.shape().at(2);
        kn::Tensor both(kn::DType::F32, {out.hidden.shape()[0], out.hidden.shape()[1], a + b});
        const auto from_a = out.hidden.data<float>(), from_b = second.data<float>();
        auto to = both.mutable_data<float>();
        for (std::int64_t row = 0; row < out.hidden.size() / a; row++) {
            std::ranges::copy(
                from_a.subspan(static_cast<std::size_t>(row * a), static_cast<std::size_t>(a)),
                to.begin() + row * (a + b));
            std::ranges::copy(
                from_b.subspan(static_cast<std::size_t>(row * b), static_cast<std::size_t>(b)),
                to.begin() + row * (a + b) + a);
        }
        out.hidden = both;
    }
    const auto width = unet_->fixed_dim(*unet_->input("encoder_hidden_states"), 2);
    if (width && *width != out.hidden.shape().at(2))
        throw std::runtime_error(unet_->file().string() + ": takes text embeddings of width " +
                                 std::to_string(*width) + ", but the text encoder gives " +
                                 std::to_string(out.hidden.shape()[2]) +
                                 ": the parts are not of one model");
    return out;
}

Tensors Model::conditions(const Text& text, const Conditions& conditions) const {
    const std::int64_t batch = text.hidden.shape().at(0);
    Tensors out = {{"encoder_hidden_states", text.hidden}};
    if (unet_->input("text_embeds")) out["text_embeds"] = text.pooled;
    if (unet_->input("time_ids")) {
        // Original size, crop, target size.
        std::vector<float> ids;
        for (std::int64_t i = 0; i < batch; i++)
            for (const std::int64_t v : {conditions.height, conditions.width, std::int64_t{0},
                                         std::int64_t{0}, conditions.height, conditions.width})
                ids.push_back(static_cast<float>(v));
        out["time_ids"] = kn::Tensor::from_span<float>({batch, 6}, ids);
    }
    if (guidance_width_ > 0) {
        // Sines and cosines of the guidance, as "On Distillation of Guided Diffusion Models" (Meng
        // et al. 2023) embeds it.
        const std::int64_t half = guidance_width_ / 2;
        std::vector<float> embedding(static_cast<std::size_t>(batch * guidance_width_), 0.0f);
        for (std::int64_t i = 0; i < batch; i++)
            for (std::int64_t k = 0; k < half; k++) {
                const double frequency = std::exp(-std::log(10000.0) * static_cast<double>(k) /
                                                  static_cast<double>(half - 1));
                const double angle = (conditions.guidance - 1) * 1000 * frequency;
                embedding[static_cast<std::size_t>(i * guidance_width_ + k)] =
                    static_cast<float>(std::sin(angle));
                embedding[static_cast<std::size_t>(i * guidance_width_ + half + k)] =
                    static_cast<float>(std::cos(angle));
            }
        out["timestep_cond"] = kn::Tensor::from_span<float>({batch, guidance_width_}, embedding);
    }
    return out;
}

kn::Tensor Model::predict(const kn::Tensor& latents, double timestep, const Tensors& conditions) {
    const std::int64_t batch = latents.shape().at(0);
    Tensors inputs = conditions;
    inputs[sample_name_] = latents;
    // A scalar, one for all, or one for each row, as declared.
    const kn::OnnxInfo::Port& port = *unet_->input("timestep");
    kn::Ints shape;
    if (port.shape && port.shape->rank() == 1) {
        const kn::OnnxInfo::Port& sample = *unet_->input(sample_name_);
        const bool per_row =
            sample.shape && sample.shape->rank() == 4 && (*port.shape)[0] == (*sample.shape)[0];
        shape = {per_row ? batch : (*port.shape)[0].constant().value_or(1)};
    }
    kn::Tensor times(kn::DType::F32, shape);
    std::ranges::fill(times.mutable_data<float>(), static_cast<float>(timestep));
    inputs["timestep"] = times;
    Tensors outputs = unet_->run(inputs, sample_name_);
    kn::Tensor out = outputs.at(unet_->output_names()[0]);
    if (out.shape() != latents.shape())
        throw std::runtime_error(unet_->file().string() + ": gives " + out.type_string() +
                                 " for latents " + latents.type_string());
    return out;
}

kn::Tensor Model::decode(const kn::Tensor& latents) {
    kn::Tensor scaled = latents;
    const std::size_t plane =
        static_cast<std::size_t>(latents.shape().at(2) * latents.shape().at(3));
    const auto channels = static_cast<std::size_t>(channels_);
    const bool normalized = latents_mean_.size() == channels && latents_std_.size() == channels;
    std::span<float> values = scaled.mutable_data<float>();
    for (std::size_t i = 0; i < values.size(); i++) {
        const std::size_t c = i / plane % channels;
        const double value = values[i] * (normalized ? latents_std_[c] : 1.0) / scaling_factor_ +
                             (normalized ? latents_mean_[c] : 0.0) + shift_;
        values[i] = static_cast<float>(value);
    }
    // One picture at a time: a decoder needs much memory.
    std::vector<kn::Tensor> pictures;
    const std::string& name = decoder_->first_input().name;
    for (std::int64_t i = 0; i < scaled.shape()[0]; i++)
        pictures.push_back(
            decoder_->run({{name, rows(scaled, i, i + 1)}}, name).at(decoder_->output_names()[0]));
    if (pictures.at(0).rank() != 4 || pictures[0].shape()[1] != 3)
        throw std::runtime_error(decoder_->file().string() + ": gives " +
                                 pictures[0].type_string() + ", not a picture of three colours");
    return concat_rows(pictures);
}

kn::Tensor Model::encode(const kn::Tensor& pictures, const Fill& noise) {
    const std::string& name = encoder_->first_input().name;
    const kn::Tensor found =
        encoder_->run({{name, pictures}}, name).at(encoder_->output_names()[0]);
    kn::Ints shape = found.shape();
    if (shape.size() != 4 || (shape[1] != channels_ && shape[1] != 2 * channels_))
        throw std::runtime_error(encoder_->file().string() + ": gives " + found.type_string() +
                                 ", not latents of " + std::to_string(channels_) + " channels");
    const bool has_variance = shape[1] == 2 * channels_;
    shape[1] = channels_;
    kn::Tensor out(kn::DType::F32, shape);
    const auto half = static_cast<std::size_t>(channels_ * shape[2] * shape[3]);
    std::vector<float> fresh;
    if (has_variance && noise) {
        fresh.resize(static_cast<std::size_t>(out.size()));
        noise(fresh);
    }
    const std::span<const float> from = found.data<float>();
    std::span<float> to = out.mutable_data<float>();
    for (std::size_t i = 0; i < to.size(); i++) {
        const std::size_t row = i / half * half * (has_variance ? 2 : 1);
        double value = from[row + i % half];
        if (!fresh.empty())
            value += std::exp(0.5 * std::clamp(static_cast<double>(from[row + half + i % half]),
                                               -30.0, 20.0)) *
                     fresh[i];
        to[i] = static_cast<float>((value - shift_) * scaling_factor_);
    }
    return out;
}

std::vector<const Part*> Model::parts() const {
    std::vector<const Part*> out;
    for (const auto* part : {&text_encoder_, &text_encoder_2_, &unet_, &decoder_, &encoder_})
        if (*part) out.push_back(part->get());
    return out;
}

std::size_t Model::parameters() const {
    std::size_t sum = 0;
    for (const Part* part : parts()) sum += part->parameters();
    return sum;
}

std::size_t Model::peak_bytes() const {
    std::size_t sum = 0;
    for (const Part* part : parts()) sum += part->peak_bytes();
    return sum;
}

}  // namespace sd
