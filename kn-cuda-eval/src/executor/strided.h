// Elements of strided tensors in host memory.
#pragma once

#include <cstddef>

#include <kn/graph/shape.h>

namespace kn::cuda {

/// Strides of a dense tensor whose last axis is innermost.
Ints row_major_strides(const Ints& shape);

/// Axes of a copy, those that lie behind one another in both tensors made one.
struct CopyAxes {
    Ints shape, from, to;
};
CopyAxes merge_axes(const Ints& shape, const Ints& from, const Ints& to);

/// Copies the elements of `shape` from `source` to `target` (addresses of element 0; strides in
/// elements, of any sign). Elements have 1, 2, 4 or 8 bytes.
void copy_elements(const std::byte* source, const Ints& from, std::byte* target, const Ints& to,
                   std::size_t element_bytes, const Ints& shape);

/// The same to a `target` in row-major order.
void gather_strided(const std::byte* source, std::byte* target, std::size_t element_bytes,
                    const Ints& shape, const Ints& strides);

}  // namespace kn::cuda
