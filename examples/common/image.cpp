#include "common/image.h"

#include <png.h>

#include <algorithm>
#include <cmath>
#include <csetjmp>
#include <numbers>
#include <stdexcept>
#include <string>

#include "common/files.h"

namespace common {
namespace {

constexpr std::size_t largest_side = 1 << 15;

[[noreturn]] void fail(const std::filesystem::path& path, const png_image& png) {
    throw std::runtime_error(path.string() + ": " + png.message);
}

void append(png_structp png, png_bytep data, png_size_t size) {
    auto& out = *static_cast<std::vector<std::uint8_t>*>(png_get_io_ptr(png));
    out.insert(out.end(), data, data + size);
}

std::vector<png_text> text_chunks(const PngTexts& texts) {
    std::vector<png_text> out;
    for (const auto& [key, value] : texts) {
        const bool ascii =
            std::ranges::all_of(value, [](char c) { return static_cast<unsigned char>(c) < 0x80; });
        png_text text{};
        text.compression = ascii ? PNG_TEXT_COMPRESSION_NONE : PNG_ITXT_COMPRESSION_NONE;
        text.key = const_cast<char*>(key.c_str());
        text.text = const_cast<char*>(value.c_str());
        text.text_length = ascii ? value.size() : 0;
        text.itxt_length = ascii ? 0 : value.size();
        out.push_back(text);
    }
    return out;
}

// libpng leaves by longjmp, so nothing with a destructor is made in here.
bool encode(png_structp png, png_infop info, const Image& image, std::vector<png_text>& texts,
            std::vector<png_bytep>& rows, std::vector<std::uint8_t>& out) {
    if (setjmp(png_jmpbuf(png))) return false;
    png_set_write_fn(png, &out, append, nullptr);
    png_set_IHDR(png, info, static_cast<png_uint_32>(image.width),
                 static_cast<png_uint_32>(image.height), 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    if (!texts.empty()) png_set_text(png, info, texts.data(), static_cast<int>(texts.size()));
    png_write_info(png, info);
    png_write_image(png, rows.data());
    png_write_end(png, info);
    return true;
}

/// Which source pixels make one of the result, and how much each counts.
struct Taps {
    std::size_t first = 0;
    std::vector<double> weights;
};

double lanczos(double x) {
    if (x == 0) return 1;
    if (std::abs(x) >= 3) return 0;
    const double t = std::numbers::pi * x;
    return 3 * std::sin(t) * std::sin(t / 3) / (t * t);
}

std::vector<Taps> make_taps(std::size_t from, std::size_t to) {
    const double scale = static_cast<double>(from) / static_cast<double>(to);
    const double stretch = std::max(scale, 1.0);
    std::vector<Taps> out(to);
    for (std::size_t i = 0; i < to; i++) {
        const double center = (static_cast<double>(i) + 0.5) * scale;
        const auto low = static_cast<std::int64_t>(center - 3 * stretch + 0.5);
        const auto high = static_cast<std::int64_t>(center + 3 * stretch + 0.5);
        out[i].first = static_cast<std::size_t>(std::max<std::int64_t>(low, 0));
        const auto end = static_cast<std::size_t>(std::min(high, static_cast<std::int64_t>(from)));
        double sum = 0;
        for (std::size_t k = out[i].first; k < end; k++) {
            out[i].weights.push_back(lanczos((static_cast<double>(k) - center + 0.5) / stretch));
            sum += out[i].weights.back();
        }
        for (double& weight : out[i].weights) weight /= sum;
    }
    return out;
}

// One direction: the pixels of a line lie `step` apart, lines `line_step`.
void resample(const std::vector<std::uint8_t>& from, std::vector<std::uint8_t>& to,
              const std::vector<Taps>& taps, std::size_t lines, std::size_t from_line,
              std::size_t to_line, std::size_t step) {
    for (std::size_t line = 0; line < lines; line++)
        for (std::size_t i = 0; i < taps.size(); i++)
            for (std::size_t channel = 0; channel < 3; channel++) {
                double sum = 0;
                for (std::size_t k = 0; k < taps[i].weights.size(); k++)
                    sum += taps[i].weights[k] *
                           from[line * from_line + (taps[i].first + k) * step + channel];
                to[line * to_line + i * step + channel] =
                    static_cast<std::uint8_t>(std::clamp(std::floor(sum + 0.5), 0.0, 255.0));
            }
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

void write_png(const std::filesystem::path& path, const Image& image, const PngTexts& texts) {
    std::vector<png_text> chunks = text_chunks(texts);
    std::vector<png_bytep> rows;
    for (std::size_t y = 0; y < image.height; y++)
        rows.push_back(const_cast<png_bytep>(image.rgb.data() + y * image.width * 3));
    const auto quiet = [](png_structp png, png_const_charp) { png_longjmp(png, 1); };
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, quiet,
                                              [](png_structp, png_const_charp) {});
    png_infop info = png ? png_create_info_struct(png) : nullptr;
    std::vector<std::uint8_t> bytes;
    const bool done = info && encode(png, info, image, chunks, rows, bytes);
    png_destroy_write_struct(&png, &info);
    if (!done) throw std::runtime_error(path.string() + ": the picture cannot be encoded");
    write_file(path, bytes);
}

Image resized(const Image& image, std::size_t width, std::size_t height) {
    Image wide{width, image.height, std::vector<std::uint8_t>(width * image.height * 3)};
    resample(image.rgb, wide.rgb, make_taps(image.width, width), image.height, image.width * 3,
             width * 3, 3);
    Image out{width, height, std::vector<std::uint8_t>(width * height * 3)};
    // Columns: a line is one column of pixels, its pixels a row apart.
    resample(wide.rgb, out.rgb, make_taps(image.height, height), width, 3, 3, width * 3);
    return out;
}

}  // namespace common
