// Scatters. Without reduction the last update of a place wins: found by an atomic maximum over the
// updates' numbers. With one, each lane of updates is combined in order by one thread; only where
// there are few long lanes is it all at once by atomics.
#include <algorithm>

#include <fmt/core.h>

#include "lower/special.h"

namespace kn::cuda {

namespace {

/// Update (i, lane) goes to a place of x that `i` and `indices` decide, at `lane` within it.
/// ScatterElements: i runs along the axis, lanes over the others. ScatterNd: i runs over the
/// coordinates, lanes over the slice that one names.
struct Scatter {
    Value x, indices, updates;
    ScatterReduction reduction;
    std::int64_t count = 0, lanes = 0;
    std::int64_t places = 0;      ///< different ones that updates can name
    AxisGroups update_axes = {};  ///< (i, lane) of updates
};

Ints axes_between(std::size_t from, std::size_t to) {
    Ints axes;
    for (std::size_t a = from; a < to; ++a) axes.push_back(static_cast<std::int64_t>(a));
    return axes;
}

std::int64_t product_of(const Ints& shape, std::size_t from, std::size_t to) {
    std::int64_t product = 1;
    for (std::size_t a = from; a < to; ++a) product *= shape[a];
    return product;
}

Scatter scatter_of(const Graph& graph, const op::ScatterElements& op) {
    Scatter s{op.x, op.indices, op.updates, op.reduction};
    const Ints shape = graph.shape(op.indices).to_ints();
    const auto axis = static_cast<std::size_t>(op.axis);
    s.count = shape[axis];
    s.lanes = product_of(shape, 0, shape.size()) / std::max<std::int64_t>(s.count, 1);
    const Ints x = graph.shape(op.x).to_ints();
    s.places = product_of(x, 0, x.size());
    s.update_axes = {{op.axis}, lanes_along(shape.size(), op.axis)[0]};
    return s;
}

Scatter scatter_of(const Graph& graph, const op::ScatterNd& op) {
    Scatter s{op.x, op.indices, op.updates, op.reduction};
    const Ints shape = graph.shape(op.indices).to_ints();
    const Ints x = graph.shape(op.x).to_ints();
    const auto length = static_cast<std::size_t>(shape.back());
    s.count = product_of(shape, 0, shape.size() - 1);
    s.lanes = product_of(x, length, x.size());
    s.places = product_of(x, 0, length);
    const std::size_t rank = graph.shape(op.updates).rank();
    s.update_axes = {axes_between(0, shape.size() - 1), axes_between(shape.size() - 1, rank)};
    return s;
}

/// Declares index(i, lane, k): coordinate k of an update, within its axis.
void declare_index(HandKernel& kernel, const Scatter& s, const op::ScatterElements*) {
    kernel.read("raw_index", operand_of(kernel.placement(), s.indices), s.update_axes);
}
void declare_index(HandKernel& kernel, const Scatter& s, const op::ScatterNd*) {
    const TensorRef indices = operand_of(kernel.placement(), s.indices);
    const auto last = static_cast<std::int64_t>(indices.shape.size()) - 1;
    kernel.read("raw_index", indices, {s.update_axes[0], {last}});
}

/// C text of the coordinates of update (i, lane) in x.
Index coordinates_of(const Graph& graph, const Scatter& s, const op::ScatterElements& op) {
    const Ints shape = graph.shape(op.indices).to_ints();
    const Ints x = graph.shape(op.x).to_ints();
    Index out(shape.size());
    std::int64_t inner = s.lanes;
    for (std::size_t a = 0; a < shape.size(); ++a) {
        if (static_cast<std::int64_t>(a) == op.axis) {
            out[a] = fmt::format("kn_index<Int>(raw_index(i, lane), (Int){})", x[a]);
            continue;
        }
        inner /= std::max<std::int64_t>(shape[a], 1);
        out[a] = fmt::format("(lane / {} % {})", inner, shape[a]);
    }
    return out;
}
Index coordinates_of(const Graph& graph, const Scatter& s, const op::ScatterNd& op) {
    const Ints x = graph.shape(op.x).to_ints();
    const auto length = static_cast<std::size_t>(graph.shape(op.indices).to_ints().back());
    Index out(x.size());
    std::int64_t inner = s.lanes;
    for (std::size_t a = 0; a < x.size(); ++a) {
        if (a < length) {
            out[a] = fmt::format("kn_index<Int>(raw_index(i, {}), (Int){})", a, x[a]);
            continue;
        }
        inner /= std::max<std::int64_t>(x[a], 1);
        out[a] = fmt::format("(lane / {} % {})", inner, x[a]);
    }
    return out;
}

/// place(i, lane): the number of the place that an update goes to. A place of ScatterNd is a whole
/// slice, whatever the lane.
template <class Op>
void declare_place(HandKernel& kernel, const Scatter& s, const Op& op) {
    const Graph& graph = kernel.placement().graph();
    declare_index(kernel, s, &op);
    Ints places = graph.shape(op.x).to_ints();
    Index at = coordinates_of(graph, s, op);
    if constexpr (std::is_same_v<Op, op::ScatterNd>) {
        const auto length = static_cast<std::size_t>(graph.shape(op.indices).to_ints().back());
        at.resize(length);
        places.resize(length);
    }
    kernel.function("place", "Int i, Int lane",
                    offset_text(strides_for(places, row_major(places.size())), at));
}

/// x, updates and the result, with place_of(element) and lane_of(element).
template <class Op>
void declare_elements(HandKernel& kernel, const Group& group, const Scatter& s, const Op& op) {
    Placement& placement = kernel.placement();
    const Graph& graph = placement.graph();
    const Ints shape = graph.shape(op.x).to_ints();
    const AxisGroups flat = {axes_between(0, shape.size())};
    const std::int64_t elements = product_of(shape, 0, shape.size());
    kernel.constant("kElements", elements);
    kernel.read("x", operand_of(placement, s.x), flat);
    kernel.read("updates", operand_of(placement, s.updates), s.update_axes);
    kernel.write("store", placement.stored(group.anchor), flat);
    if constexpr (std::is_same_v<Op, op::ScatterNd>) {
        kernel.function("place_of", "Int element", fmt::format("element / {}", s.lanes));
        kernel.function("lane_of", "Int element", fmt::format("element % {}", s.lanes));
    } else {
        // The lane of an element among the lanes of the indices, which may be fewer.
        kernel.function("place_of", "Int element", "element");
        const Ints index_shape = graph.shape(op.indices).to_ints();
        std::string lane = "(Int)0";
        std::int64_t inner = elements;
        for (std::size_t a = 0; a < shape.size(); ++a) {
            inner /= std::max<std::int64_t>(shape[a], 1);
            if (static_cast<std::int64_t>(a) == op.axis) continue;
            lane =
                fmt::format("({} * {} + element / {} % {})", lane, index_shape[a], inner, shape[a]);
        }
        kernel.function("lane_of", "Int element", lane);
    }
}

/// Whether every element of x has a lane of updates.
bool has_all_lanes(const Graph&, const op::ScatterNd&) { return true; }
bool has_all_lanes(const Graph& graph, const op::ScatterElements& op) {
    return graph.shape(op.indices).without(Ints{op.axis}) ==
           graph.shape(op.x).without(Ints{op.axis});
}

template <class Op>
void last_wins(Placement& placement, const Group& group, const Op& op, const Scatter& s) {
    const Graph& graph = placement.graph();
    const Ints shape = graph.shape(op.x).to_ints();
    const std::int64_t elements = product_of(shape, 0, shape.size());
    constexpr std::int64_t kFew = 32;  // updates that each element can look through
    if (s.count <= kFew && has_all_lanes(graph, op)) {
        HandKernel few(placement, "scatter_few");
        few.constant("kCount", s.count);
        declare_place(few, s, op);
        declare_elements(few, group, s, op);
        return few.add_step(group, "scatter", ceil_div(elements, 256), 256);
    }
    if (s.count >= INT32_MAX) throw GraphError("a scatter of more than 2^31 updates");
    const TensorRef mark = placement.scratch(DType::I32, {s.places}, "winners");

    Step clear;
    clear.name = "clear";
    clear.work = ClearWork{};
    clear.operands = {{mark, Access::Write, "winners"}};
    clear.reason = "no update has gone anywhere yet";
    clear.origins = graph[group.anchor].origins;
    placement.plan().steps.push_back(std::move(clear));

    HandKernel marks(placement, "scatter_mark");
    const std::int64_t lanes = std::is_same_v<Op, op::ScatterNd> ? 1 : s.lanes;
    marks.constant("kCount", s.count);
    marks.constant("kLanes", lanes);
    marks.pointer("mark", mark, Access::ReadWrite);
    declare_place(marks, s, op);
    marks.add_step(group, "scatter", ceil_div(s.count * lanes, 256), 256, false);

    HandKernel pick(placement, "scatter_pick");
    pick.pointer("mark", mark, Access::Read);
    declare_elements(pick, group, s, op);
    pick.add_step(group, "scatter", ceil_div(elements, 256), 256);
}

std::string combination(ScatterReduction reduction, DType dtype) {
    if (dtype == DType::Bool)
        return reduction == ScatterReduction::Max ? "old || update" : "old && update";
    const std::string type = c_type(dtype);
    const char* function = reduction == ScatterReduction::Add   ? "kn_add"
                           : reduction == ScatterReduction::Mul ? "kn_mul"
                           : reduction == ScatterReduction::Max ? "kn_max"
                                                                : "kn_min";
    return fmt::format("kn_cast<{}>({}(kn_widen(old), kn_widen(update)))", type, function);
}

template <class Op>
void combined(Placement& placement, const Group& group, const Op& op, const Scatter& s) {
    const Graph& graph = placement.graph();
    const Ints shape = graph.shape(op.x).to_ints();
    const TensorRef& y = placement.stored(group.anchor);
    const AxisGroups flat = {axes_between(0, shape.size())};

    HandKernel copy(placement, "scatter_copy");
    const std::int64_t elements = product_of(shape, 0, shape.size());
    const bool none = s.count * s.lanes == 0;
    copy.constant("kElements", elements);
    copy.read("x", operand_of(placement, s.x), flat);
    copy.write("store", y, flat);
    copy.add_step(group, "copy", ceil_div(elements, 256), 256, none);
    if (none) return;

    constexpr std::int64_t kShort = 2048;  // updates that one thread may take one after another
    const bool serial = s.count <= kShort || s.lanes >= 16384;
    HandKernel kernel(placement, serial ? "scatter_serial" : "scatter_atomic");
    kernel.constant("kCount", s.count);
    kernel.constant("kLanes", s.lanes);
    kernel.type("y_t", c_type(y.dtype));
    kernel.type("word_t", size_of(y.dtype) == 8 ? "unsigned long long" : "unsigned");
    const std::string base = kernel.operands().pointer(y, Access::ReadWrite, "y");
    declare_index(kernel, s, &op);
    const TensorRef updates = operand_of(placement, s.updates);
    kernel.read("update_value", updates, s.update_axes);
    kernel.function("updates", "Int i, Int lane", "*update_value_at(i, lane)");
    kernel.function("y_of", "Int i, Int lane",
                    base + " + " + offset_text(y.strides, coordinates_of(graph, s, op)));
    kernel.line("const auto combine = [](y_t old, y_t update) -> y_t { return " +
                combination(s.reduction, y.dtype) + "; };");
    if (serial)
        kernel.add_step(group, "scatter", ceil_div(s.lanes, 128), 128);
    else
        kernel.add_step(group, "scatter", ceil_div(s.count * s.lanes, 256), 256);
}

template <class Op>
void lower(Placement& placement, const Group& group, const Op& op) {
    const Scatter s = scatter_of(placement.graph(), op);
    if (op.reduction == ScatterReduction::None && s.count * s.lanes > 0)
        last_wins(placement, group, op, s);
    else
        combined(placement, group, op, s);
}

}  // namespace

void lower_scatter(Placement& placement, const Group& group) {
    const Graph& graph = placement.graph();
    if (const auto* elements = graph.get_if<op::ScatterElements>(group.anchor))
        lower(placement, group, *elements);
    else
        lower(placement, group, *graph.get_if<op::ScatterNd>(group.anchor));
}

}  // namespace kn::cuda
