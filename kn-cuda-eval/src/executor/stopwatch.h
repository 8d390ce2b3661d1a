// GPU time of a piece of work.
#pragma once

#include <functional>
#include <memory>

#include <kn/cuda_sys/event.h>
#include <kn/cuda_sys/memory.h>

namespace kn::cuda {

/// Times work in a cache that holds little of its operands, as between the other steps of a
/// network.
class ColdTimer {
  public:
    /// Takes device memory of the size of the L2 cache, where there is some left.
    explicit ColdTimer(StreamRef stream);

    /// Median microseconds of one execution of what `work` queues; at most `repeats` of them, fewer
    /// where they are slow. Blocks.
    double us(const std::function<void()>& work, int repeats);

  private:
    StreamRef stream_;
    std::unique_ptr<DeviceMemory> flush_;
    Event start_, stop_;
};

}  // namespace kn::cuda
