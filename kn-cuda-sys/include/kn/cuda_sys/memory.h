// Device memory: typed buffers, arenas, pinned host memory.
//
//     kn::cuda::DeviceBuffer<float> x(device, 1000);
//     std::vector<float> host(1000, 1.0f);
//     x.span().upload_async(stream, host);        // host must stay as it is until the stream gets
//     there host = x.span().to_vector(stream);          // blocks
//
// Element types are trivially copyable; sizes are in elements unless a name says bytes.
#pragma once

#include <optional>
#include <span>
#include <type_traits>
#include <vector>

#include "kn/cuda_sys/stream.h"

namespace kn::cuda {

/// Copies `bytes` bytes, asynchronously on `stream`, in whatever direction the two addresses imply:
/// host, device, or another device (through peer access where there is any). Pageable host memory
/// makes the call wait: as a source until it has been read into a staging buffer, as a destination
/// until the copy is done.
KN_CUDA_API void copy_bytes_async(StreamRef stream, void* destination, const void* source,
                                  std::size_t bytes);

/// Copies `rows` rows of `width` bytes between images whose rows start `pitch` bytes apart;
/// otherwise as copy_bytes_async. Pitches are at least `width`.
KN_CUDA_API void copy_rows_async(StreamRef stream, void* destination, std::size_t destination_pitch,
                                 const void* source, std::size_t source_pitch, std::size_t width,
                                 std::size_t rows);

/// Sets bytes of device memory to `value`, asynchronously on `stream`.
KN_CUDA_API void fill_bytes_async(StreamRef stream, void* destination, int value,
                                  std::size_t bytes);

namespace detail {
KN_CUDA_API void check_same_size(const char* function, std::size_t destination, std::size_t source);
KN_CUDA_API void check_range(const char* function, std::size_t offset, std::size_t count,
                             std::size_t size);
KN_CUDA_API std::size_t array_bytes(const char* function, std::size_t count, std::size_t size);
}  // namespace detail

/// A stretch of device memory that somebody else owns. A value; T may be const.
template <class T>
class DeviceSpan {
    static_assert(std::is_trivially_copyable_v<T>);

  public:
    using Element = std::remove_const_t<T>;

    DeviceSpan(Device device, T* data, std::size_t size) noexcept
        : device_(device), data_(data), size_(size) {}
    operator DeviceSpan<const T>() const noexcept requires(!std::is_const_v<T>) {
        return {device_, data_, size_};
    }

    Device device() const noexcept { return device_; }
    T* data() const noexcept { return data_; }
    std::size_t size() const noexcept { return size_; }
    std::size_t bytes() const noexcept { return size_ * sizeof(T); }

    /// Elements [offset, offset + count); throws Error when they are not inside.
    DeviceSpan subspan(std::size_t offset, std::size_t count) const {
        detail::check_range("DeviceSpan::subspan", offset, count, size_);
        return {device_, data_ + offset, count};
    }

    /// Host to device, asynchronously on `stream`; same sizes. The source must live and stay as it
    /// is until the stream gets there.
    void upload_async(StreamRef stream, std::span<const Element> source) const
        requires(!std::is_const_v<T>) {
        detail::check_same_size("DeviceSpan::upload_async", size_, source.size());
        copy_bytes_async(stream, data_, source.data(), bytes());
    }
    /// Device to host, asynchronously on `stream`; same sizes. The destination holds the data once
    /// the stream got there.
    void download_async(StreamRef stream, std::span<Element> destination) const {
        detail::check_same_size("DeviceSpan::download_async", destination.size(), size_);
        copy_bytes_async(stream, destination.data(), data_, bytes());
    }
    /// Device to device (the same one or another), asynchronously on `stream`; same sizes.
    void copy_async(StreamRef stream, DeviceSpan<const Element> source) const
        requires(!std::is_const_v<T>) {
        detail::check_same_size("DeviceSpan::copy_async", size_, source.size());
        copy_bytes_async(stream, data_, source.data(), bytes());
    }
    /// Sets every byte to `value`, asynchronously on `stream`.
    void fill_bytes_async(StreamRef stream, int value) const requires(!std::is_const_v<T>) {
        cuda::fill_bytes_async(stream, data_, value, bytes());
    }
    /// The contents, after everything queued on `stream` so far. Blocks until then.
    std::vector<Element> to_vector(StreamRef stream) const {
        std::vector<Element> host(size_);
        download_async(stream, host);
        stream.synchronize();
        return host;
    }

  private:
    Device device_;
    T* data_;
    std::size_t size_;
};

/// Owns bytes of device memory, aligned to 256.
class KN_CUDA_API DeviceMemory {
  public:
    /// Blocks while the driver allocates; the contents are undefined. Zero bytes allocate nothing
    /// and data() is null. Throws OutOfMemory.
    DeviceMemory(Device device, std::size_t bytes);
    /// Frees, which waits for all work of the device. Nothing that uses the memory may be queued by
    /// another thread meanwhile.
    ~DeviceMemory();
    DeviceMemory(DeviceMemory&& other) noexcept;
    DeviceMemory& operator=(DeviceMemory&& other) noexcept;

