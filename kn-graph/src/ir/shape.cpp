#include <kn/graph/shape.h>

#include <algorithm>

#include <fmt/core.h>

#include <kn/graph/error.h>

namespace kn {

bool Shape::is_static() const {
    return std::all_of(begin(), end(), [](const Dim& dim) { return dim.is_constant(); });
}

Dim Shape::size() const {
    Dim product = 1;
    // A zero makes the product zero whatever the others are, even where they alone would overflow.
    if (std::find(begin(), end(), Dim(0)) != end()) return 0;
    for (const Dim& dim : dims_) product *= dim;
    return product;
}

Ints Shape::to_ints() const {
    Ints result;
    result.reserve(rank());
    for (const Dim& dim : dims_) {
        if (!dim.is_constant())
            throw GraphError(fmt::format("shape {} has no fixed size: {} is symbolic", to_string(),
                                         dim.to_string()));
        result.push_back(dim.value());
    }
    return result;
}

Ints Shape::eval(const Bindings& bindings) const {
    Ints result;
    result.reserve(rank());
    for (const Dim& dim : dims_) result.push_back(dim.eval(bindings));
    return result;
}

Shape Shape::substitute(const Bindings& bindings) const {
    Shape result;
    for (const Dim& dim : dims_) result.push_back(dim.substitute(bindings));
    return result;
}

Shape Shape::without(std::span<const std::int64_t> axes) const {
    Shape result;
    for (std::size_t axis = 0; axis < rank(); ++axis)
        if (std::find(axes.begin(), axes.end(), static_cast<std::int64_t>(axis)) == axes.end())
            result.push_back(dims_[axis]);
    return result;
}

Shape Shape::slice(std::size_t from, std::size_t to) const {
    KN_CHECK(from <= to && to <= rank());
    return Shape(std::vector<Dim>(begin() + static_cast<std::ptrdiff_t>(from),
                                  begin() + static_cast<std::ptrdiff_t>(to)));
}

std::string Shape::to_string() const {
    std::string text = "[";
    for (const Dim& dim : dims_) {
        if (text.size() > 1) text += ", ";
        text += dim.to_string();
    }
    return text + "]";
}

std::size_t normalize_axis(std::int64_t axis, std::size_t rank, const char* what) {
    const auto signed_rank = static_cast<std::int64_t>(rank);
    if (axis < -signed_rank || axis >= signed_rank)
        throw GraphError(fmt::format("{} {} is out of range for rank {}", what, axis, rank));
    return static_cast<std::size_t>(axis < 0 ? axis + signed_rank : axis);
}

std::int64_t checked_size(std::span<const std::int64_t> dims) {
    std::int64_t product = 1;
    bool overflow = false;
    bool zero = false;
    for (const std::int64_t dim : dims) {
        if (dim < 0) throw GraphError(fmt::format("negative size {}", dim));
        zero |= dim == 0;
        overflow |= __builtin_mul_overflow(product, dim, &product);
    }
    if (zero) return 0;
    if (overflow) throw GraphError(fmt::format("a size overflows: {}", Shape(dims).to_string()));
    return product;
}

}  // namespace kn
