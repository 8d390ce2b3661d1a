#include "common/image.h"

#include <png.h>

#include <stdexcept>
#include <string>

namespace common {
namespace {

constexpr std::size_t largest_side = 1 << 15;

[[noreturn]] void fail(const std::filesystem::path& path, const png_image& png) {
    throw std::runtime_error(path.string() + ": " + png.message);
}

}  // namespace

Image read_png(const std::filesystem::path& path) {
    png_image png{};
    png.version = PNG_IMAGE_VERSION;
    if (!png_image_begin_read_from_file(&png, path.c_str())) fail(path, png);
    Image image{png.width, png.height, {}};
    if (image.width > largest_side || image.height > largest_side) {
        png_image_free(&png);
        throw std::runtime_error(path.string() + ": the picture is too large");
    }
    png.format = PNG_FORMAT_RGB;
    image.rgb.resize(PNG_IMAGE_SIZE(png));
    const png_color white{255, 255, 255};
    if (!png_image_finish_read(&png, &white, image.rgb.data(), 0, nullptr)) fail(path, png);
    return image;
}

void write_png(const std::filesystem::path& path, const Image& image) {
    png_image png{};
    png.version = PNG_IMAGE_VERSION;
    png.width = static_cast<png_uint_32>(image.width);
    png.height = static_cast<png_uint_32>(image.height);
    png.format = PNG_FORMAT_RGB;
    if (!png_image_write_to_file(&png, path.c_str(), 0, image.rgb.data(), 0, nullptr))
        fail(path, png);
}

}  // namespace common
