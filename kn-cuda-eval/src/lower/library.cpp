#include "lower/library.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <map>
#include <mutex>

#include <kn/cuda_sys/cudnn.h>

namespace kn::cuda {

std::optional<DataType> data_type(DType dtype) {
    switch (dtype) {
        case DType::F16: return DataType::F16;
        case DType::BF16: return DataType::BF16;
        case DType::F32: return DataType::F32;
        case DType::F64: return DataType::F64;
        default: return std::nullopt;
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

namespace {

thread_local CudnnAnswers answers_so_far;

std::string cudnn_release() {
    return std::to_string(cudnn_version()) + " by frontend " +
           std::to_string(cudnn_frontend_version());
}

struct Answer {
    CudnnSupport support;
    bool lasting = true;  // cuDNN's own word, not the circumstances'
};

Answer ask_cudnn(const CudnnProblem& problem, const DeviceProperties& device,
                 std::size_t max_workspace, bool tensor_cores) {
    Answer answer;
    CudnnSupport& support = answer.support;
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
    } catch (const CudnnUnsupported& error) {
        // What follows the first line is about each engine that cuDNN tried.
        const std::string& why = error.info().status_text;
        support.reason = "cuDNN: " + why.substr(0, why.find('\n'));
    } catch (const LibraryMissing& error) {
        support.reason = error.info().status_text;
        answer.lasting = false;
    } catch (const Error& error) {
        support.reason = error.what();
        answer.lasting = false;
    }
    return answer;
}

// "yes" and the workspace's bytes, or "no" and the reason.
std::string to_text(const CudnnSupport& support) {
    std::string text = support.supported ? "yes " : "no ";
    return text += support.supported ? std::to_string(support.workspace_bytes) : support.reason;
}

std::optional<CudnnSupport> from_text(std::string_view text) {
    CudnnSupport support;
    if (text.starts_with("no ")) {
        support.reason = text.substr(3);
        return support;
    }
    if (!text.starts_with("yes ")) return std::nullopt;
    support.supported = true;
    const char* const end = text.data() + text.size();
    const auto [last, error] = std::from_chars(text.data() + 4, end, support.workspace_bytes);
    if (error != std::errc() || last != end) return std::nullopt;
    return support;
}

}  // namespace

CudnnSupport cudnn_support(const CudnnProblem& problem, const DeviceProperties& device,
                           std::size_t max_workspace, bool tensor_cores, DiskCache* cache) {
    static std::mutex mutex;
    static std::map<std::pair<const DiskCache*, std::string>, CudnnSupport> known;
    const std::string key = to_text(problem) + "|" + to_json(device) + "|" +
                            std::to_string(max_workspace) + "|" + std::to_string(tensor_cores) +
                            "|cudnn " + cudnn_release();
    {
        const std::lock_guard lock(mutex);
        if (const auto it = known.find({cache, key}); it != known.end()) return it->second;
    }
    const auto start = std::chrono::steady_clock::now();
    const auto text = cache ? cache->get("support", key) : std::nullopt;
    std::optional<CudnnSupport> support = text ? from_text(*text) : std::nullopt;
    if (support) {
        answers_so_far.from_cache++;
    } else {
        Answer answer = ask_cudnn(problem, device, max_workspace, tensor_cores);
        answers_so_far.asked++;
        support = std::move(answer.support);
        if (cache && answer.lasting) cache->put("support", key, to_text(*support));
    }
    const std::chrono::duration<double, std::milli> passed =
        std::chrono::steady_clock::now() - start;
    answers_so_far.ms += passed.count();
    const std::lock_guard lock(mutex);
    return known.try_emplace({cache, key}, *support).first->second;
}

CudnnAnswers cudnn_answers() { return answers_so_far; }

Operand workspace_operand(Placement& placement, std::size_t bytes) {
    return {placement.scratch(DType::U8, {static_cast<std::int64_t>(bytes)}, "workspace"),
            Access::Scratch, "workspace"};
}

}  // namespace kn::cuda
