#include "planner/placement.h"

#include <algorithm>
#include <numeric>

#include "lower/lower.h"
#include "planner/merge_products.h"
#include "planner/tf32_operands.h"
#include "planner/views.h"

namespace kn::cuda {

namespace {

TensorRef dense_ref(std::size_t buffer, DType dtype, Ints shape, const AxisOrder& order) {
    TensorRef ref;
    ref.buffer = static_cast<std::uint32_t>(buffer);
    ref.dtype = dtype;
    ref.strides = strides_for(shape, order);
    ref.shape = std::move(shape);
    return ref;
}

std::size_t bytes_of(DType dtype, const Ints& shape) {
    return static_cast<std::size_t>(checked_size(shape)) * size_of(dtype);
}

std::size_t add_buffer(Plan& plan, Buffer::Kind kind, std::size_t bytes, std::size_t index,
                       std::string name) {
    Buffer buffer;
    buffer.kind = kind;
    buffer.bytes = bytes;
    buffer.index = index;
    buffer.name = std::move(name);
    plan.buffers.push_back(std::move(buffer));
    return plan.buffers.size() - 1;
}

}  // namespace

AxisOrder row_major(std::size_t rank) {
    AxisOrder order(rank);
    std::iota(order.begin(), order.end(), 0);
    return order;
}

Ints strides_for(const Ints& shape, const AxisOrder& order) {
    KN_CHECK(shape.size() == order.size());
    Ints strides(shape.size());
    std::int64_t stride = 1;
    for (std::size_t i = order.size(); i-- > 0;) {
        const auto axis = static_cast<std::size_t>(order[i]);
        strides[axis] = stride;
        stride *= shape[axis];
    }
    return strides;
}

Placement::Placement(Plan& plan, const Grouping& grouping,
                     const std::unordered_map<std::uint32_t, AxisOrder>& layouts,
                     WeightChecks& weights)
    : plan_(plan), weights_(weights), tf32_operands_(tf32_operands(grouping)) {
    const Graph& g = graph();
    for (std::size_t i = 0; i < g.inputs().size(); i++) {
        const NamedValue& input = g.inputs()[i];
        const Ints shape = g.shape(input.value).to_ints();
        const DType dtype = g.dtype(input.value);
        const std::size_t buffer =
            add_buffer(plan_, Buffer::Kind::Input, bytes_of(dtype, shape), i, input.name);
        stored_[input.value.index] = dense_ref(buffer, dtype, shape, row_major(shape.size()));
        plan_.inputs.push_back(stored_[input.value.index]);
    }
    for (const Value& value : grouping.live())
        if (!constant_parts(g, value).empty())
            stored_[value.index] =
                constant(value, g.dtype(value), row_major(g.shape(value).rank()));
    place_outputs(grouping);
    for (const Value& value : grouping.live())
        if (grouping.is_input_part(value))
            stored_[value.index] = *view_of(g, value, stored(*viewed(g, value)));
    for (const Value& value : grouping.live())
        if (grouping.is_stored(value)) {
            if (stored_.count(value.index)) continue;
            const Ints shape = g.shape(value).to_ints();
            const auto layout = layouts.find(value.index);
            const AxisOrder order =
                layout == layouts.end() ? row_major(shape.size()) : layout->second;
            const std::size_t buffer =
                add_buffer(plan_, Buffer::Kind::Arena, bytes_of(g.dtype(value), shape), 0,
                           "%" + std::to_string(value.index));
            TensorRef& tensor = stored_[value.index];
            tensor = dense_ref(buffer, g.dtype(value), shape, order);
            tensor.rounded_to_tf32 = tf32_operands_.count(value.index) > 0;
        }
}

// An output that only renames the elements of a value which a group computes is written in place by
// that group.
void Placement::place_outputs(const Grouping& grouping) {
    const Graph& g = graph();
    for (std::size_t i = 0; i < g.outputs().size(); i++) {
        const NamedValue& output = g.outputs()[i];
        const Ints shape = g.shape(output.value).to_ints();
        const DType dtype = g.dtype(output.value);
        const std::size_t buffer =
            add_buffer(plan_, Buffer::Kind::Output, bytes_of(dtype, shape), i, output.name);
        plan_.outputs.push_back(dense_ref(buffer, dtype, shape, row_major(shape.size())));
    }
    for (const auto& [output, place] : grouping.output_places()) {
        TensorRef ref = place;
        ref.buffer = plan_.outputs[place.buffer].buffer;
        Value value = output;
        while (!grouping.is_stored(value)) {
            const auto inner = unview_of(g, value, ref);
            KN_CHECK(inner);
            ref = *inner;
            value = *viewed(g, value);
        }
        KN_CHECK(!stored_.count(value.index),
                 "%" + std::to_string(output.index) + " has no step of its own");
        stored_[value.index] = ref;
    }
}

const TensorRef& Placement::stored(Value value) const {
    const auto it = stored_.find(value.index);
    KN_CHECK(it != stored_.end(), "%" + std::to_string(value.index) + " is not stored");
    return it->second;
}

bool Placement::is_stored(Value value) const { return stored_.count(value.index) != 0; }

std::optional<TensorRef> Placement::view(Value value) const {
    if (is_stored(value)) return stored(value);
    const auto x = viewed(graph(), value);
    if (!x) return std::nullopt;
    const auto inner = view(*x);
    if (!inner) return std::nullopt;
    return view_of(graph(), value, *inner);
}

TensorRef Placement::constant(Value value, DType dtype, const AxisOrder& order, Tf32Part part) {
    if (const auto* permute = graph().get_if<op::Permute>(value)) {
        AxisOrder inner = order;
        for (auto& axis : inner) axis = permute->perm[static_cast<std::size_t>(axis)];
        const TensorRef x = constant(permute->x, dtype, inner, part);
        TensorRef result = x;
        for (std::size_t i = 0; i < order.size(); i++) {
            const auto axis = static_cast<std::size_t>(permute->perm[i]);
            result.shape[i] = x.shape[axis];
            result.strides[i] = x.strides[axis];
        }
        return result;
    }
    PlanConstant wanted{constant_parts(graph(), value), 0, dtype, order, part};
    KN_CHECK(!wanted.parts.empty(), "%" + std::to_string(value.index) + " is no constant");
    if (const auto* concat = graph().get_if<op::Concat>(value)) wanted.axis = concat->axis;
    const std::string& name = wanted.parts[0]->name;
    return place_constant(wanted, (part == Tf32Part::Low ? "low part of " : "") +
                                      (name.empty() ? "%" + std::to_string(value.index) : name));
}

TensorRef Placement::winograd(Value weight) {
    AxisOrder order{0, 2, 3, 1};
    Value source = weight;
    if (const auto* permute = graph().get_if<op::Permute>(weight)) {
        for (auto& axis : order) axis = permute->perm[static_cast<std::size_t>(axis)];
        source = permute->x;
    }
    PlanConstant wanted{constant_parts(graph(), source), 0, DType::F16, order};
    KN_CHECK(!wanted.parts.empty(), "%" + std::to_string(weight.index) + " is no weight");
    if (const auto* concat = graph().get_if<op::Concat>(source)) wanted.axis = concat->axis;
    wanted.winograd = true;
    const std::string& name = wanted.parts[0]->name;
    return place_constant(wanted,
                          "filtered " + (name.empty() ? "%" + std::to_string(weight.index) : name));
}

TensorRef Placement::folded(Value weight, FoldedRows rows) {
    rows.axis = 0;
    Value source = weight;
    if (const auto* permute = graph().get_if<op::Permute>(weight)) {
        rows.axis = permute->perm[0];
        source = permute->x;
    }
    PlanConstant wanted{constant_parts(graph(), source),
                        0,
                        rows.dtype,
                        {1 - rows.axis, rows.axis},
                        Tf32Part::None,
                        rows};
    KN_CHECK(!wanted.parts.empty(), "%" + std::to_string(weight.index) + " is no weight");
    if (const auto* concat = graph().get_if<op::Concat>(source)) wanted.axis = concat->axis;
    if (rows.sums) {
        wanted.dtype = DType::F32;
        wanted.order = {0, 1};
    }
    const std::string& name = wanted.parts[0]->name;
    return place_constant(wanted, (rows.sums ? "sums of " : "normalised ") +
                                      (name.empty() ? "%" + std::to_string(weight.index) : name));
}

TensorRef Placement::place_constant(const PlanConstant& wanted, const std::string& name) {
    const Ints shape = wanted.shape();
    auto it = std::ranges::find(plan_.constants, wanted);
    std::size_t buffer = 0;
    if (it == plan_.constants.end()) {
        plan_.constants.push_back(wanted);
        buffer = add_buffer(plan_, Buffer::Kind::Constant, bytes_of(wanted.dtype, shape),
                            plan_.constants.size() - 1, name);
    } else {
        const auto index = static_cast<std::size_t>(it - plan_.constants.begin());
        const auto found = std::ranges::find_if(plan_.buffers, [&](const Buffer& b) {
            return b.kind == Buffer::Kind::Constant && b.index == index;
        });
        buffer = static_cast<std::size_t>(found - plan_.buffers.begin());
    }
    return dense_ref(buffer, wanted.dtype, shape,
                     wanted.winograd ? row_major(shape.size()) : wanted.order);
}

TensorRef Placement::scratch(DType dtype, Ints shape, const std::string& name, AxisOrder order) {
    const std::size_t buffer =
        add_buffer(plan_, Buffer::Kind::Arena, bytes_of(dtype, shape), 0, name);
    if (order.empty()) order = row_major(shape.size());
    return dense_ref(buffer, dtype, std::move(shape), order);
}

void Placement::want_parts(Value value, WantedParts wanted) {
    const auto [it, is_first] = wanted_parts_.try_emplace(value.index, wanted);
    WantedParts& all = it->second;
    all.image_rows = std::gcd(all.image_rows, wanted.image_rows);
    all.group_columns = std::gcd(all.group_columns, wanted.group_columns);
}

std::optional<WantedParts> Placement::wanted_parts(Value value) const {
    const auto it = wanted_parts_.find(value.index);
    return it == wanted_parts_.end() ? std::nullopt : std::optional(it->second);
}

std::optional<MatrixParts> Placement::parts(Value value) const {
    const auto it = parts_.find(value.index);
    return it == parts_.end() ? std::nullopt : std::optional(it->second);
}

TensorRef Placement::copy_of(Value value, const AxisOrder& order) {
    if (!constant_parts(graph(), value).empty())
        return constant(value, graph().dtype(value), order);
    if (const auto it = copies_.find({value.index, order}); it != copies_.end()) return it->second;
    TensorRef copy = scratch(graph().dtype(value), graph().shape(value).to_ints(),
                             "copy of %" + std::to_string(value.index), order);
    copy.rounded_to_tf32 = tf32_operands_.count(value.index) > 0;
    copies_[{value.index, order}] = copy;
    if (const auto from = view(value)) {
        lower_copy(*this, *from, copy, "a library step wants another layout");
        return copy;
    }
    // Not in memory yet: its own first place.
    stored_[value.index] = copy;
    Group group;
    group.anchor = value;
    group.outputs = {value};
    group.rule = "operand";
    group.reason = "a library step reads it";
    lower_pointwise(*this, group);
    return copy;
}

}  // namespace kn::cuda
