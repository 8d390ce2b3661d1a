// Shape: a list of Dims.
//
//     kn::Shape s = {kn::Dim::symbol("batch"), 3, 224, 224};
//     s.to_string() == "[batch, 3, 224, 224]";
#pragma once

#include <cstddef>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

#include <kn/graph/dim.h>

namespace kn {

using Ints = std::vector<std::int64_t>;

class KN_API Shape {
  public:
    Shape() = default;
    Shape(std::initializer_list<Dim> dims) : dims_(dims) {}
    explicit Shape(std::vector<Dim> dims) : dims_(std::move(dims)) {}
    explicit Shape(std::span<const std::int64_t> dims) : dims_(dims.begin(), dims.end()) {}
    static Shape of(const Ints& dims) { return Shape(std::span(dims)); }

    std::size_t rank() const { return dims_.size(); }
    const Dim& operator[](std::size_t axis) const { return dims_[axis]; }
    Dim& operator[](std::size_t axis) { return dims_[axis]; }
    auto begin() const { return dims_.begin(); }
    auto end() const { return dims_.end(); }
    auto begin() { return dims_.begin(); }
    auto end() { return dims_.end(); }
    const std::vector<Dim>& dims() const { return dims_; }
    void push_back(Dim dim) { dims_.push_back(std::move(dim)); }

    bool is_static() const;
    /// Product of the dims (1 for rank 0).
    Dim size() const;
    /// Throws GraphError if a dim is symbolic.
    Ints to_ints() const;
    /// As Dim::eval and Dim::substitute, for each dim.
    Ints eval(const Bindings& bindings) const;
    Shape substitute(const Bindings& bindings) const;
    /// Without these axes, which are in 0..rank-1.
    Shape without(std::span<const std::int64_t> axes) const;
    /// Dims [from, to)
    Shape slice(std::size_t from, std::size_t to) const;
    std::string to_string() const;

    bool operator==(const Shape&) const = default;

  private:
    std::vector<Dim> dims_;
};

/// -rank..rank-1 to 0..rank-1; throws GraphError with `what` otherwise.
KN_API std::size_t normalize_axis(std::int64_t axis, std::size_t rank, const char* what = "axis");

/// The product; throws GraphError if negative dims or an overflow occur.
KN_API std::int64_t checked_size(std::span<const std::int64_t> dims);

}  // namespace kn
