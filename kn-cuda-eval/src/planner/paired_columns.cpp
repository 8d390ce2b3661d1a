#include "planner/paired_columns.h"

#include <algorithm>
#include <functional>
#include <ranges>

namespace kn::cuda {

std::optional<PairedColumns::Part> whole_rows(const TensorRef& place, std::int64_t m,
                                              std::int64_t n) {
    std::vector<std::size_t> axes;
    for (std::size_t i = 0; i < place.shape.size(); ++i)
        if (place.shape[i] != 1) axes.push_back(i);
    std::ranges::stable_sort(axes, std::greater(), [&](std::size_t i) { return place.strides[i]; });
    PairedColumns::Part part;
    part.first = place.offset;
    part.count = 1;
    std::int64_t rows = 1;
    for (const std::size_t axis : axes | std::views::reverse) {
        const bool column = place.strides[axis] < n;
        std::int64_t& size = column ? part.count : rows;
        if (place.strides[axis] != size * (column ? 1 : n)) return std::nullopt;
        size *= place.shape[axis];
        (column ? part.column_axes : part.row_axes).push_back(axis);
    }
    std::ranges::reverse(part.column_axes);
    std::ranges::reverse(part.row_axes);
    if (rows != m || part.first < 0 || part.first + part.count > n) return std::nullopt;
    return part;
}

Ints order_of(const PairedColumns::Part& part, const Ints& shape) {
    Ints order;
    for (std::size_t axis = 0; axis < shape.size(); ++axis)
        if (shape[axis] == 1) order.push_back(static_cast<std::int64_t>(axis));
    for (const auto& axes : {part.row_axes, part.column_axes})
        for (const std::size_t axis : axes) order.push_back(static_cast<std::int64_t>(axis));
    return order;
}

}  // namespace kn::cuda
