// The windows of a 3x3 convolution whose results have its image's size.
#pragma once

#include "codegen/windows.h"

namespace kn::test {

inline cuda::ProductWindows windows_3x3(std::int64_t images, std::int64_t size,
                                        std::int64_t channels) {
    return {.channels = channels,
            .images = images,
            .height = size,
            .width = size,
            .rows = size,
            .columns = size,
            .kernel_height = 3,
            .kernel_width = 3,
            .pad_y = 1,
            .pad_x = 1};
}

}  // namespace kn::test
