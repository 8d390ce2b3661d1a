#include "kn/cuda_sys/memory.h"

#include <limits>
#include <new>
#include <utility>

#include "check.h"
#include "release.h"

namespace kn::cuda {

namespace {
constexpr std::align_val_t host_alignment{256};
}

void copy_bytes_async(StreamRef stream, void* destination, const void* source, std::size_t bytes) {
    if (bytes == 0) return;
    DeviceGuard guard(stream.device());
    KN_CUDA_CHECK(cudaMemcpyAsync(destination, source, bytes, cudaMemcpyDefault, stream.handle()));
}

void copy_rows_async(StreamRef stream, void* destination, std::size_t destination_pitch,
                     const void* source, std::size_t source_pitch, std::size_t width,
                     std::size_t rows) {
    KN_CUDA_REQUIRE(destination_pitch >= width && source_pitch >= width, "copy_rows_async",
                    "rows of {} bytes do not fit pitches {} and {}", width, destination_pitch,
                    source_pitch);
    if (width == 0 || rows == 0) return;
    DeviceGuard guard(stream.device());
    KN_CUDA_CHECK(cudaMemcpy2DAsync(destination, destination_pitch, source, source_pitch, width,
                                    rows, cudaMemcpyDefault, stream.handle()));
}

void fill_bytes_async(StreamRef stream, void* destination, int value, std::size_t bytes) {
    if (bytes == 0) return;
    detail::GatedGuard guard(stream.device());
    KN_CUDA_CHECK(cudaMemsetAsync(destination, value, bytes, stream.handle()));
}

namespace detail {

void check_same_size(const char* function, std::size_t destination, std::size_t source) {
    KN_CUDA_REQUIRE(destination == source, function,
                    "the destination has {} elements, the source {}", destination, source);
}

void check_range(const char* function, std::size_t offset, std::size_t count, std::size_t size) {
    KN_CUDA_REQUIRE(offset <= size && count <= size - offset, function,
                    "[{}, {} + {}) is not inside {} elements", offset, offset, count, size);
}

std::size_t array_bytes(const char* function, std::size_t count, std::size_t size) {
    KN_CUDA_REQUIRE(count <= std::numeric_limits<std::size_t>::max() / size, function,
                    "{} elements of {} bytes overflow", count, size);
    return count * size;
}

}  // namespace detail

DeviceMemory::DeviceMemory(Device device, std::size_t bytes) : device_(device), bytes_(bytes) {
    if (bytes == 0) return;
    detail::GatedGuard guard(device);
    cudaError_t status = cudaMalloc(&data_, bytes);
    if (status != cudaErrorMemoryAllocation) {
        detail::check(status, "cudaMalloc(&data, bytes)", __FILE__, __LINE__);
        return;
    }
    cudaGetLastError();
    std::size_t free = 0, total = 0;
    cudaMemGetInfo(&free, &total);
    throw OutOfMemory({ErrorSource::Cudart, "cudaMalloc(&data, bytes)", cudaGetErrorString(status),
                       status, __FILE__, __LINE__},
                      bytes,
                      fmt::format("{} bytes asked of device {}, {} of {} free", bytes,
                                  device.index(), free, total));
}

DeviceMemory::~DeviceMemory() {
    if (data_) detail::release_on(device_, [this] { cudaFree(data_); });
}

DeviceMemory::DeviceMemory(DeviceMemory&& other) noexcept
    : device_(other.device_),
      data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)) {}

DeviceMemory& DeviceMemory::operator=(DeviceMemory&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
}

void* Arena::place(std::size_t offset, std::size_t bytes, std::size_t align) const {
    detail::check_range("Arena::at", offset, bytes, capacity());
    KN_CUDA_REQUIRE(offset % align == 0, "Arena::at", "offset {} is not a multiple of {}", offset,
                    align);
    return static_cast<char*>(memory_.data()) + offset;
}

void* Arena::take(std::size_t bytes) {
    if (bytes > capacity() - used_)
        throw OutOfMemory(
            {ErrorSource::Kn, "Arena::allocate", "out of arena", 0, __FILE__, __LINE__}, bytes,
            fmt::format("{} bytes asked, {} of {} left", bytes, capacity() - used_, capacity()));
    char* data = static_cast<char*>(memory_.data()) + used_;
    std::size_t rounded = bytes + (alignment - bytes % alignment) % alignment;
    used_ = rounded > capacity() - used_ ? capacity() : used_ + rounded;
    return data;
}

HostMemory::HostMemory(std::size_t bytes) : bytes_(bytes) {
    if (bytes == 0) return;
    if (device_count() > 0) {
        detail::SharedGate gate;
        if (cudaHostAlloc(&data_, bytes, cudaHostAllocPortable) == cudaSuccess) {
            pinned_by_ = Device::current();
            return;
        }
        cudaGetLastError();
    }
    data_ = ::operator new(bytes, host_alignment);
}

HostMemory::~HostMemory() { release(); }

HostMemory::HostMemory(HostMemory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)),
      pinned_by_(std::exchange(other.pinned_by_, std::nullopt)) {}

HostMemory& HostMemory::operator=(HostMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(pinned_by_, other.pinned_by_);
    return *this;
}

void HostMemory::release() noexcept {
    if (!data_) return;
    if (pinned_by_)
        detail::release_on(*pinned_by_, [this] { cudaFreeHost(data_); });
    else
        ::operator delete(data_, host_alignment);
}

}  // namespace kn::cuda
