#include "lower/library.h"

#include <algorithm>
#include <mutex>
#include <unordered_map>

namespace kn::cuda {

std::optional<DataType> data_type(DType dtype) {
    switch (dtype) {
        case DType::F16:
            return DataType::F16;
        case DType::BF16:
            return DataType::BF16;
        case DType::F32:
            return DataType::F32;
        case DType::F64:
            return DataType::F64;
        default:
            return std::nullopt;
    }
}

TensorDesc desc_of(const TensorRef& tensor) {
    return {data_type(tensor.dtype).value(), tensor.shape, tensor.strides};
}

TensorDesc dense_desc(DType dtype, const Ints& shape, const AxisOrder& order) {
    return {data_type(dtype).value(), shape, strides_for(shape, order)};
}

AxisOrder channels_last_order(std::size_t rank) {
    AxisOrder order = row_major(rank);
    if (rank > 2) std::rotate(order.begin() + 1, order.begin() + 2, order.end());
    return order;
}

std::size_t alignment_of(const Plan& plan, const TensorRef& tensor) {
    const auto kind = plan.buffers[tensor.buffer].kind;
    const bool own = kind == Buffer::Kind::Arena || kind == Buffer::Kind::Constant;
    std::size_t alignment = own ? 256 : 16;
    const auto bytes = static_cast<std::size_t>(tensor.offset) * size_of(tensor.dtype);
    while (bytes % alignment != 0) alignment /= 2;
    return alignment;
}

CudnnSupport cudnn_support(const CudnnProblem& problem, const DeviceProperties& device,
                           std::size_t max_workspace, bool tensor_cores) {
    static std::mutex mutex;
    static std::unordered_map<std::string, CudnnSupport> known;
    const std::string key = to_text(problem) + "|" + to_json(device) + "|" +
                            std::to_string(max_workspace) + "|" + std::to_string(tensor_cores);
    {
        const std::lock_guard lock(mutex);
        if (const auto it = known.find(key); it != known.end()) return it->second;
    }
    CudnnSupport support;
    CudnnLimits limits;
    limits.max_workspace = max_workspace;
    limits.tensor_cores = tensor_cores;
    limits.runtime_compiled = false;
    try {
        const auto candidates = list_candidates(problem, device, limits);
        support.supported = true;
        for (std::size_t i = 0;
             i < candidates.size() && i < static_cast<std::size_t>(limits.max_plans); i++)
            support.workspace_bytes =
                std::max(support.workspace_bytes, candidates[i].workspace_bytes);
    } catch (const Error& error) {
        support.reason = error.what();
    }
    const std::lock_guard lock(mutex);
    return known.try_emplace(key, support).first->second;
}

Operand workspace_operand(Placement& placement, std::size_t bytes) {
    return {placement.scratch(DType::U8, {static_cast<std::int64_t>(bytes)}, "workspace"),
            Access::Scratch, "workspace"};
}

}  // namespace kn::cuda
