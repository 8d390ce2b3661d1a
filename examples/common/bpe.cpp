#include "common/bpe.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <stdexcept>

#include <pcre2.h>
#include <nlohmann/json.hpp>

namespace common {

namespace {

std::string utf8(unsigned code) {
    if (code < 0x80) return {static_cast<char>(code)};
    return {static_cast<char>(0xC0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3F))};
}

// GPT-2's alphabet: printable Latin-1 letters stand for themselves, the other bytes for U+0100 and
// up in their order.
std::array<std::string, 256> byte_letters() {
    std::array<std::string, 256> out;
    unsigned next = 0x100;
    for (unsigned b = 0; b < 256; b++) {
        const bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
        out[b] = utf8(printable ? b : next++);
    }
    return out;
}

// Bytes of the UTF-8 character that starts with this byte.
std::size_t character_length(char first) {
    const auto b = static_cast<unsigned char>(first);
    return b < 0xC0 ? 1 : b < 0xE0 ? 2 : b < 0xF0 ? 3 : 4;
}

}  // namespace

Splitter::Splitter(const std::string& expression) {
    int error = 0;
    PCRE2_SIZE at = 0;
    code_ = {pcre2_compile(reinterpret_cast<PCRE2_SPTR>(expression.data()), expression.size(),
                           PCRE2_UTF | PCRE2_UCP, &error, &at, nullptr),
             [](void* code) { pcre2_code_free(static_cast<pcre2_code*>(code)); }};
    if (!code_)
        throw std::runtime_error("expression '" + expression + "': error at " + std::to_string(at));
}

std::vector<std::string_view> Splitter::split(std::string_view text) const {
    const auto* code = static_cast<const pcre2_code*>(code_.get());
    const std::unique_ptr<pcre2_match_data, void (*)(pcre2_match_data*)> match(
        pcre2_match_data_create_from_pattern(code, nullptr), pcre2_match_data_free);
    std::vector<std::string_view> out;
    PCRE2_SIZE at = 0;
    while (at < text.size()) {
        const int count = pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                                      at, 0, match.get(), nullptr);
        if (count == PCRE2_ERROR_NOMATCH) break;
        if (count < 0) throw std::runtime_error("the text is not valid UTF-8");
        const PCRE2_SIZE* found = pcre2_get_ovector_pointer(match.get());
        if (found[1] == found[0]) {  // an empty piece: go on behind the next character
            at = found[1] + (found[1] < text.size() ? character_length(text[found[1]]) : 1);
            continue;
        }
        out.push_back(text.substr(found[0], found[1] - found[0]));
        at = found[1];
    }
    return out;
}

Bpe::Bpe(const std::filesystem::path& vocabulary, const std::filesystem::path& merges,
         std::string word_end)
    : word_end_(std::move(word_end)), letters_(byte_letters()) {
    std::ifstream vocabulary_file(vocabulary);
    if (!vocabulary_file) throw std::runtime_error(vocabulary.string() + ": cannot be read");
    const auto json = nlohmann::json::parse(vocabulary_file, nullptr, false);
    if (!json.is_object()) throw std::runtime_error(vocabulary.string() + ": not a JSON object");
    for (const auto& [token, id] : json.items()) {
        if (!id.is_number_integer())
            throw std::runtime_error(vocabulary.string() + ": token '" + token + "' has no number");
        ids_[token] = id.get<std::int64_t>();
        tokens_[id.get<std::int64_t>()] = token;
    }
    std::ifstream merges_file(merges);
    if (!merges_file) throw std::runtime_error(merges.string() + ": cannot be read");
    for (std::string line; std::getline(merges_file, line);) {
        if (!line.empty() && line.back() == '\r') line.pop_back();
        const bool version = ranks_.empty() && line.starts_with("#version");
        if (!version && line.find(' ') != std::string::npos) ranks_.emplace(line, ranks_.size());
    }
    for (unsigned b = 0; b < 256; b++) bytes_[letters_[b]] = static_cast<char>(b);
}

void Bpe::encode(std::string_view word, std::vector<std::int64_t>& ids,
                 std::optional<std::int64_t> unknown) const {
    if (word.empty()) return;
    std::vector<std::string> symbols;
    for (const char c : word) symbols.push_back(letters_[static_cast<unsigned char>(c)]);
    symbols.back() += word_end_;
    // The pair of lowest rank is merged wherever it occurs, until no pair has a rank.
    while (symbols.size() > 1) {
        std::size_t best = std::numeric_limits<std::size_t>::max(), at = 0;
        for (std::size_t i = 0; i + 1 < symbols.size(); i++) {
            const auto found = ranks_.find(symbols[i] + " " + symbols[i + 1]);
            if (found != ranks_.end() && found->second < best) best = found->second, at = i;
        }
        if (best == std::numeric_limits<std::size_t>::max()) break;
        const std::string left = symbols[at], right = symbols[at + 1];
        std::vector<std::string> merged;
        for (std::size_t i = 0; i < symbols.size(); i++) {
            if (i + 1 < symbols.size() && symbols[i] == left && symbols[i + 1] == right)
                merged.push_back(left + right), i++;
            else
                merged.push_back(std::move(symbols[i]));
        }
        symbols = std::move(merged);
    }
    for (const std::string& symbol : symbols)
        ids.push_back(unknown && !ids_.contains(symbol) ? *unknown : id(symbol));
}

std::string Bpe::decode(std::span<const std::int64_t> ids) const {
    std::string out;
    for (const std::int64_t id : ids) {
        const auto token = tokens_.find(id);
        if (token == tokens_.end()) throw std::runtime_error("no token " + std::to_string(id));
        std::string_view text = token->second;
        if (!word_end_.empty() && text.ends_with(word_end_)) text.remove_suffix(word_end_.size());
        for (std::size_t i = 0; i < text.size();) {
            const std::string letter(text.substr(i, character_length(text[i])));
            const auto byte = bytes_.find(letter);
            if (byte != bytes_.end())
                out += byte->second;
            else
                out += letter;
            i += letter.size();
        }
        if (!word_end_.empty() && token->second.ends_with(word_end_)) out += ' ';
    }
    return out;
}

std::int64_t Bpe::id(const std::string& token) const {
    const auto found = ids_.find(token);
    if (found == ids_.end())
        throw std::runtime_error("the vocabulary has no token '" + token + "'");
    return found->second;
}

}  // namespace common
