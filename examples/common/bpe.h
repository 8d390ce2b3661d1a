// Byte-level byte-pair encoding, as GPT-2, CLIP and their kin use it.
//
//     common::Bpe bpe("vocab.json", "merges.txt");
//     common::Splitter words(R"( ?\p{L}+| ?\p{N}+|[^\s\p{L}\p{N}]+|\s+)");
//     for (std::string_view word : words.split("Hello there")) bpe.encode(word, ids);
//
// What a model adds to this (special tokens, lower case, which expression splits the text) is its
// own tokenizer's.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace common {

/// Cuts text into the pieces that a regular expression (PCRE2, UTF-8) finds one after the other;
/// what lies between two pieces is dropped.
class Splitter {
  public:
    /// Throws std::runtime_error if the expression does not compile.
    explicit Splitter(const std::string& expression);
    /// The pieces are parts of `text`. Throws std::runtime_error if it is not UTF-8.
    std::vector<std::string_view> split(std::string_view text) const;

  private:
    std::shared_ptr<void> code_;
};

class Bpe {
  public:
    /// `vocabulary`: JSON, token to id; `merges`: two symbols a line, best first, after an optional
    /// line "#version". `word_end` is what the vocabulary appends to the last symbol of a word
    /// ("</w>" in CLIP's). Throws std::runtime_error that names the file.
    Bpe(const std::filesystem::path& vocabulary, const std::filesystem::path& merges,
        std::string word_end = {});

    /// Appends the ids of one word (any bytes). A symbol that the vocabulary lacks gets the id
    /// `unknown`, or std::runtime_error is thrown.
    void encode(std::string_view word, std::vector<std::int64_t>& ids,
                std::optional<std::int64_t> unknown = {}) const;
    /// The bytes that the ids stand for; tokens outside the byte alphabet (special ones) as they
    /// are written.
    std::string decode(std::span<const std::int64_t> ids) const;

    /// The id of a token as the vocabulary writes it. Throws std::runtime_error if there is none.
    std::int64_t id(const std::string& token) const;
    std::size_t size() const { return ids_.size(); }

  private:
    std::string word_end_;
    std::unordered_map<std::string, std::int64_t> ids_;
    std::unordered_map<std::int64_t, std::string> tokens_;
    std::unordered_map<std::string, std::size_t> ranks_;  // "left right"
    std::array<std::string, 256> letters_;                // the byte alphabet
    std::unordered_map<std::string, char> bytes_;
};

}  // namespace common
