// Elements in another dtype, where they are part of something that is no tensor.
#pragma once

#include <cstddef>

#include <kn/graph/dtype.h>
#include <kn/graph/export.h>

namespace kn {

/// `count` elements, converted as Tensor::cast does; both places are aligned for their dtypes and do
/// not overlap. By the calling thread alone.
KN_API void convert_elements(DType from, const void* source, DType to, void* target,
                             std::size_t count);

}  // namespace kn
