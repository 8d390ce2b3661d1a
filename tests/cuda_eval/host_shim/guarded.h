// Memory between pages that nobody may touch, and calls that end with an exception when somebody
// does: what a memory checker does on a GPU.
#pragma once

#include <cstddef>
#include <functional>

namespace kn::cuda {

class GuardedMemory {
  public:
    /// `flush_end`: the end meets the forbidden page, and the address is a multiple of 16; else the
    /// start does, and the address is one of a page. Filled with 0xff.
    GuardedMemory(std::size_t bytes, bool flush_end);
    GuardedMemory(GuardedMemory&& other) noexcept;
    GuardedMemory(const GuardedMemory&) = delete;
    GuardedMemory& operator=(const GuardedMemory&) = delete;
    ~GuardedMemory();
    std::byte* data() const { return data_; }

  private:
    void* pages_ = nullptr;
    std::size_t mapped_ = 0;
    std::byte* data_ = nullptr;
};

/// Whether `body` ran to its end without touching memory that is not there. One thread at a time;
/// where it did not, destructors inside did not run.
bool stays_inside(const std::function<void()>& body);

}  // namespace kn::cuda
