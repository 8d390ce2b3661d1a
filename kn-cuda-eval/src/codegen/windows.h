// The windows of a convolution as rows of a matrix.
#pragma once

#include <cstdint>
#include <string>

namespace kn::cuda {

/// How two-dimensional windows lie in an image x [N, H, W, C] whose channels are dense; strides in
/// elements.
struct ProductWindows {
    std::int64_t channels = 0;
    std::int64_t images = 0, height = 0, width = 0;
    std::int64_t rows = 0, columns = 0;  ///< of output positions
    std::int64_t kernel_height = 1, kernel_width = 1;
    std::int64_t stride_y = 1, stride_x = 1, pad_y = 0, pad_x = 0, dilation_y = 1, dilation_x = 1;
    std::int64_t image_stride = 0, line_stride = 0, pixel_stride = 0;
};

/// "constexpr int kn_window_rows = 7;" and so on.
std::string window_constants(const ProductWindows& windows);

}  // namespace kn::cuda
