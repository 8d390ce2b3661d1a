#include "stable_diffusion/clip_tokenizer.h"

#include <algorithm>
#include <stdexcept>

#include <nlohmann/json.hpp>

#include "common/unicode.h"
#include "stable_diffusion/json_file.h"

namespace sd {

namespace {

using Json = nlohmann::json;

constexpr const char* word_expression =
    R"(<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+)";

// A special token is given as its text or as an object with it.
void read_token(const Json& json, const char* key, std::string& token) {
    const auto found = json.find(key);
    if (found == json.end()) return;
    if (found->is_string()) token = found->get<std::string>();
    if (found->is_object()) token = found->value("content", token);
}

}  // namespace

ClipTokenizer::ClipTokenizer(const std::filesystem::path& folder)
    : bpe_(folder / "vocab.json", folder / "merges.txt", "</w>"),
      words_(word_expression),
      spaces_(R"(\S+)") {
    std::string start = "<|startoftext|>", end = "<|endoftext|>", pad = end, unknown = end;
    const auto read_tokens = [&](const Json& json) {
        read_token(json, "bos_token", start);
        read_token(json, "eos_token", end);
        read_token(json, "pad_token", pad);
        read_token(json, "unk_token", unknown);
    };
    const std::filesystem::path config_file = folder / "tokenizer_config.json";
    Json config = Json::object();
    if (std::filesystem::exists(config_file)) config = read_json(config_file);
    read_tokens(config);
    // The map was there first; newer files say all in the config.
    const std::filesystem::path map = folder / "special_tokens_map.json";
    if (!config.contains("added_tokens_decoder") && std::filesystem::exists(map))
        read_tokens(read_json(map));
    const Json longest = config.value("model_max_length", Json());
    if (longest.is_number() && longest.get<double>() >= 2 && longest.get<double>() <= 100000)
        max_length_ = longest.get<std::size_t>();
    start_ = bpe_.id(start);
    end_ = bpe_.id(end);
    pad_ = bpe_.id(pad);
    unknown_ = bpe_.id(unknown);
    for (const std::string& token : {start, end, pad, unknown})
        special_.emplace_back(token, bpe_.id(token));
    std::ranges::stable_sort(
        special_, [](const auto& a, const auto& b) { return a.first.size() > b.first.size(); });
}

std::vector<ClipTokenizer::Piece> ClipTokenizer::pieces(const std::string& normalized) const {
    std::vector<Piece> out;
    const std::string_view text = normalized;
    const auto add_words = [&](std::size_t from, std::size_t to) {
        for (const std::string_view word : words_.split(text.substr(from, to - from))) {
            out.push_back({static_cast<std::size_t>(word.data() - text.data()), {}});
            bpe_.encode(word, out.back().ids, unknown_);
        }
    };
    std::size_t from = 0;
    for (std::size_t i = 0; i < text.size();) {
        const auto found = std::ranges::find_if(
            special_, [&](const auto& s) { return text.substr(i).starts_with(s.first); });
        if (found == special_.end()) {
            i++;
            continue;
        }
        add_words(from, i);
        out.push_back({i, {found->second}});
        i += found->first.size();
        from = i;
    }
    add_words(from, text.size());
    return out;
}

Tokens ClipTokenizer::encode(const std::string& text) const {
    const std::string composed = common::normal_form_c(text);
    std::string spaced;
    for (const std::string_view part : spaces_.split(composed)) {
        if (!spaced.empty()) spaced += ' ';
        spaced += part;
    }
    const std::string normalized = common::lower_case(spaced);
    Tokens out;
    out.ids.push_back(start_);
    for (const Piece& piece : pieces(normalized)) {
        const std::size_t room = max_length_ - 1 - out.ids.size();
        const std::size_t taken = std::min(room, piece.ids.size());
        out.ids.insert(out.ids.end(), piece.ids.begin(),
                       piece.ids.begin() + static_cast<std::ptrdiff_t>(taken));
        if (taken == piece.ids.size()) continue;
        out.cut = normalized.substr(piece.at);
        break;
    }
    out.ids.push_back(end_);
    out.ids.resize(max_length_, pad_);
    return out;
}

}  // namespace sd
