#include "llama/chat_model.h"

#include <algorithm>
#include <fstream>
#include <stdexcept>

#include <nlohmann/json.hpp>

namespace {

// "smollm": digits one by one, then GPT-2's expression on what lies between them, for which a digit
// is the end of the text.
const char* const smollm_words =
    R"(\p{N}|'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?![^\s\p{N}])|\s+)";

// A GPU's plan is for one length. Padded to a multiple of this, a long answer needs few plans, and
// the last ones of the sequence cannot be seen by those before.
constexpr std::size_t gpu_step = 64;

}  // namespace

ChatModel::ChatModel(const std::filesystem::path& folder, const kn::NetworkOptions& options)
    : bpe_(folder / "vocab.json", folder / "merges.txt"),
      words_(smollm_words),
      network_(kn::Network::load(folder / "model.onnx", options)) {
    std::ifstream file(folder / "tokenizer.json");
    const auto json = nlohmann::json::parse(file, nullptr, false);
    if (!json.is_object() || json.value("pre", "") != "smollm" || !json.contains("eos_token_id") ||
        !json.contains("context_length"))
        throw std::runtime_error((folder / "tokenizer.json").string() +
                                 ": not a smollm tokenizer's");
    end_ = json["eos_token_id"];
    context_ = json["context_length"];
    if (options.device.kind() == kn::Device::Kind::Cuda) step_ = gpu_step;
}

std::vector<std::int64_t> ChatModel::tokens(std::string_view text) const {
    std::vector<std::int64_t> out;
    for (const std::string_view word : words_.split(text)) bpe_.encode(word, out);
    return out;
}

std::vector<std::int64_t> ChatModel::conversation(std::string_view system,
                                                  std::string_view user) const {
    std::vector<std::int64_t> out;
    const auto append = [&](const std::string& text) {
        const auto ids = tokens(text);
        out.insert(out.end(), ids.begin(), ids.end());
    };
    const auto turn = [&](const std::string& who, std::string_view what) {
        out.push_back(bpe_.id("<|im_start|>"));
        append(who + "\n" + std::string(what));
        out.push_back(bpe_.id("<|im_end|>"));
        append("\n");
    };
    turn("system", system);
    turn("user", user);
    out.push_back(bpe_.id("<|im_start|>"));
    append("assistant\n");
    return out;
}

std::int64_t ChatModel::next(std::span<const std::int64_t> tokens) {
    if (tokens.empty() || tokens.size() > context_)
        throw std::runtime_error(std::to_string(tokens.size()) + " tokens: the model takes 1 to " +
                                 std::to_string(context_));
    std::vector<std::int64_t> padded(tokens.begin(), tokens.end());
    padded.resize(std::min((tokens.size() + step_ - 1) / step_ * step_, context_), end_);
    const auto length = static_cast<std::int64_t>(padded.size());
    const auto last = static_cast<std::int64_t>(tokens.size()) - 1;
    const auto outputs = network_.run(std::map<std::string, kn::Tensor>{
        {"input_ids", kn::Tensor::from_span<std::int64_t>({1, length}, padded)},
        {"last", kn::Tensor::from_span<std::int64_t>({1}, std::span(&last, 1))}});
    const std::span<const float> logits = outputs.at(0).data<float>();
    return std::ranges::max_element(logits) - logits.begin();
}
