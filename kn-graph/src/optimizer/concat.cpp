// Concat and what takes it apart again.
#include "optimizer/rules.h"

namespace kn::optimizer {

namespace {

std::vector<Var> vars(Rewriter& r, const std::vector<Value>& values) {
    std::vector<Var> result;
    for (const Value& value : values) result.push_back(r.var(value));
    return result;
}

std::optional<Value> flattened(Rewriter& r, const op::Concat& outer) {
    const auto axis = static_cast<std::size_t>(outer.axis);
    std::vector<Value> parts;
    for (const Value& input : outer.inputs) {
        const auto inner = r.get<op::Concat>(input);
        if (inner && inner->axis == outer.axis)
            parts.insert(parts.end(), inner->inputs.begin(), inner->inputs.end());
        else if (!(r.shape(input)[axis] == 0))
            parts.push_back(input);
    }
    if (parts == outer.inputs || parts.empty()) return std::nullopt;
    return concat(vars(r, parts), outer.axis);
}

/// Whether b begins where a ends, both being slices of one value that agree on all other axes.
bool continues(const op::Slice& a, const op::Slice& b, std::size_t axis) {
    if (!(a.x == b.x) || a.steps != b.steps || a.steps[axis] != 1) return false;
    for (std::size_t i = 0; i < a.steps.size(); ++i) {
        if (i == axis ? !(a.starts[i] + a.shape[i] == b.starts[i])
                      : !(a.starts[i] == b.starts[i] && a.shape[i] == b.shape[i]))
            return false;
    }
    return true;
}

std::optional<Value> joined(Rewriter& r, const op::Concat& outer) {
    const auto axis = static_cast<std::size_t>(outer.axis);
    std::vector<Value> parts;
    std::optional<op::Slice> last;
    for (const Value& input : outer.inputs) {
        const auto slice = r.get<op::Slice>(input);
        if (last && slice && continues(*last, *slice, axis)) {
            last->shape[axis] += slice->shape[axis];
            parts.back() = r.graph.add(*last);
            continue;
        }
        last = slice;
        parts.push_back(input);
    }
    if (parts.size() == outer.inputs.size()) return std::nullopt;
    return concat(vars(r, parts), outer.axis);
}

std::optional<Value> part_of(Rewriter& r, const op::Slice& outer) {
    const auto inner = r.get<op::Concat>(outer.x);
    if (!inner) return std::nullopt;
    const auto axis = static_cast<std::size_t>(inner->axis);
    if (outer.steps[axis] != 1) return std::nullopt;
    Dim offset = 0;
    for (const Value& part : inner->inputs) {
        const Dim end = offset + r.shape(part)[axis];
        const Dim start = outer.starts[axis] - offset;
        if (provably_ge(start, 0) && provably_ge(end, outer.starts[axis] + outer.shape[axis])) {
            op::Slice slice = outer;
            slice.x = part;
            slice.starts[axis] = start;
            return r.graph.add(std::move(slice));
        }
        offset = end;
    }
    return std::nullopt;
}

}  // namespace

std::optional<Value> concat_parts(Rewriter& r, Value v) {
    if (const auto slice = r.get<op::Slice>(v)) return part_of(r, *slice);
    const auto outer = r.get<op::Concat>(v);
    if (!outer) return std::nullopt;
    if (const auto flat = flattened(r, *outer)) return flat;
    return joined(r, *outer);
}

}  // namespace kn::optimizer
