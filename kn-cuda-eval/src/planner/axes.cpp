#include "planner/axes.h"

#include <algorithm>
#include <set>

#include "planner/views.h"

namespace kn::cuda {

namespace {

constexpr std::int64_t none = -1;

// From each axis of `value` to an axis of the group's output, the same for an operand of it.
Ints axes_of_operand(const Graph& graph, Value value, Value operand, const Ints& axes) {
    const std::size_t rank = graph.shape(operand).rank();
    if (const auto* permute = graph.get_if<op::Permute>(value)) {
        Ints out(rank, none);
        for (std::size_t i = 0; i < axes.size(); i++)
            out[static_cast<std::size_t>(permute->perm[i])] = axes[i];
        return out;
    }
    if (graph.get_if<op::Window>(value)) return Ints(axes.begin(), axes.begin() + rank);
    if (const auto* reduce = graph.get_if<op::Reduce>(value)) {
        Ints out(rank, none);
        for (std::size_t i = 0, j = 0; i < rank; i++)
            if (std::ranges::find(reduce->axes, static_cast<std::int64_t>(i)) == reduce->axes.end())
                out[i] = axes[j++];
        return out;
    }
    if (graph.get_if<op::Reshape>(value)) {
        // Axes in front of and behind what is merged or split keep their place.
        const Shape from = graph.shape(operand), to = graph.shape(value);
        Ints out(rank, none);
        for (std::size_t i = 0; i < std::min(rank, axes.size()) && from[i] == to[i]; i++)
            out[i] = axes[i];
        for (std::size_t i = 1;
             i <= std::min(rank, axes.size()) && from[rank - i] == to[axes.size() - i]; i++)
            if (out[rank - i] == none) out[rank - i] = axes[axes.size() - i];
        return out;
    }
    return rank == axes.size() ? axes : Ints(rank, none);
}

// Axes that have more than one element are matched, each with another one.
std::optional<Ints> complete(const Ints& shape, const Ints& output_shape, Ints axes) {
    if (shape.size() != output_shape.size()) return std::nullopt;
    std::set<std::int64_t> used;
    for (std::size_t i = 0; i < axes.size(); i++) {
        if (axes[i] == none) continue;
        if (!used.insert(axes[i]).second) axes[i] = none;
    }
    for (std::size_t i = 0; i < axes.size(); i++) {
        if (axes[i] != none) continue;
        if (shape == output_shape && !used.count(static_cast<std::int64_t>(i))) {
            axes[i] = static_cast<std::int64_t>(i);
            used.insert(axes[i]);
        } else if (shape[i] == 1) {
            for (std::size_t j = 0; j < output_shape.size() && axes[i] == none; j++)
                if (used.insert(static_cast<std::int64_t>(j)).second)
                    axes[i] = static_cast<std::int64_t>(j);
        } else {
            return std::nullopt;
        }
    }
    return axes;
}

}  // namespace

std::vector<AxisLink> axis_links(const Grouping& grouping, const Group& group) {
    const Graph& graph = grouping.graph();
    std::vector<AxisLink> out;
    for (const Value& output : group.outputs) {
        const Ints output_shape = graph.shape(output).to_ints();
        std::set<std::uint32_t> seen;
        std::vector<std::pair<Value, Ints>> stack = {{output, row_major(output_shape.size())}};
        while (!stack.empty()) {
            const auto [value, axes] = std::move(stack.back());
            stack.pop_back();
            for (const Value& operand : inputs_of(graph[value].operation)) {
                if (!seen.insert(operand.index).second) continue;
                Ints next = axes_of_operand(graph, value, operand, axes);
                if (!grouping.is_stored(operand)) {
                    stack.emplace_back(operand, std::move(next));
                    continue;
                }
                const Ints shape = graph.shape(operand).to_ints();
                // What is broadcast does not decide a layout.
                if (2 * checked_size(shape) < checked_size(output_shape) &&
                    !graph.get_if<op::Resize>(value))
                    continue;
                if (auto map = complete(shape, output_shape, std::move(next)))
                    out.push_back({output, operand, std::move(*map)});
            }
        }
    }
    return out;
}

AxisOrder order_of_output(const AxisLink& link, const AxisOrder& read) {
    AxisOrder out;
    for (const std::int64_t axis : read)
        out.push_back(link.to_output[static_cast<std::size_t>(axis)]);
    return out;
}

AxisOrder order_of_read(const AxisLink& link, const AxisOrder& output) {
    AxisOrder out;
    for (const std::int64_t axis : output)
        out.push_back(std::ranges::find(link.to_output, axis) - link.to_output.begin());
    return out;
}

std::optional<std::pair<Value, AxisOrder>> order_at_root(const Grouping& grouping, Value value,
                                                         const AxisOrder& order) {
    const Graph& graph = grouping.graph();
    TensorRef ref;
    ref.shape = graph.shape(value).to_ints();
    ref.strides = strides_for(ref.shape, order);
    const auto order_now = [&]() -> std::optional<AxisOrder> {
        AxisOrder now = row_major(ref.shape.size());
        std::ranges::stable_sort(now, [&](std::int64_t a, std::int64_t b) {
            return ref.strides[static_cast<std::size_t>(a)] >
                   ref.strides[static_cast<std::size_t>(b)];
        });
        const Ints dense = strides_for(ref.shape, now);
        for (std::size_t i = 0; i < dense.size(); i++)
            if (ref.shape[i] != 1 && dense[i] != ref.strides[i]) return std::nullopt;
        return now;
    };
    while (!grouping.is_stored(value)) {
        const auto x = viewed(graph, value);
        if (!x) return std::nullopt;
        if (auto inner = unview_of(graph, value, ref)) {
            ref = std::move(*inner);
        } else if (graph.get_if<op::Slice>(value) || graph.get_if<op::Broadcast>(value)) {
            const auto now = order_now();
            if (!now) return std::nullopt;
            ref.shape = graph.shape(*x).to_ints();
            ref.strides = strides_for(ref.shape, *now);
        } else {
            return std::nullopt;
        }
        value = *x;
    }
    auto now = order_now();
    if (!now) return std::nullopt;
    return std::pair(value, std::move(*now));
}

}  // namespace kn::cuda
