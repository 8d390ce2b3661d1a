// Leaves, views and copies.
#include <ir/infer.h>
#include <ir/require.h>

namespace kn {
using namespace rules;

namespace {

void all_not_negative(Graph& graph, const std::vector<Dim>& dims, const char* what) {
    for (const Dim& dim : dims)
        at_least(graph, dim, 0, [&] { return fmt::format("{} must not be negative", what); });
}

/// Elements start, start + step, ... (n of them) lie in 0..size-1, unless n is 0.
void check_slice(Graph& graph, const Dim& size, const Dim& start, std::int64_t step, const Dim& n,
                 std::size_t axis) {
    const auto what = [&] {
        return fmt::format("elements {} + i * {} for i < {} of axis {} (size {}) lie outside",
                           start.to_string(), step, n.to_string(), axis, size.to_string());
    };
    if (n == Dim(0)) return;
    // Each rule is tried in the form that holds for n >= 1 first: it is simpler, so it can be
    // proved more often. The other form agrees with it there, and allows a slice of no elements to
    // start anywhere up to the edge.
    const Dim first_end = start + 1;
    const Dim last = start + (n - 1) * step;
    const Dim guarded = start + max(n - 1, 0) * step;
    const Dim some = min(n, 1);
    if (step > 0) {
        at_least(graph, start, 0, what);
        if (!provably_ge(size, last + 1)) at_least(graph, size, guarded + some, what);
    } else {
        if (!provably_ge(size, first_end)) at_least(graph, size, start + some, what);
        if (!provably_ge(last, 0)) at_least(graph, guarded + 1 - some, 0, what);
    }
}

}  // namespace

std::vector<Type> infer(const op::Input& op, Graph& graph) {
    if (op.name.empty()) fail("an input needs a name");
    all_not_negative(graph, op.shape.dims(), "input dims");
    return one(op.dtype, op.shape);
}

std::vector<Type> infer(const op::Constant& op, Graph&) {
    if (!op.data) fail("a constant needs data");
    return one(op.data->tensor.dtype(), Shape::of(op.data->tensor.shape()));
}

std::vector<Type> infer(const op::ShapeValue& op, Graph&) {
    const std::int64_t count = checked_size(op.shape);
    if (count != static_cast<std::int64_t>(op.dims.size()))
        fail("{} dims do not fill shape {}", op.dims.size(), Shape::of(op.shape).to_string());
    return one(DType::I64, Shape::of(op.shape));
}

std::vector<Type> infer(const op::Iota& op, Graph& graph) {
    at_least(graph, op.length, 0, "the length must not be negative");
    return one(DType::I64, {op.length});
}

std::vector<Type> infer(const op::Reshape& op, Graph& graph) {
    const Type& x = graph.type(op.x);
    all_not_negative(graph, op.shape.dims(), "dims");
    const Dim from = x.shape.size();
    const Dim to = op.shape.size();
    if (from.is_constant() && to.is_constant() && from != to)
        fail("{} has {} elements, {} has {}", x.shape.to_string(), from.value(),
             op.shape.to_string(), to.value());
    if (from != to)
        graph.require_equal(from, to,
                            fmt::format("{} to {} keeps the number of elements",
                                        x.shape.to_string(), op.shape.to_string()));
    return one(x.dtype, op.shape);
}

std::vector<Type> infer(const op::Permute& op, Graph& graph) {
    const Type& x = graph.type(op.x);
    length_is("perm", op.perm.size(), x.shape.rank());
    axes_unique(op.perm, x.shape.rank());
    Shape shape;
    for (const std::int64_t axis : op.perm) shape.push_back(x.shape[axis]);
    return one(x.dtype, std::move(shape));
}

std::vector<Type> infer(const op::Broadcast& op, Graph& graph) {
    const Type& x = graph.type(op.x);
    rank_is("x", x.shape, op.shape.rank());
    all_not_negative(graph, op.shape.dims(), "dims");
    const auto what = [&] {
        return fmt::format("{} broadcasts to {}", x.shape.to_string(), op.shape.to_string());
    };
    for (std::size_t axis = 0; axis < x.shape.rank(); ++axis)
        fits(graph, x.shape[axis], op.shape[axis], what);
    return one(x.dtype, op.shape);
}

std::vector<Type> infer(const op::Slice& op, Graph& graph) {
    const Type& x = graph.type(op.x);
    const std::size_t rank = x.shape.rank();
    length_is("starts", op.starts.size(), rank);
    length_is("steps", op.steps.size(), rank);
    length_is("shape", op.shape.rank(), rank);
    all_not_negative(graph, op.shape.dims(), "dims");
    for (std::size_t axis = 0; axis < rank; ++axis) {
        if (op.steps[axis] == 0) fail("the step of axis {} is 0", axis);
        check_slice(graph, x.shape[axis], op.starts[axis], op.steps[axis], op.shape[axis], axis);
    }
    return one(x.dtype, op.shape);
}

std::vector<Type> infer(const op::Window& op, Graph& graph) {
    const Type& x = graph.type(op.x);
    const std::size_t count = op.axes.size();
    length_is("sizes", op.sizes.size(), count);
    length_is("strides", op.strides.size(), count);
    length_is("dilations", op.dilations.size(), count);
    axes_unique(op.axes, x.shape.rank());
    all_positive("strides", op.strides);
    all_positive("dilations", op.dilations);
    Shape shape = x.shape;
    for (std::size_t i = 0; i < count; ++i) {
        at_least(graph, op.sizes[i], 1, "a window's size must be at least 1");
        Dim& dim = shape[op.axes[i]];
        const Dim room = dim - (op.sizes[i] - 1) * op.dilations[i] - 1;
        const Dim positions = floor_div(room, op.strides[i]) + 1;
        dim = provably_ge(positions, 0) ? positions : max(positions, 0);
        shape.push_back(op.sizes[i]);
    }
    return one(x.dtype, std::move(shape));
}

std::vector<Type> infer(const op::Concat& op, Graph& graph) {
    if (op.inputs.empty()) fail("there is nothing to concatenate");
    const Type first = graph.type(op.inputs[0]);
    axis_in_range(op.axis, first.shape.rank());
    Shape shape = first.shape;
    for (std::size_t i = 1; i < op.inputs.size(); ++i) {
        const Type& other = graph.type(op.inputs[i]);
        if (other.dtype != first.dtype)
            fail("input {} is {}, input 0 is {}", i, describe(other), describe(first));
        if (other.shape.rank() != first.shape.rank())
            rank_is(fmt::format("input {}", i).c_str(), other.shape, first.shape.rank());
        for (std::size_t axis = 0; axis < shape.rank(); ++axis) {
            if (axis == static_cast<std::size_t>(op.axis))
                shape[axis] += other.shape[axis];
            else
                shape[axis] = same(graph, shape[axis], other.shape[axis], [&] {
                    return fmt::format("axis {} of inputs 0 and {}", axis, i);
                });
        }
    }
    return one(first.dtype, std::move(shape));
}

std::vector<Type> infer(const op::Pad& op, Graph& graph) {
    const Type& x = graph.type(op.x);
    const std::size_t rank = x.shape.rank();
    length_is("before", op.before.size(), rank);
    length_is("after", op.after.size(), rank);
    all_not_negative(graph, op.before, "pads");
    all_not_negative(graph, op.after, "pads");
    if (op.value.has_value() != (op.mode == PadMode::Constant))
        fail("a pad value goes with constant padding only");
    if (op.value) {
        const Type& value = graph.type(*op.value);
        if (value != Type{x.dtype, {}})
            fail("the pad value is {}, {} is needed", describe(value), describe({x.dtype, {}}));
    }
    Shape shape;
    for (std::size_t axis = 0; axis < rank; ++axis) {
        const Dim& size = x.shape[axis];
        for (const Dim& pad : {op.before[axis], op.after[axis]}) {
            if (pad == Dim(0)) continue;
            if (op.mode == PadMode::Reflect)
                at_least(graph, size, pad + min(pad, 1),
                         fmt::format("reflecting axis {} by {} needs a larger size", axis,
                                     pad.to_string()));
            else if (op.mode != PadMode::Constant)
                at_least(graph, size, min(pad, 1),
                         fmt::format("axis {} is empty and cannot be padded by copies", axis));
        }
        shape.push_back(size + op.before[axis] + op.after[axis]);
    }
    return one(x.dtype, std::move(shape));
}

}  // namespace kn
