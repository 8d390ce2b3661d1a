// Events: moments in a stream, for ordering and for timing.
//
//     kn::cuda::Event start(device), stop(device);
//     start.record(stream);
//     kernel.launch(stream, ...);
//     stop.record(stream);
//     stop.synchronize();
//     float ms = kn::cuda::elapsed_ms(start, stop);
#pragma once

#include "kn/cuda_sys/stream.h"

namespace kn::cuda {

class KN_CUDA_API Event {
  public:
    enum class Timing { On, Off };

    /// An event with Timing::Off is cheaper and cannot be given to elapsed_ms.
    explicit Event(Device device, Timing timing = Timing::On);
    ~Event();
    Event(Event&& other) noexcept;
    Event& operator=(Event&& other) noexcept;

    Device device() const noexcept { return device_; }
    cudaEvent_t handle() const noexcept { return handle_; }

    /// Queues the event; does not block. The stream has to be of the event's device.
    void record(StreamRef stream) const;
    /// Blocks the calling thread until the last record has happened; at once if there was none.
    void synchronize() const;
    /// True when the last record has happened, or there was none; does not block.
    bool done() const;

  private:
    Device device_;
    cudaEvent_t handle_ = nullptr;
};

/// Milliseconds between two recorded events of one device, of about 0.5 us resolution. Does not
/// block: throws Error when one has not happened yet.
KN_CUDA_API float elapsed_ms(const Event& start, const Event& stop);

}  // namespace kn::cuda
