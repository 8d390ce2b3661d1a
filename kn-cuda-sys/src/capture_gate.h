// Keeps captures apart from calls of other threads. CUDA loads kernels, and cuDNN and cuBLAS their
// tables, at first use; where that happens while another thread of the process captures, the
// capture dies with cudaErrorStreamCaptureInvalidated (seen in thread-local and in relaxed mode).
// Internal.
#pragma once

#include "kn/cuda_sys/device.h"

namespace kn::cuda::detail {

/// Held shared by calls that may load code or allocate; a thread that captures, or is inside such a
/// call, passes.
class SharedGate {
  public:
    SharedGate();
    ~SharedGate();
    SharedGate(const SharedGate&) = delete;
    SharedGate& operator=(const SharedGate&) = delete;

  private:
    bool locked_;
};

/// Alone, from begin_capture to end_capture of the same thread; captures of one thread nest.
void enter_capture_gate();
void leave_capture_gate() noexcept;
bool inside_capture() noexcept;

/// The device made current, inside the gate.
class GatedGuard {
  public:
    explicit GatedGuard(Device device) : guard_(device) {}

  private:
    SharedGate gate_;
    DeviceGuard guard_;
};

}  // namespace kn::cuda::detail
