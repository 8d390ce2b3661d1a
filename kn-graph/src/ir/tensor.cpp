#include <kn/graph/tensor.h>

#include <cstring>
#include <limits>
#include <mutex>
#include <new>

#include <sys/mman.h>

#include <fmt/core.h>

#include <kn/graph/convert.h>
#include <kn/graph/error.h>

#include "ir/convert.h"
#include "ir/split_over_threads.h"

namespace kn {

namespace {

constexpr std::align_val_t alignment{64};
constexpr std::size_t large = std::size_t{4} << 20;
constexpr std::align_val_t page_alignment{std::size_t{2} << 20};

std::shared_ptr<const std::byte> allocate(std::size_t bytes) {
    if (bytes == 0) bytes = 1;  // so that data() is never null
    if (bytes < large)
        return {static_cast<std::byte*>(::operator new(bytes, alignment)), [](const std::byte* p) {
                    ::operator delete(const_cast<std::byte*>(p), alignment);
                }};
    auto* memory = static_cast<std::byte*>(::operator new(bytes, page_alignment));
    // First use of small pages takes longer than most work on the elements.
    ::madvise(memory, bytes, MADV_HUGEPAGE);
    return {memory, [](const std::byte* p) {
                ::operator delete(const_cast<std::byte*>(p), page_alignment);
            }};
}

/// The number of elements; throws where their bytes cannot be addressed.
std::int64_t size_for(DType dtype, const Ints& shape) {
    const std::int64_t size = checked_size(shape);
    if (size >
        std::numeric_limits<std::ptrdiff_t>::max() / static_cast<std::int64_t>(size_of(dtype)))
        throw GraphError(fmt::format("a tensor {}{} does not fit the address space", name_of(dtype),
                                     Shape::of(shape).to_string()));
    return size;
}

}  // namespace

Tensor::Tensor() : Tensor(DType::F32, {0}) {}

Tensor::Tensor(DType dtype, Ints shape)
    : dtype_(dtype),
      shape_(std::move(shape)),
      size_(size_for(dtype, shape_)),
      data_(allocate(byte_size())) {}

Tensor Tensor::zeros(DType dtype, Ints shape) {
    Tensor result(dtype, std::move(shape));
    std::memset(result.mutable_bytes().data(), 0, result.byte_size());
    return result;
}

Tensor Tensor::wrap(DType dtype, Ints shape, std::span<const std::byte> bytes,
                    std::shared_ptr<const void> owner) {
    const auto need = static_cast<std::size_t>(size_for(dtype, shape)) * size_of(dtype);
    if (bytes.size() < need)
        throw GraphError(fmt::format("{}{} needs {} bytes, got {}", name_of(dtype),
                                     Shape::of(shape).to_string(), need, bytes.size()));
    if (bytes.data() == nullptr ||
        reinterpret_cast<std::uintptr_t>(bytes.data()) % size_of(dtype) != 0)
        return from_bytes(dtype, std::move(shape), bytes.first(need));
    Tensor result;
    result.dtype_ = dtype;
    result.writable_ = false;
    result.shape_ = std::move(shape);
    result.size_ = checked_size(result.shape_);
    result.data_ = std::shared_ptr<const std::byte>(std::move(owner), bytes.data());
    return result;
}

Tensor Tensor::from_bytes(DType dtype, Ints shape, std::span<const std::byte> bytes) {
    const auto need = static_cast<std::size_t>(size_for(dtype, shape)) * size_of(dtype);
    if (bytes.size() != need)
        throw GraphError(fmt::format("{}{} has {} bytes, got {}", name_of(dtype),
                                     Shape::of(shape).to_string(), need, bytes.size()));
    Tensor result(dtype, std::move(shape));
    if (need > 0) std::memcpy(result.mutable_bytes().data(), bytes.data(), need);
    return result;
}

std::span<std::byte> Tensor::mutable_bytes() {
    if (pending_) settle();
    pending_.reset();
    if (!writable_ || data_.use_count() != 1) {
        auto copy = allocate(byte_size());
        if (byte_size() > 0)
            std::memcpy(const_cast<std::byte*>(copy.get()), data_.get(), byte_size());
        data_ = std::move(copy);
        writable_ = true;
    }
    // The elements were allocated by this class, as bytes that are not const.
    return {const_cast<std::byte*>(data_.get()), byte_size()};
}

Tensor Tensor::reshaped(Ints shape) const {
    if (checked_size(shape) != size_)
        throw GraphError(
            fmt::format("cannot reshape {} to {}", type_string(), Shape::of(shape).to_string()));
    Tensor result = *this;
    result.shape_ = std::move(shape);
    return result;
}

struct Tensor::Pending {
    std::once_flag once;
    Tensor source;
};

namespace {

void convert_all(const Tensor& from, DType dtype, std::byte* to) {
    const std::byte* const source = from.bytes().data();
    const auto size = static_cast<std::size_t>(from.size());
    detail::split_over_threads(size, [&](std::size_t begin, std::size_t end) {
        convert_elements(from.dtype(), source + begin * size_of(from.dtype()), dtype,
                         to + begin * size_of(dtype), end - begin);
    });
}

}  // namespace

Tensor Tensor::cast(DType dtype) const {
    if (dtype == dtype_) return *this;
    Tensor result(dtype, shape_);
    convert_all(*this, dtype, result.mutable_bytes().data());
    return result;
}

Tensor Tensor::cast_later(DType dtype) const {
    constexpr std::int64_t large = 1 << 16;
    if (dtype == dtype_ || size_ < large) return cast(dtype);
    Tensor result(dtype, shape_);
    result.pending_ = std::make_shared<Pending>();
    result.pending_->source = *this;
    return result;
}

void Tensor::settle() const {
    std::call_once(pending_->once, [&] {
        // Allocated by this class, and seen by nobody yet.
        convert_all(pending_->source, dtype_, const_cast<std::byte*>(data_.get()));
        pending_->source = Tensor();
    });
}

namespace {

template <class To>
To element(const Tensor& tensor, std::int64_t i) {
    if (i < 0 || i >= tensor.size())
        throw GraphError(fmt::format("element {} is out of range of {}", i, tensor.type_string()));
    return detail::with_type(tensor.dtype(), [&]<class From>(From) {
        return detail::convert<To>(tensor.data<From>()[static_cast<std::size_t>(i)]);
    });
}

}  // namespace

double Tensor::at(std::int64_t i) const { return element<double>(*this, i); }
std::int64_t Tensor::int_at(std::int64_t i) const { return element<std::int64_t>(*this, i); }

std::string Tensor::type_string() const {
    return fmt::format("{}{}", name_of(dtype_), Shape::of(shape_).to_string());
}

void Tensor::check_type(DType asked) const {
    if (asked != dtype_)
        throw GraphError(fmt::format("the tensor is {}, its elements were asked for as {}",
                                     type_string(), name_of(asked)));
}

}  // namespace kn
