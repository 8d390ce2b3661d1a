// Tensor: a dtype, a shape and row-major contiguous elements in host memory, with value semantics.
//
//     auto tensor = kn::Tensor::from_span<float>({2, 3}, pixels);   // copies
//     for (float value : tensor.data<float>()) std::cout << value << "\n";
//
// Copies share the elements; `mutable_data` separates a shared tensor first, so no copy is ever
// seen to change.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include <kn/graph/dtype.h>
#include <kn/graph/shape.h>

namespace kn {

class KN_API Tensor {
  public:
    /// f32, shape [0].
    Tensor();
    /// Elements are uninitialised. Throws GraphError on a negative dim or a size beyond the address
    /// space; std::bad_alloc.
    Tensor(DType dtype, Ints shape);
    static Tensor zeros(DType dtype, Ints shape);
    /// Memory of someone else, kept alive by `owner`; read-only. `bytes` must hold the elements
    /// (checked), aligned for the dtype (copied if it is not).
    static Tensor wrap(DType dtype, Ints shape, std::span<const std::byte> bytes,
                       std::shared_ptr<const void> owner);
    /// Copies; `values.size()` must be the product of the shape, else GraphError.
    template <class T>
    static Tensor from_span(Ints shape, std::span<const T> values) {
        return from_bytes(dtype_of<T>(), std::move(shape), std::as_bytes(values));
    }
    template <class T>
    static Tensor scalar(T value) {
        return from_span<T>({}, std::span<const T>(&value, 1));
    }
    /// Copies; GraphError if there are not as many bytes as the elements need.
    static Tensor from_bytes(DType dtype, Ints shape, std::span<const std::byte> bytes);

    DType dtype() const { return dtype_; }
    const Ints& shape() const { return shape_; }
    std::size_t rank() const { return shape_.size(); }
    std::int64_t size() const { return size_; }  ///< elements
    std::size_t byte_size() const { return static_cast<std::size_t>(size_) * size_of(dtype_); }

    /// Throws GraphError if T is not the dtype's type.
    template <class T>
    std::span<const T> data() const {
        check_type(dtype_of<T>());
        return {reinterpret_cast<const T*>(storage().get()), static_cast<std::size_t>(size_)};
    }
    template <class T>
    std::span<T> mutable_data() {
        check_type(dtype_of<T>());
        return {reinterpret_cast<T*>(mutable_bytes().data()), static_cast<std::size_t>(size_)};
    }
    /// All elements; of a tensor of `cast_later` they are made first.
    std::span<const std::byte> bytes() const { return {storage().get(), byte_size()}; }
    std::span<std::byte> mutable_bytes();

    /// The same elements, shared, under another shape of the same size; else GraphError.
    Tensor reshaped(Ints shape) const;
    /// Converts element by element (float to integer truncates and saturates, NaN becomes 0;
    /// integers wrap).
    Tensor cast(DType dtype) const;
    /// The same, but of a large tensor the elements are converted when somebody asks for them
    /// first, perhaps never.
    Tensor cast_later(DType dtype) const;
    /// Element `i` in row-major order as a double / an integer. Throws GraphError out of range.
    double at(std::int64_t i) const;
    std::int64_t int_at(std::int64_t i) const;

    /// "f32[2, 3]"
    std::string type_string() const;
    /// The owner of the elements, for views that outlive this object.
    const std::shared_ptr<const std::byte>& storage() const {
        if (pending_) settle();
        return data_;
    }
    /// The address of the elements, for telling tensors apart: it does not ask for the elements.
    const void* identity() const { return data_.get(); }

  private:
    struct Pending;
    void check_type(DType asked) const;
    void settle() const;

    DType dtype_ = DType::F32;
    bool writable_ = true;  // false: wrapped memory, copied before the first write
    Ints shape_;
    std::int64_t size_ = 0;
    std::shared_ptr<const std::byte> data_;
    std::shared_ptr<Pending> pending_;  // cast_later: how to make the elements
};

}  // namespace kn
