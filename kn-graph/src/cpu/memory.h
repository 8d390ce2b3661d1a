// Blocks of memory that are kept for reuse, so that a run does not ask the system for fresh zeroed
// pages each time.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <mutex>

namespace kn::cpu {

/// Thread-safe. A block returns to its pool when its last owner lets go, also when the pool's user
/// is gone by then.
class MemoryPool : public std::enable_shared_from_this<MemoryPool> {
  public:
    static std::shared_ptr<MemoryPool> create() {
        return std::shared_ptr<MemoryPool>(new MemoryPool);
    }
    ~MemoryPool();
    MemoryPool(const MemoryPool&) = delete;
    MemoryPool& operator=(const MemoryPool&) = delete;

    /// Uninitialised, aligned to 64 bytes. Throws GraphError if the system has no such memory.
    std::shared_ptr<std::byte> allocate(std::size_t bytes);

    std::size_t peak_bytes() const;

    /// Frees what is unused now and, from now on, whatever returns.
    void close();

  private:
    MemoryPool() = default;
    void release(std::byte* block, std::size_t bytes) noexcept;
    /// Frees unused blocks, largest first, until `bytes` are freed or none is left.
    void trim(std::size_t bytes);

    mutable std::mutex mutex_;
    bool closed_ = false;
    std::multimap<std::size_t, std::byte*> free_;  // by size
    std::size_t held_ = 0;                         // bytes of all blocks, free ones too
    std::size_t peak_ = 0;
};

}  // namespace kn::cpu
