// Streams: queues of work of one device.
//
//     kn::cuda::Stream stream(device);
//     kernel.launch(stream, {blocks, threads}, x, n);   // every asynchronous function takes a
//     stream stream.synchronize();
#pragma once

#include "kn/cuda_sys/device.h"

namespace kn::cuda {

class Event;

/// A stream that somebody else owns, with its device. A value. Usable whichever device is current.
class KN_CUDA_API StreamRef {
  public:
    /// Adopts a raw stream; it has to belong to `device` and to outlive all uses of this value. A
    /// null handle is the device's default stream.
    StreamRef(Device device, cudaStream_t handle) noexcept : device_(device), handle_(handle) {}

    Device device() const noexcept { return device_; }
    cudaStream_t handle() const noexcept { return handle_; }

    /// Blocks the calling thread until all work queued so far is done; reports what failed in it.
    void synchronize() const;
    /// True when all work queued so far is done; does not block. Reports what failed.
    bool done() const;
    /// Work queued from now on waits until `event` has happened; does not block. The event may be
    /// of another device.
    void wait(const Event& event) const;
    /// True while the stream is being captured.
    bool capturing() const;

  protected:
    Device device_;
    cudaStream_t handle_;
};

/// A stream of one's own; it does not synchronise with the default stream.
class KN_CUDA_API Stream : public StreamRef {
  public:
    /// A lower number runs first; 0 is the lowest priority, and numbers out of range are clamped.
    explicit Stream(Device device, int priority = 0);
    /// Does not block: work that is still queued runs to its end.
    ~Stream();
    Stream(Stream&& other) noexcept;
    Stream& operator=(Stream&& other) noexcept;

    /// The same stream without ownership.
    StreamRef ref() const noexcept { return *this; }
};

}  // namespace kn::cuda
