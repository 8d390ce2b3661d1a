// Weights: one copy a device.
#pragma once

#include <memory>
#include <vector>

#include <kn/cuda_eval/plan.h>
#include <kn/cuda_sys/memory.h>

namespace kn::cuda {

/// What it takes of the device, its alignment included.
std::size_t device_bytes(const PlanConstant& constant);

/// A constant on a device. Holds the memory that it shares with others uploaded with it.
struct DeviceConstant {
    std::shared_ptr<const DeviceMemory> memory;
    std::byte* address = nullptr;
};

/// The constants in order; those that some live caller already has on this device are that
/// caller's, the others are uploaded into one new allocation, on `stream`. Blocks until they are
/// there. `allocated` gets the bytes of that allocation. Throws OutOfMemory. Thread-safe.
std::vector<std::shared_ptr<const DeviceConstant>> upload_constants(
    StreamRef stream, const std::vector<PlanConstant>& constants, std::size_t& allocated);

}  // namespace kn::cuda
