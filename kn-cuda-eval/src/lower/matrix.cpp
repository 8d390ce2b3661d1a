#include "lower/matrix.h"

#include <algorithm>

namespace kn::cuda {

namespace {

// The stride that steps through several axes as through one; extents of 1 do not count.
std::optional<std::int64_t> common_stride(const Ints& shape, const Ints& strides,
                                          std::size_t axes) {
    std::optional<std::int64_t> inner;
    std::int64_t extent = 1;
    for (std::size_t i = axes; i-- > 0;) {
        if (shape[i] == 1) continue;
        if (inner && strides[i] != *inner * extent) return std::nullopt;
        if (!inner) inner = strides[i];
        extent *= shape[i];
    }
    return inner.value_or(0);
}

// Rows and columns of one matrix.
std::optional<MatrixView> matrix(std::int64_t rows, std::int64_t columns, std::int64_t row_stride,
                                 std::int64_t column_stride) {
    MatrixView out;
    if (columns == 1 && rows == 1) {
        out.leading = 1;
    } else if ((columns == 1 || column_stride == 1) && (rows == 1 || row_stride >= columns)) {
        out.leading = rows == 1 ? columns : row_stride;
    } else if ((rows == 1 || row_stride == 1) && (columns == 1 || column_stride >= rows)) {
        out.transpose = true;
        out.leading = columns == 1 ? rows : column_stride;
    } else {
        return std::nullopt;
    }
    return out;
}

}  // namespace

std::optional<MatrixView> matrix_view(const Ints& shape, const Ints& strides) {
    const std::size_t axes = shape.size() - 2;
    const auto stride = common_stride(shape, strides, axes);
    auto out = matrix(shape[axes], shape[axes + 1], strides[axes], strides[axes + 1]);
    if (!stride || *stride < 0 || !out) return std::nullopt;
    for (std::size_t i = 0; i < axes; i++) out->batch *= shape[i];
    out->batch_stride = *stride;
    return out;
}

std::optional<MatrixView> flat_matrix_view(const Ints& shape, const Ints& strides) {
    const std::size_t axes = shape.size() - 1;
    const auto stride = common_stride(shape, strides, axes);
    if (!stride) return std::nullopt;
    std::int64_t rows = 1;
    for (std::size_t i = 0; i < axes; i++) rows *= shape[i];
    return matrix(rows, shape.back(), *stride, strides.back());
}

}  // namespace kn::cuda
