// Compiled device code, its kernels, and their launch.
//
//     kn::cuda::Library library(cubin);
//     kn::cuda::Kernel add = library.kernel("add");
//     add.launch(stream, {.grid = {blocks}, .block = {256}}, x.span(), y.span(), n);
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include "kn/cuda_sys/memory.h"

namespace kn::cuda {

/// Extents in x, y, z; what is not given is 1.
struct Dim3 {
    unsigned x = 1, y = 1, z = 1;
};

struct LaunchConfig {
    Dim3 grid = {};
    Dim3 block = {};
    std::size_t shared_bytes = 0;  ///< dynamic shared memory a block
    Dim3 cluster = {};             ///< blocks a cluster, sm_90 and newer
    bool cooperative = false;      ///< all blocks resident together, for grid-wide barriers
    /// May start before the kernel in front of it ends, and waits for it by griddepcontrol.wait
    /// (sm_90 and newer).
    bool overlap_previous = false;
};

struct KernelAttributes {
    int registers = 0;  ///< a thread
    int max_threads_per_block = 0;
    std::size_t static_shared_bytes = 0;  ///< a block
    std::size_t max_dynamic_shared_bytes = 0;
    std::size_t local_bytes = 0;  ///< a thread; not 0 means spills or local arrays
    std::size_t constant_bytes = 0;
};

namespace detail {
struct LibraryState;

// How an argument is passed: views as their address, everything else as it is.
template <class T>
T kernel_argument(const T& value) noexcept {
    static_assert(std::is_trivially_copyable_v<T>, "kernel arguments are copied as bytes");
    return value;
}
template <class T>
T* kernel_argument(const DeviceSpan<T>& span) noexcept {
    return span.data();
}
}  // namespace detail

/// A kernel of a Library; usable on every device that can run the code. A value that keeps the
/// library loaded.
class KN_CUDA_API Kernel {
  public:
    const std::string& name() const noexcept { return name_; }

    /// Queues the kernel on `stream`, on its device; does not block. Arguments are copied before it
    /// returns and must be of exactly the kernel's parameter types (number and sizes are checked
    /// where the driver tells them); a DeviceSpan is passed as its address. More than 48 KB of
    /// dynamic shared memory need allow_shared_bytes before.
    template <class... Args>
    void launch(StreamRef stream, const LaunchConfig& config, const Args&... args) const {
        auto values = std::make_tuple(detail::kernel_argument(args)...);
        std::apply(
            [&](auto&... value) {
                std::array<void*, sizeof...(Args)> pointers{&value...};
                constexpr std::array<std::size_t, sizeof...(Args)> sizes{sizeof(value)...};
                launch_raw(stream, config, pointers, sizes);
            },
            values);
    }
    /// The same with the addresses of the arguments; `sizes`, where given, are checked against the
    /// kernel's parameters.
    void launch_raw(StreamRef stream, const LaunchConfig& config, std::span<void* const> arguments,
                    std::span<const std::size_t> sizes = {}) const;

    /// What the compiler and the device make of it. Loads the code into the device's context on
    /// first use.
    KernelAttributes attributes(Device device) const;
    /// Allows launches on `device` with up to `bytes` of dynamic shared memory
    /// (DeviceProperties::shared_per_block_optin less the static part is the most).
    void allow_shared_bytes(Device device, std::size_t bytes) const;
    /// Percentage of the SM's L1 that should be shared memory; a hint.
    void prefer_shared_carveout(Device device, int percent) const;
    /// How many blocks of this size fit one SM at once.
    int blocks_per_sm(Device device, int block_threads, std::size_t shared_bytes) const;

    /// For calls of cudart that take a kernel.
    const void* handle() const noexcept { return handle_; }

  private:
    friend class Library;
    Kernel(std::shared_ptr<const detail::LibraryState> library, std::string name);

    std::shared_ptr<const detail::LibraryState> library_;
    std::string name_;
    const void* handle_ = nullptr;
    std::vector<std::size_t> parameter_sizes_;
    bool parameters_known_ = false;
};

/// A loaded CUBIN, fat binary or PTX, of no particular device. Copies share it.
class KN_CUDA_API Library {
  public:
    /// Copies `image`. PTX has to end with a NUL and is compiled by the driver. Needs a driver.
    /// Throws Error for what is no code at all; code that is damaged or for other GPUs may also be
    /// found out at kernel() or the first launch only.
    explicit Library(std::span<const std::byte> image);

    /// Throws Error when there is no such kernel; the message lists those there are.
    Kernel kernel(const std::string& name) const;
    /// Names of all kernels, in no particular order.
    std::vector<std::string> kernel_names() const;
    /// A __device__ or __constant__ variable as bytes, on `device`; lives as long as the library.
    DeviceSpan<std::byte> global(Device device, const std::string& name) const;

  private:
    std::shared_ptr<const detail::LibraryState> state_;
};

}  // namespace kn::cuda
