// CLIP's tokenizer: text to the ids that a text encoder takes.
//
//     ClipTokenizer tokenizer("model/tokenizer");
//     Tokens tokens = tokenizer.encode("a red circle");   // start, words, end, padding
//
// As Hugging Face's CLIPTokenizer: form C, white space to one space, lower case, then byte-level
// pairs merged word by word. Symbols that the vocabulary lacks become its unknown token.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "common/bpe.h"

namespace sd {

struct Tokens {
    std::vector<std::int64_t> ids;  ///< max_length() of them
    std::string cut;                ///< what did not fit; empty if all did
};

class ClipTokenizer {
  public:
    /// A folder with vocab.json, merges.txt and, where they are there, tokenizer_config.json and
    /// special_tokens_map.json. Throws std::runtime_error that names the file.
    explicit ClipTokenizer(const std::filesystem::path& folder);

    /// Throws std::runtime_error if the text is not UTF-8.
    Tokens encode(const std::string& text) const;
    std::size_t max_length() const { return max_length_; }

  private:
    struct Piece {
        std::size_t at;  // in the normalized text
        std::vector<std::int64_t> ids;
    };
    std::vector<Piece> pieces(const std::string& normalized) const;

    common::Bpe bpe_;
    common::Splitter words_;
    common::Splitter spaces_;
    std::vector<std::pair<std::string, std::int64_t>> special_;
    std::int64_t start_ = 0;
    std::int64_t end_ = 0;
    std::int64_t pad_ = 0;
    std::int64_t unknown_ = 0;
    std::size_t max_length_ = 77;
};

}  // namespace sd
