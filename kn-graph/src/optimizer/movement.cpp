// Elementwise operations and views change places.
#include <algorithm>
#include <functional>

#include "optimizer/rules.h"

namespace kn::optimizer {

std::optional<Value> elementwise_before_broadcast(Rewriter& r, Value v) {
    const Operation operation = r.graph[v].operation;
    if (!is_elementwise(operation)) return std::nullopt;
    const Shape full = r.shape(v);
    Shape small = full;
    for (std::size_t axis = 0; axis < full.rank(); ++axis) small[axis] = 1;
    std::vector<Value> sources;
    for (const Value& input : inputs_of(operation)) {
        const auto* broadcast = r.graph.get_if<op::Broadcast>(input);
        sources.push_back(broadcast ? broadcast->x : input);
        const Shape& shape = r.shape(sources.back());
        for (std::size_t axis = 0; axis < full.rank(); ++axis)
            if (!(shape[axis] == 1)) small[axis] = full[axis];
    }
    if (small == full) return std::nullopt;
    std::size_t next = 0;
    Operation moved = map_inputs(
        operation, [&](Value) { return broadcast_to(r.var(sources[next++]), small).value; });
    return broadcast_to(r.var(r.graph.add(std::move(moved))), full);
}

namespace {

/// What an operand looks like before the view that its fellow goes through; nothing if that would
/// cost work.
using Undo = std::function<std::optional<Value>(Value)>;

std::optional<Value> move_behind(Rewriter& r, const Operation& operation, const Undo& undo,
                                 const std::function<Value(Value)>& redo) {
    std::vector<Value> sources;
    for (const Value& input : inputs_of(operation)) {
        const auto source = undo(input);
        if (!source) return std::nullopt;
        sources.push_back(*source);
    }
    std::size_t next = 0;
    return redo(r.graph.add(map_inputs(operation, [&](Value) { return sources[next++]; })));
}

bool is_constant_broadcast(const Rewriter& r, const op::Broadcast& broadcast) {
    return r.is<op::Constant>(broadcast.x);
}

/// A constant whose axes each stay whole in another shape, in that shape.
std::optional<Value> regrouped(Rewriter& r, const op::Broadcast& broadcast, const Shape& target) {
    const auto groups = axis_groups(broadcast.shape, target);
    if (!groups) return std::nullopt;
    const Shape small = r.shape(broadcast.x);
    Shape shape = target;
    for (const AxisGroup& group : *groups) {
        bool all_one = true;
        bool all_same = true;
        for (std::size_t i = group.from_begin; i < group.from_end; ++i) {
            all_one &= small[i] == 1;
            all_same &= small[i] == broadcast.shape[i];
        }
        if (all_one)
            for (std::size_t j = group.to_begin; j < group.to_end; ++j) shape[j] = 1;
        else if (!all_same)
            return std::nullopt;
    }
    return broadcast_to(r.var(r.folded(reshape(r.var(broadcast.x), shape))), target);
}

}  // namespace

namespace {

/// Permute of a Reshape that only merges axes: the Reshape can come last.
std::optional<Value> permute_before_merge(Rewriter& r, const op::Permute& outer) {
    const auto merge = r.get<op::Reshape>(outer.x);
    if (!merge) return std::nullopt;
    const auto groups = axis_groups(r.shape(merge->x), merge->shape);
    if (!groups) return std::nullopt;
    // By axis of the merged shape: the axes that it is made of.
    std::vector<Ints> parts(merge->shape.rank());
    for (const AxisGroup& group : *groups) {
        if (group.to_end - group.to_begin > 1) return std::nullopt;
        // Axes of size 1 that belong to nothing go with their neighbour.
        const bool alone = group.to_end == group.to_begin;
        if (alone && parts.empty()) return std::nullopt;
        const std::size_t to = alone && group.to_begin > 0 ? group.to_begin - 1 : group.to_begin;
        for (std::size_t i = group.from_begin; i < group.from_end; ++i)
            parts[to].push_back(static_cast<std::int64_t>(i));
    }
    Ints perm;
    for (const std::int64_t axis : outer.perm)
        for (const std::int64_t part : parts[static_cast<std::size_t>(axis)]) perm.push_back(part);
    Shape target;
    for (const std::int64_t axis : outer.perm)
        target.push_back(merge->shape[static_cast<std::size_t>(axis)]);
    return reshape(permute(r.var(merge->x), perm), target);
}

/// Slice of a Reshape that leaves the sliced axes whole: the Reshape can come last.
std::optional<Value> slice_before_reshape(Rewriter& r, const op::Slice& outer) {
    const auto view = r.get<op::Reshape>(outer.x);
    if (!view) return std::nullopt;
    const Shape before = r.shape(view->x);
    const auto groups = axis_groups(before, view->shape);
    if (!groups) return std::nullopt;
    op::Slice moved{view->x, std::vector<Dim>(before.rank(), Dim(0)), Ints(before.rank(), 1),
                    before};
    for (const AxisGroup& group : *groups) {
        bool whole = true;
        for (std::size_t j = group.to_begin; j < group.to_end; ++j)
            whole &=
                outer.starts[j] == 0 && outer.steps[j] == 1 && outer.shape[j] == view->shape[j];
        if (whole) continue;
        if (group.from_end - group.from_begin != 1 || group.to_end - group.to_begin != 1)
            return std::nullopt;
        moved.starts[group.from_begin] = outer.starts[group.to_begin];
        moved.steps[group.from_begin] = outer.steps[group.to_begin];
        moved.shape[group.from_begin] = outer.shape[group.to_begin];
    }
    return reshape(r.var(r.graph.add(std::move(moved))), outer.shape);
}

}  // namespace

std::optional<Value> view_sinking(Rewriter& r, Value v) {
    if (const auto outer = r.get<op::Permute>(v)) return permute_before_merge(r, *outer);
    if (const auto outer = r.get<op::Slice>(v)) return slice_before_reshape(r, *outer);
    const Operation operation = r.graph[v].operation;
    if (!is_elementwise(operation)) return std::nullopt;
    for (const Value& input : inputs_of(operation)) {
        if (const auto view = r.get<op::Permute>(input)) {
            if (r.is<op::Constant>(view->x)) continue;
            const Shape before = r.shape(view->x);
            const auto undo = [&](Value operand) -> std::optional<Value> {
                if (const auto same = r.get<op::Permute>(operand))
                    return same->perm == view->perm ? std::optional(same->x) : std::nullopt;
                const auto broadcast = r.get<op::Broadcast>(operand);
                if (!broadcast || !is_constant_broadcast(r, *broadcast)) return std::nullopt;
                const Value moved = r.folded(permute(r.var(broadcast->x), inverse(view->perm)));
                return broadcast_to(r.var(moved), before);
            };
            return move_behind(r, operation, undo,
                               [&](Value y) { return permute(r.var(y), view->perm).value; });
        }
        if (const auto view = r.get<op::Reshape>(input)) {
            if (r.is<op::Constant>(view->x)) continue;
            const Shape before = r.shape(view->x);
            const auto undo = [&](Value operand) -> std::optional<Value> {
                if (const auto same = r.get<op::Reshape>(operand))
                    return r.shape(same->x) == before ? std::optional(same->x) : std::nullopt;
                const auto broadcast = r.get<op::Broadcast>(operand);
                if (!broadcast || !is_constant_broadcast(r, *broadcast)) return std::nullopt;
                return regrouped(r, *broadcast, before);
            };
            return move_behind(r, operation, undo,
                               [&](Value y) { return reshape(r.var(y), view->shape).value; });
        }
    }
    return std::nullopt;
}

std::optional<Value> reduce_before_permute(Rewriter& r, Value v) {
    const auto reduce = r.get<op::Reduce>(v);
    if (!reduce) return std::nullopt;
    const auto view = r.get<op::Permute>(reduce->x);
    if (!view) return std::nullopt;
    Ints axes;
    for (const std::int64_t axis : reduce->axes)
        axes.push_back(view->perm[static_cast<std::size_t>(axis)]);
    std::sort(axes.begin(), axes.end());
    // The remaining axes in their new order, counted without the reduced ones.
    Ints perm;
    for (std::size_t i = 0; i < view->perm.size(); ++i) {
        if (std::binary_search(reduce->axes.begin(), reduce->axes.end(),
                               static_cast<std::int64_t>(i)))
            continue;
        const std::int64_t axis = view->perm[i];
        const auto before = std::lower_bound(axes.begin(), axes.end(), axis) - axes.begin();
        perm.push_back(axis - before);
    }
    return permute(r.var(r.graph.add(op::Reduce{reduce->op, view->x, axes})), perm);
}

}  // namespace kn::optimizer
