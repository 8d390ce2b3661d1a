#include "read_text/recognizer.h"

#include <algorithm>
#include <cmath>
#include <sstream>
#include <stdexcept>

namespace {

constexpr std::size_t rows = 48;
constexpr std::size_t least_columns = 320;

/// Between which two source pixels a pixel of the scaled row lies, and how near the second.
struct Tap {
    std::size_t first;
    std::size_t second;
    double fraction;
};

std::vector<Tap> taps(std::size_t from, std::size_t to) {
    std::vector<Tap> result(to);
    const double scale = static_cast<double>(from) / static_cast<double>(to);
    for (std::size_t i = 0; i < to; ++i) {
        const double center = (static_cast<double>(i) + 0.5) * scale - 0.5;
        const double position = std::clamp(center, 0.0, static_cast<double>(from - 1));
        const auto first = static_cast<std::size_t>(position);
        result[i] = {first, std::min(first + 1, from - 1), position - static_cast<double>(first)};
    }
    return result;
}

std::vector<std::string> characters_of(const kn::OnnxInfo& info) {
    const auto found = info.metadata.find("character");
    if (found == info.metadata.end())
        throw std::runtime_error("the model does not name its characters (metadata \"character\")");
    std::vector<std::string> characters = {""};
    std::istringstream lines(found->second);
    for (std::string line; std::getline(lines, line);) characters.push_back(line);
    characters.emplace_back(" ");
    return characters;
}

}  // namespace

kn::Tensor network_input(const common::Image& image) {
    if (image.width == 0 || image.height == 0) throw std::runtime_error("the picture is empty");
    const std::size_t scaled = (rows * image.width + image.height - 1) / image.height;
    const std::size_t columns = std::max(scaled, least_columns);
    kn::Tensor input = kn::Tensor::zeros(kn::DType::F32, {1, 3, static_cast<std::int64_t>(rows),
                                                          static_cast<std::int64_t>(columns)});
    const std::span<float> pixels = input.mutable_data<float>();
    const std::vector<Tap> down = taps(image.height, rows);
    const std::vector<Tap> across = taps(image.width, scaled);
    for (std::size_t channel = 0; channel < 3; ++channel) {
        const std::size_t source = 2 - channel;  // blue first
        for (std::size_t y = 0; y < rows; ++y) {
            for (std::size_t x = 0; x < scaled; ++x) {
                const auto [top, bottom, v] = down[y];
                const auto [left, right, u] = across[x];
                const double upper =
                    image.at(left, top, source) * (1 - u) + image.at(right, top, source) * u;
                const double lower =
                    image.at(left, bottom, source) * (1 - u) + image.at(right, bottom, source) * u;
                const double value = upper * (1 - v) + lower * v;
                pixels[(channel * rows + y) * columns + x] = static_cast<float>(value / 127.5 - 1);
            }
        }
    }
    return input;
}

Recognizer::Recognizer(const std::filesystem::path& model, kn::Device device)
    : network_(kn::Network::load(model, {.device = device})),
      characters_(characters_of(network_.info())) {}

Reading Recognizer::read(const common::Image& image) {
    return decode(network_.run({network_input(image)}).front());
}

// Greedy CTC: the likeliest class of each step, repetitions merged, blanks dropped.
Reading Recognizer::decode(const kn::Tensor& probabilities) const {
    const auto classes = static_cast<std::size_t>(probabilities.shape().back());
    if (classes != characters_.size())
        throw std::runtime_error("the model has " + std::to_string(classes) +
                                 " classes and names " + std::to_string(characters_.size()) +
                                 " characters");
    const std::span<const float> all = probabilities.data<float>();
    Reading reading;
    std::size_t previous = 0;
    std::size_t count = 0;
    for (std::size_t step = 0; step + classes <= all.size(); step += classes) {
        const auto row = all.subspan(step, classes);
        const auto best = std::max_element(row.begin(), row.end());
        const auto index = static_cast<std::size_t>(best - row.begin());
        if (index != 0 && index != previous) {
            reading.text += characters_[index];
            reading.confidence += static_cast<double>(*best);
            ++count;
        }
        previous = index;
    }
    if (count > 0) reading.confidence /= static_cast<double>(count);
    return reading;
}
