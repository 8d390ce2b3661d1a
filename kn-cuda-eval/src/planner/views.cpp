#include "planner/views.h"

#include <algorithm>

namespace kn::cuda {

std::optional<Ints> reshape_strides(const Ints& shape, const Ints& strides, const Ints& to) {
    Ints out(to.size(), 0);
    if (std::ranges::find(to, 0) != to.end()) return out;
    // Axes of extent 1 have no place in memory.
    Ints old_dims, old_strides;
    for (std::size_t i = 0; i < shape.size(); i++) {
        if (shape[i] == 1) continue;
        old_dims.push_back(shape[i]);
        old_strides.push_back(strides[i]);
    }
    std::size_t i = 0, j = 0;
    while (i < old_dims.size()) {
        // The shortest runs of axes of both shapes that have the same number of elements.
        std::size_t i_end = i + 1, j_end = j;
        std::int64_t old_size = old_dims[i], new_size = 1;
        while (new_size != old_size) {
            if (new_size < old_size)
                new_size *= to[j_end++];
            else
                old_size *= old_dims[i_end++];
        }
        for (std::size_t k = i; k + 1 < i_end; k++)
            if (old_strides[k] != old_strides[k + 1] * old_dims[k + 1]) return std::nullopt;
        std::int64_t stride = old_strides[i_end - 1];
        for (std::size_t k = j_end; k-- > j;) {
            out[k] = stride;
            stride *= to[k];
        }
        i = i_end;
        j = j_end;
    }
    return out;
}

std::optional<Value> viewed(const Graph& graph, Value value) {
    if (const auto* o = graph.get_if<op::Reshape>(value)) return o->x;
    if (const auto* o = graph.get_if<op::Permute>(value)) return o->x;
    if (const auto* o = graph.get_if<op::Broadcast>(value)) return o->x;
    if (const auto* o = graph.get_if<op::Slice>(value)) return o->x;
    if (const auto* o = graph.get_if<op::Window>(value)) return o->x;
    if (const auto* o = graph.get_if<op::BitCast>(value)) return o->x;
    return std::nullopt;
}

std::optional<TensorRef> view_of(const Graph& graph, Value value, const TensorRef& x) {
    TensorRef y = x;
    y.shape = graph.shape(value).to_ints();
    y.dtype = graph.dtype(value);
    if (graph.get_if<op::BitCast>(value)) return y;
    if (graph.get_if<op::Reshape>(value)) {
        auto strides = reshape_strides(x.shape, x.strides, y.shape);
        if (!strides) return std::nullopt;
        y.strides = std::move(*strides);
        return y;
    }
    if (const auto* permute = graph.get_if<op::Permute>(value)) {
        for (std::size_t i = 0; i < y.strides.size(); i++)
            y.strides[i] = x.strides[static_cast<std::size_t>(permute->perm[i])];
        return y;
    }
    if (graph.get_if<op::Broadcast>(value)) {
        for (std::size_t i = 0; i < y.strides.size(); i++)
            if (x.shape[i] != y.shape[i]) y.strides[i] = 0;
        return y;
    }
    if (const auto* slice = graph.get_if<op::Slice>(value)) {
        const bool empty = std::ranges::find(y.shape, 0) != y.shape.end();
        for (std::size_t i = 0; i < y.strides.size(); i++) {
            if (!empty) y.offset += slice->starts[i].value() * x.strides[i];
            y.strides[i] = x.strides[i] * slice->steps[i];
        }
        return y;
    }
    if (const auto* window = graph.get_if<op::Window>(value)) {
        y.strides.resize(y.shape.size());
        for (std::size_t j = 0; j < window->axes.size(); j++) {
            const auto axis = static_cast<std::size_t>(window->axes[j]);
            y.strides[x.shape.size() + j] = x.strides[axis] * window->dilations[j];
            y.strides[axis] = x.strides[axis] * window->strides[j];
        }
        return y;
    }
    return std::nullopt;
}

std::optional<TensorRef> unview_of(const Graph& graph, Value value, const TensorRef& y) {
    const auto x_value = viewed(graph, value);
    if (!x_value) return std::nullopt;
    TensorRef x = y;
    x.shape = graph.shape(*x_value).to_ints();
    if (graph.get_if<op::Reshape>(value)) {
        auto strides = reshape_strides(y.shape, y.strides, x.shape);
        if (!strides) return std::nullopt;
        x.strides = std::move(*strides);
        return x;
    }
    if (const auto* permute = graph.get_if<op::Permute>(value)) {
        for (std::size_t i = 0; i < y.strides.size(); i++)
            x.strides[static_cast<std::size_t>(permute->perm[i])] = y.strides[i];
        return x;
    }
    return std::nullopt;
}

}  // namespace kn::cuda
