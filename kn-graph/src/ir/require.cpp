#include <ir/require.h>

#include <algorithm>

namespace kn::rules {

std::string describe(const Type& type) {
    return std::string(name_of(type.dtype)) + type.shape.to_string();
}

std::vector<Type> one(DType dtype, Shape shape) { return {{dtype, std::move(shape)}}; }

void axis_in_range(std::int64_t axis, std::size_t rank, const char* what) {
    if (axis < 0 || axis >= static_cast<std::int64_t>(rank))
        fail("{} {} of rank {}", what, axis, rank);
}

void axes_unique(const Ints& axes, std::size_t rank) {
    std::vector<bool> seen(rank);
    for (const std::int64_t axis : axes) {
        axis_in_range(axis, rank);
        if (seen[axis]) fail("axis {} is given twice", axis);
        seen[axis] = true;
    }
}

void axes_sorted(const Ints& axes, std::size_t rank) {
    axes_unique(axes, rank);
    if (!std::is_sorted(axes.begin(), axes.end())) fail("the axes are not in ascending order");
}

void length_is(const char* what, std::size_t length, std::size_t expected) {
    if (length != expected) fail("{} has {} entries, {} are needed", what, length, expected);
}

void all_positive(const char* what, const Ints& values) {
    for (const std::int64_t value : values)
        if (value < 1) fail("{} must be at least 1, not {}", what, value);
}

void rank_is(const char* what, const Shape& shape, std::size_t rank) {
    if (shape.rank() != rank)
        fail("{} has rank {} ({}), rank {} is needed", what, shape.rank(), shape.to_string(), rank);
}

void dtype_is(const char* what, DType dtype, DType expected) {
    if (dtype != expected)
        fail("{} has dtype {}, {} is needed", what, name_of(dtype), name_of(expected));
}

void dtype_is_float(const char* what, DType dtype) {
    if (!is_float(dtype)) fail("{} has dtype {}, a float type is needed", what, name_of(dtype));
}

void dtype_is_number(const char* what, DType dtype) {
    if (dtype == DType::Bool) fail("{} has dtype bool, a number type is needed", what);
}

void dtype_is_index(const char* what, DType dtype) {
    if (dtype != DType::I32 && dtype != DType::I64)
        fail("{} has dtype {}, i32 or i64 is needed", what, name_of(dtype));
}

std::string What::from_characters(const void* data) { return static_cast<const char*>(data); }
std::string What::from_string(const void* data) { return *static_cast<const std::string*>(data); }

void at_least(Graph& graph, const Dim& a, const Dim& b, const What& what) {
    const auto x = a.constant();
    const auto y = b.constant();
    if (x && y && *x < *y) fail("{}: {} < {}", what.text(), *x, *y);
    if (!provably_ge(a, b)) graph.require_not_negative(a - b, what.text());
}

Dim same(Graph& graph, const Dim& a, const Dim& b, const What& what) {
    if (a == b) return a;
    if (a.is_constant() && b.is_constant())
        fail("{}: {} and {} differ", what.text(), a.to_string(), b.to_string());
    graph.require_equal(a, b, what.text());
    return b.is_constant() ? b : a;
}

Shape same(Graph& graph, const Shape& a, const Shape& b, const What& what) {
    if (a.rank() != b.rank())
        fail("{}: {} and {} have different ranks", what.text(), a.to_string(), b.to_string());
    Shape result;
    for (std::size_t axis = 0; axis < a.rank(); ++axis) {
        if (a[axis].is_constant() && b[axis].is_constant() && a[axis] != b[axis])
            fail("{}: {} and {} differ", what.text(), a.to_string(), b.to_string());
        result.push_back(same(graph, a[axis], b[axis], what));
    }
    return result;
}

void fits(Graph& graph, const Dim& dim, const Dim& target, const What& what) {
    if (dim == Dim(1) || dim == target) return;
    if (dim.is_constant() && target.is_constant())
        fail("{}: {} is neither 1 nor {}", what.text(), dim.to_string(), target.to_string());
    if (target == Dim(1))
        graph.require_equal(dim, target, what.text());
    else
        (void)graph.broadcast(dim, target, what.text());
}

void one_element(Graph& graph, const Shape& shape, const What& what) {
    const Dim size = shape.size();
    if (size.is_constant() && size != Dim(1))
        fail("{} must have one element, not shape {}", what.text(), shape.to_string());
    if (size != Dim(1)) graph.require_equal(size, 1, what.text() + " must have one element");
}

}  // namespace kn::rules
