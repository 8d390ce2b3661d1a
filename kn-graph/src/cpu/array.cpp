#include "cpu/array.h"

#include <algorithm>

namespace kn::cpu {

Ints row_major_strides(const Ints& shape) {
    Ints strides(shape.size());
    std::int64_t stride = 1;
    for (std::size_t a = shape.size(); a-- > 0;) {
        strides[a] = stride;
        stride *= std::max<std::int64_t>(shape[a], 1);
    }
    return strides;
}

Array::Array(DType dtype, Ints shape, std::shared_ptr<std::byte> storage)
    : dtype_(dtype),
      writable_(true),
      shape_(std::move(shape)),
      strides_(row_major_strides(shape_)),
      size_(checked_size(shape_)),
      data_(storage.get()),
      storage_(std::move(storage)) {}

Array::Array(const Tensor& tensor)
    : dtype_(tensor.dtype()),
      shape_(tensor.shape()),
      strides_(row_major_strides(shape_)),
      size_(tensor.size()),
      data_(const_cast<std::byte*>(tensor.storage().get())),  // writable_ is false
      storage_(tensor.storage()) {}

std::byte* Array::mutable_bytes() {
    KN_CHECK(writable_);
    return data_;
}

bool Array::is_contiguous() const {
    if (size_ == 0) return true;
    std::int64_t stride = 1;
    for (std::size_t a = rank(); a-- > 0;) {
        if (shape_[a] == 1) continue;
        if (strides_[a] != stride) return false;
        stride *= shape_[a];
    }
    return true;
}

Array Array::view(Ints shape, Ints strides, std::int64_t offset) const {
    Array result = *this;
    result.size_ = checked_size(shape);
    result.shape_ = std::move(shape);
    result.strides_ = std::move(strides);
    result.data_ = data_ + offset * static_cast<std::int64_t>(size_of(dtype_));
    return result;
}

Array Array::permuted(const Ints& perm) const {
    Ints shape;
    Ints strides;
    for (std::int64_t axis : perm) {
        shape.push_back(shape_[static_cast<std::size_t>(axis)]);
        strides.push_back(strides_[static_cast<std::size_t>(axis)]);
    }
    return view(std::move(shape), std::move(strides));
}

Array Array::broadcast(const Ints& shape) const {
    KN_CHECK(shape.size() == rank());
    Ints strides = strides_;
    for (std::size_t a = 0; a < rank(); ++a) {
        if (shape_[a] == shape[a]) continue;
        KN_CHECK(shape_[a] == 1);
        strides[a] = 0;
    }
    return view(shape, std::move(strides));
}

std::optional<Array> Array::reshaped(const Ints& shape) const {
    KN_CHECK(checked_size(shape) == size_);
    if (is_contiguous()) return view(shape, row_major_strides(shape));
    // Old axes, without those of size 1, are consumed in groups whose product is that of a group of
    // new axes; a group must be dense in itself.
    Ints old_shape;
    Ints old_strides;
    for (std::size_t a = 0; a < rank(); ++a) {
        if (shape_[a] == 1) continue;
        old_shape.push_back(shape_[a]);
        old_strides.push_back(strides_[a]);
    }
    Ints strides(shape.size(), 1);
    std::size_t old_begin = 0;
    std::size_t begin = 0;
    while (old_begin < old_shape.size()) {
        std::size_t old_end = old_begin + 1;
        std::size_t end = begin;
        std::int64_t old_size = old_shape[old_begin];
        std::int64_t new_size = 1;
        while (new_size != old_size) {
            if (new_size < old_size) {
                new_size *= shape[end++];
            } else {
                if (old_strides[old_end - 1] != old_shape[old_end] * old_strides[old_end])
                    return std::nullopt;
                old_size *= old_shape[old_end++];
            }
        }
        std::int64_t stride = old_strides[old_end - 1];
        for (std::size_t a = end; a-- > begin;) {
            strides[a] = stride;
            stride *= shape[a];
        }
        old_begin = old_end;
        begin = end;
    }
    return view(shape, std::move(strides));
}

Array Array::at(std::size_t axis, std::int64_t index) const {
    Ints shape = shape_;
    Ints strides = strides_;
    shape.erase(shape.begin() + static_cast<std::ptrdiff_t>(axis));
    strides.erase(strides.begin() + static_cast<std::ptrdiff_t>(axis));
    return view(std::move(shape), std::move(strides), index * strides_[axis]);
}

Array Array::bit_cast(DType dtype) const {
    KN_CHECK(size_of(dtype) == size_of(dtype_));
    Array result = *this;
    result.dtype_ = dtype;
    return result;
}

Tensor Array::to_tensor() const {
    KN_CHECK(is_contiguous());
    return Tensor::wrap(dtype_, shape_, {data_, byte_size()}, storage_);
}

}  // namespace kn::cpu
