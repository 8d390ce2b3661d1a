#include "kn/cuda_sys/graph.h"

#include <utility>

#include "check.h"
#include "release.h"

namespace kn::cuda {

CapturedGraph::~CapturedGraph() {
    if (handle_) detail::release_on(device_, [this] { cudaGraphDestroy(handle_); });
}

CapturedGraph::CapturedGraph(CapturedGraph&& other) noexcept
    : device_(other.device_), handle_(std::exchange(other.handle_, nullptr)) {}

CapturedGraph& CapturedGraph::operator=(CapturedGraph&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(handle_, other.handle_);
    return *this;
}

std::size_t CapturedGraph::node_count() const {
    std::size_t count = 0;
    KN_CUDA_CHECK(cudaGraphGetNodes(handle_, nullptr, &count));
    return count;
}

GraphExec CapturedGraph::instantiate() const {
    detail::GatedGuard guard(device_);
    cudaGraphExec_t exec = nullptr;
    KN_CUDA_CHECK(cudaGraphInstantiate(&exec, handle_, 0));
    return {device_, exec};
}

void CapturedGraph::write_dot(const std::string& path) const {
    KN_CUDA_CHECK(cudaGraphDebugDotPrint(handle_, path.c_str(), cudaGraphDebugDotFlagsVerbose));
}

GraphExec::~GraphExec() {
    if (handle_) detail::release_on(device_, [this] { cudaGraphExecDestroy(handle_); });
}

GraphExec::GraphExec(GraphExec&& other) noexcept
    : device_(other.device_), handle_(std::exchange(other.handle_, nullptr)) {}

GraphExec& GraphExec::operator=(GraphExec&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(handle_, other.handle_);
    return *this;
}

void GraphExec::launch(StreamRef stream) const {
    KN_CUDA_REQUIRE(stream.device() == device_, "GraphExec::launch",
                    "the graph is of device {}, the stream of device {}", device_.index(),
                    stream.device().index());
    detail::GatedGuard guard(device_);
    KN_CUDA_CHECK(cudaGraphLaunch(handle_, stream.handle()));
}

void GraphExec::upload(StreamRef stream) const {
    detail::GatedGuard guard(device_);
    KN_CUDA_CHECK(cudaGraphUpload(handle_, stream.handle()));
}

bool GraphExec::update(const CapturedGraph& graph) {
    detail::GatedGuard guard(device_);
    cudaGraphExecUpdateResultInfo info{};
    cudaError_t status = cudaGraphExecUpdate(handle_, graph.handle(), &info);
    if (status == cudaErrorGraphExecUpdateFailure) {
        cudaGetLastError();
        return false;
    }
    detail::check(status, "cudaGraphExecUpdate", __FILE__, __LINE__);
    return true;
}

namespace detail {

namespace {
struct LeaveGate {
    ~LeaveGate() { leave_capture_gate(); }
};
}  // namespace

void begin_capture(StreamRef stream, CaptureMode mode) {
    KN_CUDA_REQUIRE(stream.handle() != nullptr, "capture", "the default stream cannot be captured");
    constexpr cudaStreamCaptureMode modes[] = {cudaStreamCaptureModeGlobal,
                                               cudaStreamCaptureModeThreadLocal,
                                               cudaStreamCaptureModeRelaxed};
    DeviceGuard guard(stream.device());
    enter_capture_gate();
    cudaError_t status = cudaStreamBeginCapture(stream.handle(), modes[static_cast<int>(mode)]);
    if (status == cudaSuccess) return;
    leave_capture_gate();
    check(status, "cudaStreamBeginCapture", __FILE__, __LINE__);
}

CapturedGraph end_capture(StreamRef stream) {
    LeaveGate leave;
    DeviceGuard guard(stream.device());
    cudaGraph_t graph = nullptr;
    KN_CUDA_CHECK(cudaStreamEndCapture(stream.handle(), &graph));
    return {stream.device(), graph};
}

void abandon_capture(StreamRef stream) noexcept {
    LeaveGate leave;
    release_on(stream.device(), [stream] {
        cudaGraph_t graph = nullptr;
        if (cudaStreamEndCapture(stream.handle(), &graph) == cudaSuccess && graph)
            cudaGraphDestroy(graph);
    });
}

}  // namespace detail

}  // namespace kn::cuda
