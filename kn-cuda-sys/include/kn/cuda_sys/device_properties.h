// What planning needs to know of a GPU, as plain data: from a live device, or from a file where
// there is none.
//
//     kn::cuda::DeviceProperties here = kn::cuda::Device(0).properties();
//     kn::cuda::DeviceProperties h200 = kn::cuda::device_properties_from_json(text);
//
// The JSON is what cuDNN itself reads and writes for planning without a device; dump_device prints
// it.
#pragma once

#include <array>
#include <cstddef>
#include <string>

#include "kn/cuda_sys/export.h"

namespace kn::cuda {

/// Sizes in bytes, clocks in kHz; an SM is a multiprocessor. What is marked * is not in the JSON.
struct DeviceProperties {
    std::string name = {};
    int index = 0;  ///< cudart's index of the device
    int compute_major = 0;
    int compute_minor = 0;
    int driver_version = 0;  ///< as cudart counts: 13000 is 13.0
    int sm_count = 0;
    int warp_size = 32;
    std::array<int, 3> max_grid = {};
    std::array<int, 3> max_block = {};
    int max_threads_per_block = 0;
    int max_threads_per_sm = 0;
    int max_blocks_per_sm = 0;
    int registers_per_block = 0;
    int registers_per_sm = 0;
    std::size_t total_memory = 0;
    std::size_t l2_bytes = 0;
    std::size_t shared_per_block = 0;           ///< without opting in
    std::size_t shared_per_block_optin = 0;     ///< the most a kernel can opt in to
    std::size_t shared_reserved_per_block = 0;  ///< by the driver
    std::size_t shared_per_sm = 0;  ///< * from JSON: the opt-in limit and the reserved part
    int clock_khz = 0;
    int memory_clock_khz = 0;
    int memory_bus_bits = 0;  ///< * from JSON: 0
    int pci_device = 0;
    bool cooperative_launch = false;
    bool tcc_driver = false;

    /// Compute capability as one number, such as 90.
    int compute() const noexcept { return compute_major * 10 + compute_minor; }
    /// Compiler target, such as "sm_90".
    std::string arch() const { return "sm_" + std::to_string(compute()); }
};

/// As cuDNN's device-properties JSON.
KN_CUDA_API std::string to_json(const DeviceProperties& properties);
/// The reverse; throws Error when `json` is broken or lacks a key.
KN_CUDA_API DeviceProperties device_properties_from_json(const std::string& json);

}  // namespace kn::cuda
