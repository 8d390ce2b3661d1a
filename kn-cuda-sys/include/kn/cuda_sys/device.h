// GPUs of this machine: how many, what they are, which is current.
//
//     if (kn::cuda::device_count() == 0) std::puts(kn::cuda::why_unavailable().c_str());
//     kn::cuda::Device device = kn::cuda::Device::best();
//     std::printf("%s, %d SMs\n", device.properties().name.c_str(), device.properties().sm_count);
//
// A program that links this library starts on a machine without GPU or driver.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "kn/cuda_sys/device_properties.h"
#include "kn/cuda_sys/error.h"
#include "kn/cuda_sys/export.h"

namespace kn::cuda {

/// Number of usable GPUs; 0 without a driver. Asks cudart each time (under a microsecond after the
/// first).
KN_CUDA_API int device_count() noexcept;

/// One sentence that says why device_count() is 0; empty when it is not.
KN_CUDA_API std::string why_unavailable();

/// Device memory at one moment, in bytes, as seen by all processes of the device together.
struct MemoryInfo {
    std::size_t free = 0;
    std::size_t total = 0;
};

/// A GPU by its cudart index. A value: copying it is free and owns nothing.
class KN_CUDA_API Device {
  public:
    /// Throws Error when there is no such device; the message says why.
    explicit Device(int index);

    /// The device with the highest compute capability, then the most SMs times clock, then the most
    /// memory. Throws Error when there is none.
    static Device best();
    /// The calling thread's current device. Throws Error when there is none.
    static Device current();

    int index() const noexcept { return index_; }
    /// Properties, read once per process and device; the reference lives as long as the process.
    const DeviceProperties& properties() const;
    /// Free and total memory now. Creates the device's context on first use.
    MemoryInfo memory() const;
    /// Blocks the calling thread until all work of all streams of the device is done; reports what
    /// failed in it.
    void synchronize() const;
    /// True once a call reported that this device's context died.
    bool lost() const noexcept;

    friend bool operator==(Device a, Device b) noexcept { return a.index_ == b.index_; }
    friend bool operator!=(Device a, Device b) noexcept { return a.index_ != b.index_; }

  private:
    int index_;
};

/// Makes a device current for the calling thread for the length of a scope. All functions of this
/// library do so themselves; it is for direct calls of cudart.
class KN_CUDA_API DeviceGuard {
  public:
    /// Throws ContextLost for a lost device, Error when cudart refuses the switch.
    explicit DeviceGuard(Device device);
    ~DeviceGuard();
    DeviceGuard(const DeviceGuard&) = delete;
    DeviceGuard& operator=(const DeviceGuard&) = delete;

  private:
    int previous_ = -1;
};

/// Versions at run time, each as major * 10000 + minor * 100 + patch; 0 where there is none.
struct Versions {
    int driver = 0;  ///< the newest CUDA that the driver supports
    int cudart = 0;
    int nvrtc = 0;
    int cublaslt = 0;
    int cudnn = 0;
    int cudnn_frontend = 0;  ///< headers, at compile time
};

/// Needs no driver; never throws. Loads all libraries.
KN_CUDA_API Versions versions() noexcept;

/// One sentence with the loader's reason for each library that cannot be loaded.
KN_CUDA_API std::vector<std::string> missing_libraries();

/// One line a library, such as "cudart 13.0.0".
KN_CUDA_API std::string to_string(const Versions& versions);

}  // namespace kn::cuda
