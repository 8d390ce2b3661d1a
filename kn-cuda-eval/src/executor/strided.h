// Elements of a strided tensor in host memory, made dense.
#pragma once

#include <cstddef>

#include <kn/graph/shape.h>

namespace kn::cuda {

/// Copies the elements of `shape` from `source` (the address of element 0; strides in elements, of
/// any sign) to `target` in row-major order. Elements have 1, 2, 4 or 8 bytes.
void gather_strided(const std::byte* source, std::byte* target, std::size_t element_bytes,
                    const Ints& shape, const Ints& strides);

}  // namespace kn::cuda
