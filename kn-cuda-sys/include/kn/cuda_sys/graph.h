// CUDA graphs: work captured once, launched many times at about 1 us a kernel.
//
//     kn::cuda::CapturedGraph graph = kn::cuda::capture(stream, [&] { step1(stream); step2(stream);
//     }); kn::cuda::GraphExec exec = graph.instantiate(); for (...) exec.launch(stream);
#pragma once

#include <string>
#include <utility>

#include "kn/cuda_sys/stream.h"

namespace kn::cuda {

class GraphExec;

/// What other threads may do during a capture. A call that is not allowed fails, and the capture
/// with it.
enum class CaptureMode {
    Global,       ///< no thread may make unsafe calls, such as allocations
    ThreadLocal,  ///< this thread may not
    Relaxed       ///< everything goes; unsafe calls happen at once and are not captured
};

/// A recorded graph. It keeps no memory alive: buffers, kernels and cuDNN plans in it must outlive
/// its launches.
class KN_CUDA_API CapturedGraph {
  public:
    /// Adopts a raw graph.
    CapturedGraph(Device device, cudaGraph_t handle) noexcept : device_(device), handle_(handle) {}
    ~CapturedGraph();
    CapturedGraph(CapturedGraph&& other) noexcept;
    CapturedGraph& operator=(CapturedGraph&& other) noexcept;

    Device device() const noexcept { return device_; }
    cudaGraph_t handle() const noexcept { return handle_; }
    std::size_t node_count() const;

    /// Makes it launchable, on its device; blocks for microseconds a node. The graph may be
    /// destroyed afterwards.
    GraphExec instantiate() const;
    /// Writes a DOT picture with all parameters.
    void write_dot(const std::string& path) const;

  private:
    Device device_;
    cudaGraph_t handle_;
};

/// A launchable graph. Launches of one GraphExec run one after the other, also on several streams.
class KN_CUDA_API GraphExec {
  public:
    ~GraphExec();
    GraphExec(GraphExec&& other) noexcept;
    GraphExec& operator=(GraphExec&& other) noexcept;

    Device device() const noexcept { return device_; }
    cudaGraphExec_t handle() const noexcept { return handle_; }

    /// Queues one run; does not block. The stream has to be of the graph's device.
    void launch(StreamRef stream) const;
    /// Sends it to the device before the first launch, asynchronously on `stream`.
    void upload(StreamRef stream) const;
    /// Takes over the parameters (pointers, sizes) of a graph of the same topology, for launches
    /// from now on. False, with nothing changed, when the topology differs: instantiate anew then.
    [[nodiscard]] bool update(const CapturedGraph& graph);

  private:
    friend class CapturedGraph;
    GraphExec(Device device, cudaGraphExec_t handle) noexcept : device_(device), handle_(handle) {}

    Device device_;
    cudaGraphExec_t handle_;
};

namespace detail {
KN_CUDA_API void begin_capture(StreamRef stream, CaptureMode mode);
KN_CUDA_API CapturedGraph end_capture(StreamRef stream);
KN_CUDA_API void abandon_capture(StreamRef stream) noexcept;
}  // namespace detail

/// Runs `body`, which queues work on `stream` (and on streams that wait for events of it, and
/// back), and records that work instead of running it. When `body` throws, the stream is usable
/// again and the exception passes. Not for the default stream.
///
/// Other threads' calls of this library that may load code or allocate (launches, cuBLAS, cuDNN,
/// memory) wait meanwhile, and the capture waits for theirs: CUDA loads code at first use, which
/// can kill captures of other threads. So `body` must not wait for another thread,
/// and raw CUDA calls of other threads are best avoided.
template <class F>
CapturedGraph capture(StreamRef stream, F&& body, CaptureMode mode = CaptureMode::ThreadLocal) {
    detail::begin_capture(stream, mode);
    try {
        std::forward<F>(body)();
    } catch (...) {
        detail::abandon_capture(stream);
        throw;
    }
    return detail::end_capture(stream);
}

}  // namespace kn::cuda
