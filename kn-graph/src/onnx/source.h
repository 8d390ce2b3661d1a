// The bytes of a model, in a file or in memory.
//
//     const Source source(std::filesystem::path("net.onnx"));
//     const bool all = source.read(0, buffer) == buffer.size();
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

namespace kn::onnx {

class Source {
  public:
    /// Both throw OnnxError: a file that cannot be read, nothing in it, or more than protobuf's
    /// 2 GiB. Memory stays the caller's.
    explicit Source(const std::filesystem::path& file);
    explicit Source(std::span<const std::byte> memory);
    Source(const Source&) = delete;
    Source& operator=(const Source&) = delete;
    ~Source();

    std::size_t size() const { return size_; }
    /// The number of bytes read: fewer than asked for at the end, and of a file that somebody cut
    /// short or that cannot be read there. Thread-safe.
    std::size_t read(std::size_t offset, std::span<std::byte> to) const;

  private:
    int fd_ = -1;
    const std::byte* memory_ = nullptr;
    std::size_t size_ = 0;
};

}  // namespace kn::onnx
