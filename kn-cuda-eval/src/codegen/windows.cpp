#include "codegen/windows.h"

#include <fmt/core.h>

namespace kn::cuda {

namespace {

std::string constant(const char* name, std::int64_t value) {
    const bool wide = value > 0x7fffffff || value < -0x7fffffff;
    return fmt::format("constexpr {} {} = {};\n", wide ? "long long" : "int", name, value);
}

}  // namespace

std::string window_constants(const ProductWindows& windows) {
    std::string text = constant("kn_window_channels", windows.channels);
    text += constant("kn_window_height_in", windows.height);
    text += constant("kn_window_width_in", windows.width);
    text += constant("kn_window_rows", windows.rows);
    text += constant("kn_window_columns", windows.columns);
    text += constant("kn_window_width", windows.kernel_width);
    text += constant("kn_window_stride_y", windows.stride_y);
    text += constant("kn_window_stride_x", windows.stride_x);
    text += constant("kn_window_pad_y", windows.pad_y);
    text += constant("kn_window_pad_x", windows.pad_x);
    text += constant("kn_window_dilation_y", windows.dilation_y);
    text += constant("kn_window_dilation_x", windows.dilation_x);
    text += fmt::format("constexpr long long kn_window_image = {};\n", windows.image_stride);
    text += constant("kn_window_line", windows.line_stride);
    text += constant("kn_window_pixel", windows.pixel_stride);
    return text;
}

}  // namespace kn::cuda
