#include <algorithm>

#include "builder/common.h"

namespace kn {

using builder::add;

Var broadcast_to(Var x, const Shape& shape) {
    if (x.rank() > shape.rank())
        throw GraphError(
            fmt::format("cannot broadcast {} to {}", x.shape().to_string(), shape.to_string()));
    const Shape target = shape;  // adding a node may move the graph's own shapes
    x = builder::to_rank(x, target.rank());
    return x.shape() == target ? x : add(x, op::Broadcast{x, target});
}

Shape broadcast_shapes(Graph& graph, const Shape& a, const Shape& b) {
    if (a == b) return a;
    if (a.rank() < b.rank()) return broadcast_shapes(graph, b, a);
    const std::size_t extra = a.rank() - b.rank();
    Shape result = a;
    const std::string what = fmt::format("broadcast of {} and {}", a.to_string(), b.to_string());
    for (std::size_t axis = 0; axis < b.rank(); ++axis)
        result[axis + extra] = graph.broadcast(a[axis + extra], b[axis], what);
    return result;
}

Var reshape(Var x, const Shape& shape) {
    return x.shape() == shape ? x : add(x, op::Reshape{x, shape});
}

Var permute(Var x, const Ints& perm) {
    Ints normal;
    for (const std::int64_t axis : perm)
        normal.push_back(static_cast<std::int64_t>(normalize_axis(axis, x.rank())));
    if (normal.size() == x.rank() && std::is_sorted(normal.begin(), normal.end()) &&
        std::adjacent_find(normal.begin(), normal.end()) == normal.end())
        return x;
    return add(x, op::Permute{x, normal});
}

Var transpose(Var x, std::int64_t axis_a, std::int64_t axis_b) {
    const std::size_t a = normalize_axis(axis_a, x.rank());
    const std::size_t b = normalize_axis(axis_b, x.rank());
    Ints perm;
    for (std::size_t axis = 0; axis < x.rank(); ++axis)
        perm.push_back(static_cast<std::int64_t>(axis));
    std::swap(perm[a], perm[b]);
    return permute(x, perm);
}

Ints builder::sorted_axes(const Ints& axes, std::size_t rank) {
    Ints result;
    for (const std::int64_t axis : axes)
        result.push_back(static_cast<std::int64_t>(normalize_axis(axis, rank)));
    std::sort(result.begin(), result.end());
    const auto twice = std::adjacent_find(result.begin(), result.end());
    if (twice != result.end()) throw GraphError(fmt::format("axis {} is given twice", *twice));
    return result;
}

Var squeeze(Var x, const Ints& axes) {
    const Ints sorted = builder::sorted_axes(axes, x.rank());
    for (const std::int64_t axis : sorted)
        x.graph->require_equal(x.shape()[static_cast<std::size_t>(axis)], 1, "a squeezed axis");
    return reshape(x, x.shape().without(sorted));
}

Var unsqueeze(Var x, const Ints& axes) {
    const std::size_t rank = x.rank() + axes.size();
    const Ints sorted = builder::sorted_axes(axes, rank);
    Shape shape;
    std::size_t next = 0;
    for (std::size_t axis = 0; axis < rank; ++axis) {
        const bool added =
            std::binary_search(sorted.begin(), sorted.end(), static_cast<std::int64_t>(axis));
        shape.push_back(added ? Dim(1) : x.shape()[next++]);
    }
    return reshape(x, shape);
}

Var flatten(Var x, std::int64_t axis) {
    // The rank itself is allowed: everything goes into the first dim.
    const std::size_t at =
        axis == static_cast<std::int64_t>(x.rank()) ? x.rank() : normalize_axis(axis, x.rank());
    const Shape shape = x.shape();
    return reshape(x, {shape.slice(0, at).size(), shape.slice(at, shape.rank()).size()});
}

Var slice(Var x, std::int64_t axis, const Dim& start, const Dim& end, std::int64_t step) {
    if (step == 0) throw GraphError("slice: the step is 0");
    const std::size_t at = normalize_axis(axis, x.rank());
    Shape shape = x.shape();
    const Dim length = step > 0 ? ceil_div(end - start, step) : ceil_div(start - end, -step);
    if (step == 1 && start == 0 && length == shape[at]) return x;
    std::vector<Dim> starts(shape.rank(), Dim(0));
    Ints steps(shape.rank(), 1);
    shape[at] = length;
    starts[at] = start;
    steps[at] = step;
    return add(x, op::Slice{x, std::move(starts), std::move(steps), std::move(shape)});
}

Var flip(Var x, std::int64_t axis) {
    const Dim size = x.shape()[normalize_axis(axis, x.rank())];
    return slice(x, axis, size - 1, -1, -1);
}

Var concat(const std::vector<Var>& parts, std::int64_t axis) {
    if (parts.empty()) throw GraphError("concat of nothing");
    if (parts.size() == 1) return parts[0];
    std::vector<Value> values;
    for (const Var part : parts) {
        builder::check_same_graph(parts[0], part);
        values.push_back(part);
    }
    const auto at = static_cast<std::int64_t>(normalize_axis(axis, parts[0].rank()));
    return add(parts[0], op::Concat{std::move(values), at});
}

std::vector<Var> split(Var x, std::int64_t axis, const std::vector<Dim>& sizes) {
    std::vector<Var> parts;
    Dim start = 0;
    for (const Dim& size : sizes) {
        parts.push_back(slice(x, axis, start, start + size));
        start += size;
    }
    x.graph->require_equal(start, x.shape()[normalize_axis(axis, x.rank())],
                           "the sum of a split's sizes");
    return parts;
}

Var tile(Var x, const std::vector<Dim>& repeats) {
    const Shape shape = x.shape();
    if (repeats.size() != shape.rank())
        throw GraphError(fmt::format("tile of {}: {} repeats", shape.to_string(), repeats.size()));
    // A repeat is a new broadcast axis before the one that it repeats, merged into it.
    Shape split;
    Shape grown;
    Shape result;
    for (std::size_t axis = 0; axis < shape.rank(); ++axis) {
        if (!(repeats[axis] == 1) && !(shape[axis] == 1)) {
            split.push_back(1);
            grown.push_back(repeats[axis]);
        }
        split.push_back(shape[axis]);
        grown.push_back(shape[axis] == 1 ? repeats[axis] : shape[axis]);
        result.push_back(shape[axis] * repeats[axis]);
    }
    return reshape(broadcast_to(reshape(x, split), grown), result);
}

namespace {

/// The part of a pad that adds (sign 1) or crops (sign -1).
std::vector<Dim> part(const std::vector<Dim>& pads, int sign) {
    std::vector<Dim> result;
    for (const Dim& pad : pads) result.push_back(max(Dim(sign) * pad, 0));
    return result;
}

bool all_zero(const std::vector<Dim>& dims) {
    return std::all_of(dims.begin(), dims.end(), [](const Dim& dim) { return dim == 0; });
}

Var pad(Var x, const std::vector<Dim>& before, const std::vector<Dim>& after, PadMode mode,
        std::optional<Value> value) {
    if (before.size() != x.rank() || after.size() != x.rank())
        throw GraphError(fmt::format("pad of {}: {} and {} pads", x.shape().to_string(),
                                     before.size(), after.size()));
    const std::vector<Dim> crop_before = part(before, -1);
    const std::vector<Dim> crop_after = part(after, -1);
    for (std::size_t axis = 0; axis < x.rank(); ++axis)
        x = slice(x, static_cast<std::int64_t>(axis), crop_before[axis],
                  x.shape()[axis] - crop_after[axis]);
    std::vector<Dim> grow_before = part(before, 1);
    std::vector<Dim> grow_after = part(after, 1);
    if (all_zero(grow_before) && all_zero(grow_after)) return x;
    return add(x, op::Pad{x, std::move(grow_before), std::move(grow_after), mode, value});
}

}  // namespace

Var pad(Var x, const std::vector<Dim>& before, const std::vector<Dim>& after, double value) {
    return pad(x, before, after, PadMode::Constant, scalar_like(x, value));
}

Var pad(Var x, const std::vector<Dim>& before, const std::vector<Dim>& after, PadMode mode) {
    if (mode == PadMode::Constant) return pad(x, before, after, 0.0);
    return pad(x, before, after, mode, std::nullopt);
}

Var gather(Var x, Var indices, std::int64_t axis) {
    builder::check_same_graph(x, indices);
    return add(x,
               op::Gather{x, indices, static_cast<std::int64_t>(normalize_axis(axis, x.rank()))});
}

Var gather_elements(Var x, Var indices, std::int64_t axis) {
    builder::check_same_graph(x, indices);
    return add(x, op::GatherElements{x, indices,
                                     static_cast<std::int64_t>(normalize_axis(axis, x.rank()))});
}

}  // namespace kn
