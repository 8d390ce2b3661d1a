// Views of views.
#include <algorithm>

#include "optimizer/rules.h"

namespace kn::optimizer {

std::optional<Value> no_op(Rewriter& r, Value v) {
    const Graph& g = r.graph;
    std::optional<Value> x;
    if (const auto* reshape = g.get_if<op::Reshape>(v)) {
        x = reshape->x;
    } else if (const auto* broadcast = g.get_if<op::Broadcast>(v)) {
        x = broadcast->x;
    } else if (const auto* permute = g.get_if<op::Permute>(v)) {
        if (std::is_sorted(permute->perm.begin(), permute->perm.end())) x = permute->x;
    } else if (const auto* cast = g.get_if<op::Cast>(v)) {
        x = cast->x;
    } else if (const auto* bit_cast = g.get_if<op::BitCast>(v)) {
        x = bit_cast->x;
    } else if (const auto* slice = g.get_if<op::Slice>(v)) {
        const auto zero = [](const Dim& start) { return start == 0; };
        const auto one = [](std::int64_t step) { return step == 1; };
        if (std::all_of(slice->starts.begin(), slice->starts.end(), zero) &&
            std::all_of(slice->steps.begin(), slice->steps.end(), one))
            x = slice->x;
    } else if (const auto* concat = g.get_if<op::Concat>(v)) {
        if (concat->inputs.size() == 1) x = concat->inputs[0];
    } else if (const auto* pad = g.get_if<op::Pad>(v)) {
        x = pad->x;  // of the same shape: nothing is added
    } else if (const auto* reduce = g.get_if<op::Reduce>(v)) {
        if (reduce->axes.empty()) x = reduce->x;
    }
    if (!x || g.type(*x) != g.type(v)) return std::nullopt;
    return x;
}

namespace {

/// Whether the order of the axes that are not of size 1 stays.
bool keeps_order(const Shape& shape, const Ints& perm) {
    std::int64_t last = -1;
    for (const std::int64_t axis : perm) {
        if (shape[static_cast<std::size_t>(axis)] == 1) continue;
        if (axis < last) return false;
        last = axis;
    }
    return true;
}

}  // namespace

std::optional<Value> reshape_chain(Rewriter& r, Value v) {
    if (const auto permute = r.get<op::Permute>(v)) {
        if (!keeps_order(r.shape(permute->x), permute->perm)) return std::nullopt;
        return r.graph.add(op::Reshape{permute->x, r.shape(v)});
    }
    const auto outer = r.get<op::Reshape>(v);
    if (!outer) return std::nullopt;
    const auto inner = r.get<op::Reshape>(outer->x);
    return inner ? std::optional<Value>(reshape(r.var(inner->x), outer->shape)) : std::nullopt;
}

std::optional<Value> permute_chain(Rewriter& r, Value v) {
    const auto outer = r.get<op::Permute>(v);
    if (!outer) return std::nullopt;
    const auto inner = r.get<op::Permute>(outer->x);
    if (!inner) return std::nullopt;
    Ints perm;
    for (const std::int64_t axis : outer->perm)
        perm.push_back(inner->perm[static_cast<std::size_t>(axis)]);
    return permute(r.var(inner->x), perm);
}

namespace {

/// Broadcast of a Reshape instead of Reshape of a Broadcast: possible where every group of axes
/// that is merged or split is wholly broadcast or not at all.
std::optional<Value> reshape_of_broadcast(Rewriter& r, const op::Reshape& outer,
                                          const op::Broadcast& inner) {
    const auto groups = axis_groups(inner.shape, outer.shape);
    if (!groups) return std::nullopt;
    const Shape small = r.shape(inner.x);
    Shape target = outer.shape;
    for (const AxisGroup& group : *groups) {
        bool all_one = true;
        bool all_same = true;
        for (std::size_t i = group.from_begin; i < group.from_end; ++i) {
            all_one &= small[i] == 1;
            all_same &= small[i] == inner.shape[i];
        }
        if (all_same) continue;
        if (!all_one) return std::nullopt;
        for (std::size_t j = group.to_begin; j < group.to_end; ++j) target[j] = 1;
    }
    return broadcast_to(reshape(r.var(inner.x), target), outer.shape);
}

}  // namespace

std::optional<Value> broadcast_chain(Rewriter& r, Value v) {
    if (const auto outer = r.get<op::Broadcast>(v)) {
        const auto inner = r.get<op::Broadcast>(outer->x);
        return inner ? std::optional<Value>(broadcast_to(r.var(inner->x), outer->shape))
                     : std::nullopt;
    }
    if (const auto outer = r.get<op::Reshape>(v)) {
        const auto inner = r.get<op::Broadcast>(outer->x);
        return inner ? reshape_of_broadcast(r, *outer, *inner) : std::nullopt;
    }
    if (const auto outer = r.get<op::Permute>(v)) {
        const auto inner = r.get<op::Broadcast>(outer->x);
        if (!inner) return std::nullopt;
        const Shape shape = r.shape(v);
        return broadcast_to(permute(r.var(inner->x), outer->perm), shape);
    }
    if (const auto outer = r.get<op::Slice>(v)) {
        const auto inner = r.get<op::Broadcast>(outer->x);
        if (!inner) return std::nullopt;
        op::Slice part{inner->x, outer->starts, outer->steps, outer->shape};
        const Shape small = r.shape(inner->x);
        bool any = false;
        for (std::size_t axis = 0; axis < small.rank(); ++axis) {
            // An empty slice would have to read element 0 of nothing.
            if (!(small[axis] == 1) || inner->shape[axis] == 1 ||
                !provably_ge(outer->shape[axis], 1))
                continue;
            part.starts[axis] = 0;
            part.steps[axis] = 1;
            part.shape[axis] = 1;
            any = true;
        }
        if (!any) return std::nullopt;
        return broadcast_to(r.var(r.graph.add(std::move(part))), outer->shape);
    }
    return std::nullopt;
}

std::optional<Value> slice_chain(Rewriter& r, Value v) {
    const auto outer = r.get<op::Slice>(v);
    if (!outer) return std::nullopt;
    const auto inner = r.get<op::Slice>(outer->x);
    if (!inner) return std::nullopt;
    op::Slice merged{inner->x, {}, {}, outer->shape};
    for (std::size_t axis = 0; axis < outer->steps.size(); ++axis) {
        merged.starts.push_back(inner->starts[axis] + outer->starts[axis] * inner->steps[axis]);
        merged.steps.push_back(inner->steps[axis] * outer->steps[axis]);
    }
    return r.graph.add(std::move(merged));
}

namespace {

/// Whether every value of `from` is a value of `to`.
bool holds(DType to, DType from) {
    if (to == from || from == DType::Bool) return true;
    const auto bits = [](DType t) { return 8 * static_cast<int>(size_of(t)); };
    if (is_float(from)) {
        if (!is_float(to)) return false;
        return bits(to) > bits(from);  // f16 and bf16 hold each other's values neither way
    }
    if (is_float(to)) {
        const int mantissa = to == DType::F64   ? 53
                             : to == DType::F32 ? 24
                             : to == DType::F16 ? 11
                                                : 8;
        return bits(from) - (is_signed_int(from) ? 1 : 0) <= mantissa;
    }
    if (to == DType::Bool) return false;
    if (is_signed_int(from) && is_unsigned_int(to)) return false;
    return bits(to) > bits(from);
}

}  // namespace

std::optional<Value> cast_chain(Rewriter& r, Value v) {
    const auto outer = r.get<op::Cast>(v);
    if (!outer) return std::nullopt;
    const auto inner = r.get<op::Cast>(outer->x);
    if (!inner || !holds(inner->dtype, r.dtype(inner->x))) return std::nullopt;
    return cast(r.var(inner->x), outer->dtype);
}

}  // namespace kn::optimizer
