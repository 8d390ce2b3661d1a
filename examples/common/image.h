// Pictures in PNG files.
//
//     common::Image image = common::read_png("line.png");
//     image.at(x, y, 0);                                   // red, 0..255
//     common::write_png("small.png", common::resized(image, 64, 64), {{"Title", "a line"}});
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace common {

/// Rows of 8-bit RGB from the top left.
struct Image {
    std::size_t width = 0;
    std::size_t height = 0;
    std::vector<std::uint8_t> rgb;

    std::uint8_t at(std::size_t x, std::size_t y, std::size_t channel) const {
        return rgb[(y * width + x) * 3 + channel];
    }
};

/// Texts that a PNG file carries: keyword (1 to 79 Latin letters) and UTF-8.
using PngTexts = std::vector<std::pair<std::string, std::string>>;

/// Reads any PNG; transparent pixels stand on white. Throws std::runtime_error that names the file.
Image read_png(const std::filesystem::path& path);

/// The file appears whole or not at all. Throws std::runtime_error that names the file.
void write_png(const std::filesystem::path& path, const Image& image, const PngTexts& texts = {});

/// With Lanczos's filter of three lobes, widened where the picture shrinks. Sides of 1 and more.
Image resized(const Image& image, std::size_t width, std::size_t height);

}  // namespace common
