// Pictures in PNG files.
//
//     common::Image image = common::read_png("line.png");
//     image.at(x, y, 0);                                   // red, 0..255
#pragma once

#include <cstdint>
#include <filesystem>
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

/// Reads any PNG; transparent pixels stand on white. Throws std::runtime_error that names the file.
Image read_png(const std::filesystem::path& path);

/// Throws std::runtime_error that names the file.
void write_png(const std::filesystem::path& path, const Image& image);

}  // namespace common
