// A strided tensor as a batch of matrices that cuBLASLt can read.
#pragma once

#include <optional>

#include <kn/cuda_eval/plan.h>

namespace kn::cuda {

struct MatrixView {
    bool transpose = false;    ///< columns are dense, not rows
    std::int64_t leading = 0;  ///< elements between rows (columns if transposed)
    std::int64_t batch = 1;
    std::int64_t batch_stride = 0;  ///< 0 uses one matrix for the whole batch
};

/// The last two axes as matrix, all before as one batch; none where no single stride steps through
/// the batch or neither axis is dense.
std::optional<MatrixView> matrix_view(const Ints& shape, const Ints& strides);

/// As matrix_view of [rows, columns], with all axes but the last taken as rows.
std::optional<MatrixView> flat_matrix_view(const Ints& shape, const Ints& strides);

}  // namespace kn::cuda
