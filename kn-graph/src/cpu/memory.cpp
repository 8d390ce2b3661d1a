#include "cpu/memory.h"

#include <algorithm>
#include <cstdlib>
#include <limits>

#include <kn/graph/error.h>

namespace kn::cpu {

namespace {

constexpr std::size_t kAlignment = 64;

}  // namespace

MemoryPool::~MemoryPool() {
    for (auto& [bytes, block] : free_) std::free(block);
}

std::shared_ptr<std::byte> MemoryPool::allocate(std::size_t bytes) {
    if (bytes > std::size_t{1} << 62)
        throw GraphError("a value needs " + std::to_string(bytes) + " bytes");
    // Sizes are rounded to 1/8 of their power of two, so that nearly equal ones share blocks.
    std::size_t unit = kAlignment;
    while (unit * 16 <= bytes) unit *= 2;
    const std::size_t rounded = std::max(unit, (bytes + unit - 1) / unit * unit);

    std::byte* block = nullptr;
    std::size_t size = rounded;
    {
        std::lock_guard lock(mutex_);
        // A block of up to twice the size is good enough; a larger one is left for those that need
        // it.
        if (auto it = free_.lower_bound(rounded); it != free_.end() && it->first <= 2 * rounded) {
            size = it->first;
            block = it->second;
            free_.erase(it);
        }
    }
    if (!block) {
        block = static_cast<std::byte*>(std::aligned_alloc(kAlignment, rounded));
        if (!block) {
            trim(rounded);
            block = static_cast<std::byte*>(std::aligned_alloc(kAlignment, rounded));
        }
        if (!block)
            throw GraphError("out of memory: a value needs " + std::to_string(bytes) + " bytes");
        std::lock_guard lock(mutex_);
        held_ += rounded;
        peak_ = std::max(peak_, held_);
    }
    return {block, [pool = shared_from_this(), size](std::byte* p) { pool->release(p, size); }};
}

void MemoryPool::release(std::byte* block, std::size_t bytes) noexcept {
    std::lock_guard lock(mutex_);
    if (closed_) {
        std::free(block);
        held_ -= bytes;
        return;
    }
    try {
        free_.emplace(bytes, block);
    } catch (...) {
        std::free(block);
        held_ -= bytes;
    }
}

void MemoryPool::trim(std::size_t bytes) {
    std::lock_guard lock(mutex_);
    std::size_t freed = 0;
    while (!free_.empty() && freed < bytes) {
        auto last = std::prev(free_.end());
        std::free(last->second);
        freed += last->first;
        held_ -= last->first;
        free_.erase(last);
    }
}

void MemoryPool::close() {
    trim(std::numeric_limits<std::size_t>::max());
    std::lock_guard lock(mutex_);
    closed_ = true;
}

std::size_t MemoryPool::peak_bytes() const {
    std::lock_guard lock(mutex_);
    return peak_;
}

}  // namespace kn::cpu
