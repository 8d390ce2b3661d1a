#include "kn/cuda_sys/cudnn.h"

#include <fmt/format.h>

#include <utility>

#include "check.h"
#include "cudnn_functions.h"
#include "kn/cuda_sys/cublaslt.h"
#include "release.h"

namespace kn::cuda {

namespace {

TensorDesc with_strides(DataType type, std::vector<std::int64_t> dims,
                        const std::vector<std::size_t>& inner_to_outer) {
    TensorDesc t{type, std::move(dims), {}};
    t.strides.resize(t.dims.size());
    std::int64_t stride = 1;
    for (std::size_t axis : inner_to_outer) {
        t.strides[axis] = stride;
        stride *= t.dims[axis];
    }
    return t;
}

void add_epilogue(const Epilogue& e, std::vector<CudnnOperand>* list) {
    if (e.residual) list->push_back({"residual", *e.residual});
    if (e.bias) list->push_back({"bias", *e.bias});
}

std::vector<CudnnOperand> list_operands(const ConvDesc& d) {
    std::vector<CudnnOperand> list{{"x", d.x}, {"w", d.w}};
    add_epilogue(d.epilogue, &list);
    list.push_back({"y", d.y, true});
    return list;
}

std::vector<CudnnOperand> list_operands(const ConvTransposeDesc& d) {
    std::vector<CudnnOperand> list{{"x", d.x}, {"w", d.w}};
    add_epilogue(d.epilogue, &list);
    list.push_back({"y", d.y, true});
    return list;
}

std::vector<CudnnOperand> list_operands(const PoolDesc& d) {
    return {{"x", d.x}, {"y", d.y, true}};
}

std::vector<CudnnOperand> list_operands(const CudnnMatmulDesc& d) {
    std::vector<CudnnOperand> list{{"a", d.a}, {"b", d.b}};
    add_epilogue(d.epilogue, &list);
    list.push_back({"y", d.y, true});
    return list;
}

std::vector<CudnnOperand> list_operands(const SdpaDesc& d) {
    std::vector<CudnnOperand> list{{"q", d.q}, {"k", d.k}, {"v", d.v}};
    if (d.bias) list.push_back({"bias", *d.bias});
    if (d.sequence_lengths) {
        std::int64_t batch = d.q.dims.empty() ? 0 : d.q.dims[0];
        list.push_back({"seq_q", dense(DataType::I32, {batch, 1, 1, 1})});
        list.push_back({"seq_kv", dense(DataType::I32, {batch, 1, 1, 1})});
    }
    list.push_back({"o", d.o, true});
    return list;
}

std::string join(const std::vector<std::int64_t>& values) {
    return fmt::format("[{}]", fmt::join(values, ","));
}

std::string window_text(const auto& d) {
    return fmt::format(" pad {}{} stride {}", join(d.pad_before), join(d.pad_after),
                       join(d.stride));
}

std::string epilogue_text(const auto& d) {
    const Epilogue& e = d.epilogue;
    return fmt::format(" compute {} {} activation {} {} {} {}", to_string(d.compute),
                       e.bias_first ? "bias-first" : "residual-first",
                       static_cast<int>(e.activation), e.low, e.high, e.slope);
}

std::string attributes(const ConvDesc& d) {
    return "conv" + window_text(d) + " dilation " + join(d.dilation) + epilogue_text(d);
}
std::string attributes(const ConvTransposeDesc& d) {
    return "conv-transpose" + window_text(d) + " dilation " + join(d.dilation) + epilogue_text(d);
}
std::string attributes(const PoolDesc& d) {
    return fmt::format("pool {} window {}{} compute {}", static_cast<int>(d.mode), join(d.window),
                       window_text(d), to_string(d.compute));
}
std::string attributes(const CudnnMatmulDesc& d) { return "matmul" + epilogue_text(d); }
std::string attributes(const SdpaDesc& d) {
    return fmt::format("sdpa scale {} causal {}", d.scale ? fmt::format("{}", *d.scale) : "auto",
                       static_cast<int>(d.causal));
}

}  // namespace

std::string to_text(const CudnnProblem& problem) {
    std::string text = std::visit([](const auto& desc) { return attributes(desc); }, problem);
    for (const CudnnOperand& o : operands(problem))
        text += fmt::format(" {} {}{}{}", o.name, to_string(o.tensor.type), join(o.tensor.dims),
                            join(o.tensor.strides));
    return text;
}

TensorDesc dense(DataType type, std::vector<std::int64_t> dims) {
    std::vector<std::size_t> order;
    for (std::size_t i = dims.size(); i-- > 0;) order.push_back(i);
    return with_strides(type, std::move(dims), order);
}

TensorDesc channels_last(DataType type, std::vector<std::int64_t> dims) {
    KN_CUDA_REQUIRE(dims.size() >= 2, "channels_last", "{} dimensions have no channels",
                    dims.size());
    std::vector<std::size_t> order{1};
    for (std::size_t i = dims.size(); i-- > 2;) order.push_back(i);
    order.push_back(0);
    return with_strides(type, std::move(dims), order);
}

std::vector<CudnnOperand> operands(const CudnnProblem& problem) {
    return std::visit([](const auto& desc) { return list_operands(desc); }, problem);
}

CudnnHandle::CudnnHandle(Device device) : device_(device) {
    const detail::CudnnApi& api = detail::cudnn();
    // cuDNN opens it by itself, but would not find it everywhere.
    cublaslt_version();
    detail::GatedGuard guard(device);
    cudnnHandle_t handle = nullptr;
    cudnnStatus_t status = api.cudnnCreate(&handle);
    if (status != CUDNN_STATUS_SUCCESS)
        detail::fail(ErrorSource::Cudnn, "cudnnCreate(&handle)", status,
                     api.cudnnGetErrorString(status), status == CUDNN_STATUS_ALLOC_FAILED, __FILE__,
                     __LINE__);
    handle_ = handle;
}

CudnnHandle::~CudnnHandle() {
    if (handle_)
        detail::release_on(
            device_, [this] { detail::cudnn().cudnnDestroy(static_cast<cudnnHandle_t>(handle_)); });
}

CudnnHandle::CudnnHandle(CudnnHandle&& other) noexcept
    : device_(other.device_), handle_(std::exchange(other.handle_, nullptr)) {}

CudnnHandle& CudnnHandle::operator=(CudnnHandle&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(handle_, other.handle_);
    return *this;
}

}  // namespace kn::cuda
