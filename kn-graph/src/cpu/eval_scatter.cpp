#include <cmath>
#include <cstring>

#include "cpu/lanes.h"

namespace kn::cpu {

namespace {

/// The operand's values in memory that may be written.
Array writable_copy(EvalContext& ctx, Value x) {
    if (auto own = ctx.take(x); own && own->is_contiguous()) return *own;
    return copy(ctx.operand(x), ctx);
}

template <class T>
T combine(ScatterReduction reduction, T old_value, T update) {
    if constexpr (std::is_same_v<T, bool>) {
        return reduction == ScatterReduction::Max ? old_value || update : old_value && update;
    } else {
        using C = Compute<T>;
        const C a = widen(old_value);
        const C b = widen(update);
        if constexpr (std::is_floating_point_v<C>)
            if (std::isnan(a) || std::isnan(b)) return narrow<T>(a + b);
        switch (reduction) {
            case ScatterReduction::Max: return a < b ? update : old_value;
            case ScatterReduction::Min: return b < a ? update : old_value;
            default: break;
        }
        const bool add = reduction == ScatterReduction::Add;
        if constexpr (std::is_integral_v<T>) {
            // In 64 unsigned bits, so that every integer type wraps.
            const auto x = static_cast<std::uint64_t>(a);
            const auto y = static_cast<std::uint64_t>(b);
            return static_cast<T>(add ? x + y : x * y);
        } else {
            return narrow<T>(add ? a + b : a * b);
        }
    }
}

/// Combines `inner` elements of `updates`, from element `from` on, into `result`, from element `to`
/// on.
void scatter_block(ScatterReduction reduction, Array& result, std::int64_t to, const Array& updates,
                   std::int64_t from, std::int64_t inner) {
    const std::size_t size = size_of(result.dtype());
    if (reduction == ScatterReduction::None) {
        std::memcpy(result.mutable_bytes() + to * size, updates.bytes() + from * size,
                    static_cast<std::size_t>(inner) * size);
        return;
    }
    dispatch(result.dtype(), [&]<class T>() {
        T* out = result.mutable_data<T>() + to;
        const T* in = updates.data<T>() + from;
        for (std::int64_t i = 0; i < inner; ++i) out[i] = combine(reduction, out[i], in[i]);
    });
}

}  // namespace

Arrays eval(const op::ScatterElements& op, EvalContext& ctx) {
    const Ints indices = read_indices(ctx, op.indices);
    const Ints shape = ctx.operand(op.indices).shape();
    const Array updates = ctx.contiguous(op.updates);
    Array result = writable_copy(ctx, op.x);
    const Ints strides = row_major_strides(result.shape());
    const auto axis = static_cast<std::size_t>(op.axis);
    for (std::int64_t i = 0; i < updates.size(); ++i) {
        const std::int64_t index =
            checked_index(ctx, indices[static_cast<std::size_t>(i)], result.dim(axis), axis);
        std::int64_t to = index * strides[axis];
        std::int64_t rest = i;
        for (std::size_t a = shape.size(); a-- > 0; rest /= shape[a])
            if (a != axis) to += rest % shape[a] * strides[a];
        scatter_block(op.reduction, result, to, updates, i, 1);
    }
    return {result};
}

Arrays eval(const op::ScatterNd& op, EvalContext& ctx) {
    const Ints index_shape = ctx.operand(op.indices).shape();
    const auto length = static_cast<std::size_t>(index_shape.back());
    const Ints coordinates = read_indices(ctx, op.indices);
    const Array updates = ctx.contiguous(op.updates);
    Array result = writable_copy(ctx, op.x);
    const Ints offsets = coordinate_offsets(ctx, coordinates, length, result.shape(), 0);
    const std::int64_t inner = product(result.shape(), length, result.rank());
    const std::int64_t count = product(index_shape, 0, index_shape.size() - 1);
    for (std::int64_t i = 0; i < count; ++i) {
        const std::int64_t offset = length == 0 ? 0 : offsets[static_cast<std::size_t>(i)];
        scatter_block(op.reduction, result, offset * inner, updates, i * inner, inner);
    }
    return {result};
}

}  // namespace kn::cpu
