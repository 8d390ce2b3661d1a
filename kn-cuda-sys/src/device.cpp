#include "kn/cuda_sys/device.h"

#include <array>
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <tuple>

#include "check.h"
#include "release.h"

namespace kn::cuda {

namespace {

constexpr int max_devices = 256;
std::array<std::atomic<bool>, max_devices> lost_devices{};

int attribute(cudaDeviceAttr which, int device) {
    int value = 0;
    KN_CUDA_CHECK(cudaDeviceGetAttribute(&value, which, device));
    return value;
}

DeviceProperties read_properties(int device) {
    cudaDeviceProp raw{};
    KN_CUDA_CHECK(cudaGetDeviceProperties(&raw, device));
    auto get = [device](cudaDeviceAttr which) { return attribute(which, device); };
    auto size = [get](cudaDeviceAttr which) { return static_cast<std::size_t>(get(which)); };
    DeviceProperties p;
    p.name = raw.name;
    p.index = device;
    p.compute_major = get(cudaDevAttrComputeCapabilityMajor);
    p.compute_minor = get(cudaDevAttrComputeCapabilityMinor);
    KN_CUDA_CHECK(cudaDriverGetVersion(&p.driver_version));
    p.sm_count = get(cudaDevAttrMultiProcessorCount);
    p.warp_size = get(cudaDevAttrWarpSize);
    p.max_grid = {get(cudaDevAttrMaxGridDimX), get(cudaDevAttrMaxGridDimY),
                  get(cudaDevAttrMaxGridDimZ)};
    p.max_block = {get(cudaDevAttrMaxBlockDimX), get(cudaDevAttrMaxBlockDimY),
                   get(cudaDevAttrMaxBlockDimZ)};
    p.max_threads_per_block = get(cudaDevAttrMaxThreadsPerBlock);
    p.max_threads_per_sm = get(cudaDevAttrMaxThreadsPerMultiProcessor);
    p.max_blocks_per_sm = get(cudaDevAttrMaxBlocksPerMultiprocessor);
    p.registers_per_block = get(cudaDevAttrMaxRegistersPerBlock);
    p.registers_per_sm = get(cudaDevAttrMaxRegistersPerMultiprocessor);
    p.total_memory = raw.totalGlobalMem;
    p.l2_bytes = size(cudaDevAttrL2CacheSize);
    p.shared_per_block = size(cudaDevAttrMaxSharedMemoryPerBlock);
    p.shared_per_block_optin = size(cudaDevAttrMaxSharedMemoryPerBlockOptin);
    p.shared_reserved_per_block = size(cudaDevAttrReservedSharedMemoryPerBlock);
    p.shared_per_sm = size(cudaDevAttrMaxSharedMemoryPerMultiprocessor);
    p.clock_khz = get(cudaDevAttrClockRate);
    p.memory_clock_khz = get(cudaDevAttrMemoryClockRate);
    p.memory_bus_bits = get(cudaDevAttrGlobalMemoryBusWidth);
    p.pci_device = get(cudaDevAttrPciDeviceId);
    p.cooperative_launch = get(cudaDevAttrCooperativeLaunch) != 0;
    p.tcc_driver = get(cudaDevAttrTccDriver) != 0;
    return p;
}

// cudaGetDeviceCount leaves the count untouched when it fails.
cudaError_t count_devices(int* count) {
    *count = 0;
    cudaError_t status = cudaGetDeviceCount(count);
    if (status != cudaSuccess) {
        cudaGetLastError();
        *count = 0;
    }
    return status;
}

}  // namespace

int device_count() noexcept {
    int count = 0;
    count_devices(&count);
    return count;
}

std::string why_unavailable() {
    int count = 0;
    cudaError_t status = count_devices(&count);
    if (count > 0) return "";
    int driver = 0;
    cudaDriverGetVersion(&driver);
    if (driver == 0) return "No NVIDIA driver is installed (libcuda.so.1 was not found).";
    if (status == cudaSuccess || status == cudaErrorNoDevice)
        return "The NVIDIA driver finds no GPU (or CUDA_VISIBLE_DEVICES hides them all).";
    int runtime = 0;
    cudaRuntimeGetVersion(&runtime);
    if (status == cudaErrorInsufficientDriver)
        return fmt::format("The NVIDIA driver supports CUDA {}.{}, but this program needs {}.{}.",
                           driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
    return fmt::format("The NVIDIA driver reports: {} ({}).", cudaGetErrorString(status),
                       static_cast<int>(status));
}

Device::Device(int index) : index_(index) {
    int count = device_count();
    if (index >= 0 && index < count) return;
    KN_CUDA_REQUIRE(count > 0, "Device", "there is no device {}: {}", index, why_unavailable());
    KN_CUDA_REQUIRE(false, "Device", "there is no device {}: {} device(s) found, counted from 0",
                    index, count);
}

Device Device::best() {
    Device best(0);
    auto rank = [](const DeviceProperties& p) {
        return std::tuple(p.compute_major, p.compute_minor,
                          static_cast<long long>(p.sm_count) * p.clock_khz, p.total_memory);
    };
    for (int i = 1; i < device_count(); ++i)
        if (Device next(i); rank(next.properties()) > rank(best.properties())) best = next;
    return best;
}

Device Device::current() {
    int index = 0;
    KN_CUDA_REQUIRE(device_count() > 0, "Device::current", "{}", why_unavailable());
    KN_CUDA_CHECK(cudaGetDevice(&index));
    return Device(index);
}

const DeviceProperties& Device::properties() const {
    static std::mutex mutex;
    static std::map<int, std::unique_ptr<DeviceProperties>> cache;
    std::lock_guard lock(mutex);
    auto& entry = cache[index_];
    if (!entry) entry = std::make_unique<DeviceProperties>(read_properties(index_));
    return *entry;
}

MemoryInfo Device::memory() const {
    detail::GatedGuard guard(*this);
    MemoryInfo info;
    KN_CUDA_CHECK(cudaMemGetInfo(&info.free, &info.total));
    return info;
}

void Device::synchronize() const {
    detail::GatedGuard guard(*this);
    KN_CUDA_CHECK(cudaDeviceSynchronize());
}

bool Device::lost() const noexcept { return index_ < max_devices && lost_devices[index_]; }

DeviceGuard::DeviceGuard(Device device) {
    if (device.lost())
        throw ContextLost({ErrorSource::Kn, "DeviceGuard",
                           fmt::format("the context of device {} was lost", device.index()), 0,
                           __FILE__, __LINE__});
    int current = -1;
    KN_CUDA_CHECK(cudaGetDevice(&current));
    if (current == device.index()) return;
    KN_CUDA_CHECK(cudaSetDevice(device.index()));
    previous_ = current;
}

DeviceGuard::~DeviceGuard() {
    if (previous_ >= 0) cudaSetDevice(previous_);
}

namespace detail {

void mark_lost(int device) noexcept {
    if (device >= 0 && device < max_devices) lost_devices[device] = true;
}

bool enter_for_release(Device device, int* previous) noexcept {
    *previous = -1;
    if (device.lost()) return false;
    // Fails while cudart is being unloaded at process exit; the handles are gone by then.
    int current = -1;
    if (cudaGetDevice(&current) != cudaSuccess) return false;
    if (current == device.index()) return true;
    if (cudaSetDevice(device.index()) != cudaSuccess) return false;
    *previous = current;
    return true;
}

void leave_for_release(int previous) noexcept {
    cudaGetLastError();
    if (previous >= 0) cudaSetDevice(previous);
}

}  // namespace detail

}  // namespace kn::cuda
