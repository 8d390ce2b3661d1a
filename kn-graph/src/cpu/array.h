// Array: a strided view of host memory; what operations take and give inside the executor.
#pragma once

#include <optional>

#include <kn/graph/error.h>
#include <kn/graph/tensor.h>

namespace kn::cpu {

/// Row-major strides in elements.
Ints row_major_strides(const Ints& shape);

/// Elements of `dtype` at data() + sum(index[a] * strides()[a]); strides count elements and may be
/// 0 or negative. Copies share the memory. Elements have kn's storage types (kn::half for f16).
class Array {
  public:
    Array() = default;
    /// Row-major, from MemoryPool; writable.
    Array(DType dtype, Ints shape, std::shared_ptr<std::byte> storage);
    /// Shares the tensor's memory; read-only.
    explicit Array(const Tensor& tensor);

    DType dtype() const { return dtype_; }
    const Ints& shape() const { return shape_; }
    const Ints& strides() const { return strides_; }
    std::int64_t dim(std::size_t axis) const { return shape_[axis]; }
    std::int64_t stride(std::size_t axis) const { return strides_[axis]; }
    std::size_t rank() const { return shape_.size(); }
    std::int64_t size() const { return size_; }
    std::size_t byte_size() const { return static_cast<std::size_t>(size_) * size_of(dtype_); }

    /// Element [0, 0, ...]; row-major from there only if is_contiguous().
    template <class T>
    const T* data() const {
        KN_CHECK(dtype_of<T>() == dtype_, "asked for " + std::string(name_of(dtype_of<T>())));
        return reinterpret_cast<const T*>(data_);
    }
    const std::byte* bytes() const { return data_; }
    /// Only of an Array that was just allocated and that nobody else has.
    template <class T>
    T* mutable_data() {
        KN_CHECK(dtype_of<T>() == dtype_, "asked for " + std::string(name_of(dtype_of<T>())));
        return reinterpret_cast<T*>(mutable_bytes());
    }
    std::byte* mutable_bytes();

    bool is_contiguous() const;
    /// Nobody else shares the memory, and it may be written: an operation that owns this object may
    /// reuse it for its result.
    bool is_exclusive() const { return writable_ && storage_.use_count() == 1; }

    /// The same memory seen otherwise; `offset` in elements from data().
    Array view(Ints shape, Ints strides, std::int64_t offset = 0) const;
    Array permuted(const Ints& perm) const;
    /// Same rank; dims of 1 get stride 0 where the new dim differs.
    Array broadcast(const Ints& shape) const;
    /// The same elements under another shape, if strides can express it.
    std::optional<Array> reshaped(const Ints& shape) const;
    /// Without axis `axis`, at `index` of it.
    Array at(std::size_t axis, std::int64_t index) const;
    /// The same bytes as a dtype of the same size.
    Array bit_cast(DType dtype) const;

    /// Shares the memory; must be contiguous.
    Tensor to_tensor() const;

  private:
    DType dtype_ = DType::F32;
    bool writable_ = false;
    Ints shape_{0};
    Ints strides_{1};
    std::int64_t size_ = 0;
    std::byte* data_ = nullptr;
    std::shared_ptr<const std::byte> storage_;
};

using Arrays = std::vector<Array>;

}  // namespace kn::cpu
