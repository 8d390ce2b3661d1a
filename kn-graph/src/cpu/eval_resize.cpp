#include <cstring>

#include "cpu/lanes.h"
#include "ir/resize_taps.h"

namespace kn::cpu {

namespace {

struct Pass {
    std::size_t axis;
    ResizeTaps taps;
};

std::vector<Pass> passes_of(const op::Resize& op, EvalContext& ctx, const Ints& shape) {
    std::vector<Pass> passes;
    for (std::size_t j = 0; j < op.axes.size(); ++j) {
        const auto axis = static_cast<std::size_t>(op.axes[j]);
        const std::int64_t input = shape[axis];
        const std::int64_t output = ctx.eval(op.sizes[j]);
        if (input < 1)
            ctx.fail("axis " + std::to_string(axis) + " is empty and cannot be resized to " +
                     std::to_string(output));
        const double scale = op.scales[j] > 0
                                 ? op.scales[j]
                                 : static_cast<double>(output) / static_cast<double>(input);
        const bool crop = !op.roi.empty();
        ResizeTaps taps = resize_taps(op, {.input = input,
                                           .output = output,
                                           .scale = scale,
                                           .roi_start = crop ? op.roi[j] : 0,
                                           .roi_end = crop ? op.roi[op.axes.size() + j] : 1});
        if (!taps.identity) passes.push_back({axis, std::move(taps)});
    }
    return passes;
}

/// Calls row(o, j, r) for the rows r = o * outputs + j of a range: without a division for each,
/// since a row may be one element.
template <class Row>
void for_rows(std::int64_t begin, std::int64_t end, std::int64_t outputs, Row&& row) {
    std::int64_t o = begin / outputs;
    std::int64_t j = begin % outputs;
    for (std::int64_t r = begin; r < end; ++r) {
        row(o, static_cast<std::size_t>(j), r);
        if (++j == outputs) {
            j = 0;
            ++o;
        }
    }
}

/// out[o, j, :] = sum over t of weight[j, t] * in[o, position[j, t], :]
template <class C>
void interpolate(EvalContext& ctx, const ResizeTaps& taps, C extrapolation, const Lanes& lanes,
                 const C* in, C* out) {
    const auto outputs = static_cast<std::int64_t>(taps.outside.size());
    const std::vector<C> weights(taps.weights.begin(), taps.weights.end());
    const auto interpolate_row = [&](std::int64_t o, std::size_t j, std::int64_t r) {
        const C* from = in + o * lanes.length * lanes.inner;
        C* to = out + r * lanes.inner;
        std::fill_n(to, lanes.inner, taps.outside[j] ? extrapolation : C(0));
        if (taps.outside[j]) return;
        for (std::size_t t = j * taps.taps; t < (j + 1) * taps.taps; ++t) {
            const C weight = weights[t];
            // A neighbour that does not count must not bring in its NaN.
            if (weight == 0) continue;
            const C* row = from + taps.positions[t] * lanes.inner;
            for (std::int64_t k = 0; k < lanes.inner; ++k) to[k] += weight * row[k];
        }
    };
    const auto cost = static_cast<double>(lanes.inner) * static_cast<double>(taps.taps) + 2;
    ctx.parallel(lanes.outer * outputs, cost, [&](std::int64_t begin, std::int64_t end) {
        for_rows(begin, end, outputs, interpolate_row);
    });
}

/// The same for one tap of weight 1: copies.
template <class T>
void pick(EvalContext& ctx, const ResizeTaps& taps, T extrapolation, const Lanes& lanes,
          const T* in, T* out) {
    const auto outputs = static_cast<std::int64_t>(taps.outside.size());
    const auto pick_row = [&](std::int64_t o, std::size_t j, std::int64_t r) {
        const T* from = in + (o * lanes.length + taps.positions[j]) * lanes.inner;
        if (lanes.inner == 1)
            out[r] = taps.outside[j] ? extrapolation : *from;
        else if (taps.outside[j])
            std::fill_n(out + r * lanes.inner, lanes.inner, extrapolation);
        else
            std::copy_n(from, lanes.inner, out + r * lanes.inner);
    };
    ctx.parallel(
        lanes.outer * outputs, 0.3 * static_cast<double>(lanes.inner) + 2,
        [&](std::int64_t begin, std::int64_t end) { for_rows(begin, end, outputs, pick_row); });
}

/// `value` in the dtype, as a cast gives it.
template <class T>
T element_of(double value) {
    return Tensor::scalar<double>(value).cast(dtype_of<T>()).template data<T>()[0];
}

}  // namespace

Arrays eval(const op::Resize& op, EvalContext& ctx) {
    const Array x = ctx.contiguous(op.x);
    const std::vector<Pass> passes = passes_of(op, ctx, x.shape());
    if (passes.empty()) return {x};
    if (Array result = ctx.result(); result.size() == 0) return {result};

    if (op.mode == ResizeMode::Nearest) {
        Array current = x;
        for (const Pass& pass : passes) {
            const Lanes lanes = lanes_of(current.shape(), static_cast<std::int64_t>(pass.axis));
            Ints shape = current.shape();
            shape[pass.axis] = static_cast<std::int64_t>(pass.taps.outside.size());
            Array next = ctx.allocate(x.dtype(), shape);
            dispatch(x.dtype(), [&]<class T>() {
                pick(ctx, pass.taps, element_of<T>(op.extrapolation), lanes, current.data<T>(),
                     next.mutable_data<T>());
            });
            current = next;
        }
        return {current};
    }

    Array result = ctx.result();
    dispatch_float(x.dtype(), [&]<class T>() {
        using C = Compute<T>;
        // Half types are widened once, and rounded once at the end.
        Array current = x;
        if constexpr (is_half_type<T>) {
            current = ctx.allocate(DType::F32, x.shape());
            C* wide = current.mutable_data<C>();
            for (std::int64_t i = 0; i < x.size(); ++i) wide[i] = widen(x.data<T>()[i]);
        }
        for (const Pass& pass : passes) {
            const Lanes lanes = lanes_of(current.shape(), static_cast<std::int64_t>(pass.axis));
            Ints shape = current.shape();
            shape[pass.axis] = static_cast<std::int64_t>(pass.taps.outside.size());
            Array next = ctx.allocate(dtype_of<C>(), shape);
            interpolate<C>(ctx, pass.taps, static_cast<C>(op.extrapolation), lanes,
                           current.data<C>(), next.mutable_data<C>());
            current = next;
        }
        if constexpr (is_half_type<T>) {
            T* out = result.mutable_data<T>();
            for (std::int64_t i = 0; i < result.size(); ++i)
                out[i] = narrow<T>(current.data<C>()[i]);
        } else {
            result = current;
        }
    });
    return {result};
}

}  // namespace kn::cpu