    Device device() const noexcept { return device_; }
    void* data() const noexcept { return data_; }
    std::size_t bytes() const noexcept { return bytes_; }

  private:
    Device device_;
    void* data_ = nullptr;
    std::size_t bytes_ = 0;
};

/// Owns an array in device memory; otherwise as DeviceMemory.
template <class T>
class DeviceBuffer {
  public:
    DeviceBuffer(Device device, std::size_t size)
        : memory_(device, detail::array_bytes("DeviceBuffer", size, sizeof(T))), size_(size) {}

    Device device() const noexcept { return memory_.device(); }
    T* data() const noexcept { return static_cast<T*>(memory_.data()); }
    std::size_t size() const noexcept { return size_; }
    std::size_t bytes() const noexcept { return size_ * sizeof(T); }
    DeviceSpan<T> span() const noexcept { return {device(), data(), size_}; }

  private:
    DeviceMemory memory_;
    std::size_t size_;
};

/// A device array with the contents of `host`, on `stream`. Blocks until the copy is done.
template <class T>
DeviceBuffer<T> to_device(StreamRef stream, std::span<const T> host) {
    DeviceBuffer<T> buffer(stream.device(), host.size());
    buffer.span().upload_async(stream, host);
    stream.synchronize();
    return buffer;
}
template <class T>
DeviceBuffer<T> to_device(StreamRef stream, const std::vector<T>& host) {
    return to_device(stream, std::span<const T>(host));
}

/// One allocation, cut into spans: at offsets that were planned before, or one after the other.
/// Spans end with the arena.
class KN_CUDA_API Arena {
  public:
    static constexpr std::size_t alignment = 256;

    /// As DeviceMemory.
    Arena(Device device, std::size_t bytes) : memory_(device, bytes) {}

    Device device() const noexcept { return memory_.device(); }
    std::size_t capacity() const noexcept { return memory_.bytes(); }
    /// Bytes handed out by allocate so far, rounded up to the alignment.
    std::size_t used() const noexcept { return used_; }

    /// `count` elements at byte `offset`; throws Error when they are not inside or not aligned for
    /// T. Touches no state.
    template <class T>
    DeviceSpan<T> at(std::size_t offset, std::size_t count) const {
        return {device(),
                static_cast<T*>(
                    place(offset, detail::array_bytes("Arena::at", count, sizeof(T)), alignof(T))),
                count};
    }
    /// The next `count` elements, 256-byte aligned. Throws OutOfMemory, changing nothing, when they
    /// do not fit.
    template <class T>
    DeviceSpan<T> allocate(std::size_t count) {
        return {device(),
                static_cast<T*>(take(detail::array_bytes("Arena::allocate", count, sizeof(T)))),
                count};
    }
    /// Makes all of it free for allocate again; spans handed out before must no longer be used.
    void reset() noexcept { used_ = 0; }

  private:
    void* place(std::size_t offset, std::size_t bytes, std::size_t align) const;
    void* take(std::size_t bytes);

    DeviceMemory memory_;
    std::size_t used_ = 0;
};

/// Owns bytes of host memory, aligned to 256: page-locked where there is a GPU, so that copies are
/// really asynchronous; plain memory otherwise.
class KN_CUDA_API HostMemory {
  public:
    /// The contents are undefined. Throws std::bad_alloc when not even plain memory is to be had.
    explicit HostMemory(std::size_t bytes);
    /// Page-locked memory waits for all work of all devices.
    ~HostMemory();
    HostMemory(HostMemory&& other) noexcept;
    HostMemory& operator=(HostMemory&& other) noexcept;

    void* data() const noexcept { return data_; }
    std::size_t bytes() const noexcept { return bytes_; }
    bool pinned() const noexcept { return pinned_by_.has_value(); }

  private:
    void release() noexcept;

    void* data_ = nullptr;
    std::size_t bytes_ = 0;
    std::optional<Device> pinned_by_;
};

/// Owns an array in page-locked host memory where there is a GPU; otherwise as HostMemory.
template <class T>
class HostBuffer {
    static_assert(std::is_trivially_copyable_v<T>);

  public:
    explicit HostBuffer(std::size_t size)
        : memory_(detail::array_bytes("HostBuffer", size, sizeof(T))), size_(size) {}

    T* data() const noexcept { return static_cast<T*>(memory_.data()); }
    std::size_t size() const noexcept { return size_; }
    T& operator[](std::size_t i) const noexcept { return data()[i]; }
    std::span<T> span() const noexcept { return {data(), size_}; }
    bool pinned() const noexcept { return memory_.pinned(); }

  private:
    HostMemory memory_;
    std::size_t size_;
};

}  // namespace kn::cuda
