// A chat model of the LLaMA architecture as export.py writes it: tokenizer and network.
//
//     ChatModel model(folder, {.device = kn::Device::best()});
//     std::vector<std::int64_t> ids = model.conversation("You are helpful.", "Hello!");
//     while (ids.back() != model.end()) ids.push_back(model.next(ids));
#pragma once

#include <kn/kn.h>

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/bpe.h"

class ChatModel {
  public:
    /// Throws std::runtime_error that names the file, kn::OnnxError, kn::DeviceError.
    ChatModel(const std::filesystem::path& folder, const kn::NetworkOptions& options);

    /// Text to tokens; nothing in it counts as a special token.
    std::vector<std::int64_t> tokens(std::string_view text) const;
    std::string text(std::span<const std::int64_t> tokens) const { return bpe_.decode(tokens); }
    /// ChatML: both parts and the opening of the model's turn.
    std::vector<std::int64_t> conversation(std::string_view system, std::string_view user) const;

    /// The likeliest token after these. Computes the whole sequence anew. Throws std::runtime_error
    /// if it is longer than the model's context.
    std::int64_t next(std::span<const std::int64_t> tokens);

    /// The token that ends a turn.
    std::int64_t end() const { return end_; }
    std::size_t context() const { return context_; }
    const kn::Network& network() const { return network_; }

  private:
    common::Bpe bpe_;
    common::Splitter words_;
    kn::Network network_;
    std::int64_t end_ = 0;
    std::size_t context_ = 0;
    std::size_t step_ = 1;  // lengths are padded to multiples of this
};
