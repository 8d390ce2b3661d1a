// Walking over strided arrays in row-major order.
#pragma once

#include <algorithm>
#include <array>

#include "cpu/array.h"
#include "cpu/dispatch.h"

namespace kn::cpu {

/// The same walk with as few axes as possible: none of size 1, neighbours joined where one step
/// leads into the other. At least one axis.
struct Walk {
    Ints shape;
    Ints strides;
};
Walk collapse(const Ints& shape, const Ints& strides);
inline Walk collapse(const Array& x) { return collapse(x.shape(), x.strides()); }

/// A position in the first `axes` axes of a walk and its offset in elements.
class Cursor {
  public:
    Cursor(const Walk& walk, std::size_t axes, std::int64_t flat) : walk_(walk), index_(axes) {
        for (std::size_t a = axes; a-- > 0;) {
            index_[a] = flat % walk.shape[a];
            flat /= walk.shape[a];
            offset_ += index_[a] * walk.strides[a];
        }
    }
    std::int64_t offset() const { return offset_; }
    void next() {
        for (std::size_t a = index_.size(); a-- > 0;) {
            offset_ += walk_.strides[a];
            if (++index_[a] < walk_.shape[a]) return;
            offset_ -= walk_.strides[a] * walk_.shape[a];
            index_[a] = 0;
        }
    }

  private:
    const Walk& walk_;
    Ints index_;
    std::int64_t offset_ = 0;
};

/// Elements per block of elementwise work: small enough for the first-level cache.
inline constexpr std::int64_t kBlock = 1024;

/// Gives an array's elements in row-major order, a block at a time, as contiguous values of the
/// compute type.
template <class T>
class BlockReader {
  public:
    explicit BlockReader(const Array& x) : data_(x.data<T>()), walk_(collapse(x)) {}

    /// Elements [begin, begin + n), n <= kBlock; they lie in the array itself or in `buffer`, which
    /// must be the same in each call.
    const Compute<T>* read(std::int64_t begin, std::int64_t n, Compute<T>* buffer) {
        const std::int64_t length = walk_.shape.back();
        const std::int64_t stride = walk_.strides.back();
        if (walk_.shape.size() == 1 && stride == 0) {
            if (!filled_) std::fill_n(buffer, kBlock, widen(data_[0]));
            filled_ = true;
            return buffer;
        }
        std::int64_t in_run = begin % length;
        Cursor cursor(walk_, walk_.shape.size() - 1, begin / length);
        if constexpr (!is_half_type<T>) {
            if (stride == 1 && in_run + n <= length) return data_ + cursor.offset() + in_run;
        }
        for (std::int64_t done = 0; done < n;) {
            const std::int64_t count = std::min(n - done, length - in_run);
            const T* from = data_ + cursor.offset() + in_run * stride;
            Compute<T>* to = buffer + done;
            if (stride == 1) {
                for (std::int64_t i = 0; i < count; ++i) to[i] = widen(from[i]);
            } else if (stride == 0) {
                std::fill_n(to, count, widen(*from));
            } else {
                for (std::int64_t i = 0; i < count; ++i) to[i] = widen(from[i * stride]);
            }
            done += count;
            in_run = 0;
            cursor.next();
        }
        return buffer;
    }

  private:
    const T* data_;
    Walk walk_;
    bool filled_ = false;
};

/// Takes results of the compute type, a block at a time, into a row-major array.
template <class T>
class BlockWriter {
  public:
    explicit BlockWriter(T* data) : data_(data) {}
    /// Where to compute elements from `begin` on: the array itself, or `buffer` where the types
    /// differ.
    Compute<T>* target(std::int64_t begin, Compute<T>* buffer) {
        if constexpr (is_half_type<T>)
            return buffer;
        else
            return data_ + begin;
    }
    void write(std::int64_t begin, std::int64_t n, const Compute<T>* values) {
        if constexpr (is_half_type<T>)
            for (std::int64_t i = 0; i < n; ++i) data_[begin + i] = narrow<T>(values[i]);
    }

  private:
    T* data_;
};

}  // namespace kn::cpu
