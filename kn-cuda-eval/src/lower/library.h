// What library steps have in common: types, descriptors, whether cuDNN has a plan.
#pragma once

#include <optional>

#include "cache/disk_cache.h"
#include "planner/placement.h"

namespace kn::cuda {

/// The libraries' element type; none where they have none.
std::optional<DataType> data_type(DType dtype);

/// A tensor as cuDNN sees it.
TensorDesc desc_of(const TensorRef& tensor);
TensorDesc dense_desc(DType dtype, const Ints& shape, const AxisOrder& order);

/// {0, 2, 3, ..., 1}
AxisOrder channels_last_order(std::size_t rank);

/// The largest power of two (256 at most) that divides the tensor's address, as far as it is known:
/// the caller's tensors are aligned to 16 bytes.
std::size_t alignment_of(const Plan& plan, const TensorRef& tensor);

/// Whether cuDNN has precompiled kernels for a problem on this device within the workspace; asked
/// once for each problem in a process, or never where the cache on disk has the answer. Needs no
/// GPU.
struct CudnnSupport {
    bool supported = false;
    std::string reason;               ///< why not
    std::size_t workspace_bytes = 0;  ///< the most of the candidates that may be tried
};
CudnnSupport cudnn_support(const CudnnProblem& problem, const DeviceProperties& device,
                           std::size_t max_workspace, bool tensor_cores,
                           DiskCache* cache = DiskCache::shared());

/// What cudnn_support took on this thread so far.
struct CudnnAnswers {
    std::size_t asked = 0, from_cache = 0;  ///< the cache on disk
    double ms = 0;
};
CudnnAnswers cudnn_answers();

/// An unsigned byte tensor for a library's own use.
Operand workspace_operand(Placement& placement, std::size_t bytes);

}  // namespace kn::cuda
