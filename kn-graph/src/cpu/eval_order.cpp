// Running sums and the largest elements.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "cpu/lanes.h"

namespace kn::cpu {

namespace {

/// Sums and products of integers wrap, so they are made in 64 unsigned bits.
template <class T>
using Accumulator = std::conditional_t<std::is_integral_v<T>, std::uint64_t, Compute<T>>;

template <class T>
T from_accumulator(Accumulator<T> value) {
    if constexpr (std::is_integral_v<T>)
        return static_cast<T>(value);
    else
        return narrow<T>(value);
}

template <class T>
void accumulate_lanes(const op::Cumulative& op, const Lanes& lanes, const T* x, T* out) {
    const bool sum = op.op == ReduceOp::Sum;
    std::vector<Accumulator<T>> running(static_cast<std::size_t>(lanes.inner),
                                        static_cast<Accumulator<T>>(sum ? 0 : 1));
    for (std::int64_t step = 0; step < lanes.length; ++step) {
        const std::int64_t row = (op.reverse ? lanes.length - 1 - step : step) * lanes.inner;
        for (std::int64_t k = 0; k < lanes.inner; ++k) {
            auto& value = running[static_cast<std::size_t>(k)];
            if (op.exclusive) out[row + k] = from_accumulator<T>(value);
            const auto element = static_cast<Accumulator<T>>(widen(x[row + k]));
            value = sum ? value + element : value * element;
            if (!op.exclusive) out[row + k] = from_accumulator<T>(value);
        }
    }
}

/// Total order of numbers in which NaN is above all.
template <class C>
bool below(C a, C b) {
    if constexpr (std::is_floating_point_v<C>) {
        if (std::isnan(a)) return false;
        if (std::isnan(b)) return true;
    }
    return a < b;
}

}  // namespace

Arrays eval(const op::Cumulative& op, EvalContext& ctx) {
    const Array x = ctx.contiguous(op.x);
    Array result = ctx.result();
    if (result.size() == 0) return {result};
    const Lanes lanes = lanes_of(x.shape(), op.axis);
    const std::int64_t block = lanes.length * lanes.inner;
    dispatch(x.dtype(), [&]<class T>() {
        if constexpr (!std::is_same_v<T, bool>) {
            const T* in = x.data<T>();
            T* out = result.mutable_data<T>();
            ctx.parallel(lanes.outer, static_cast<double>(block),
                         [&](std::int64_t begin, std::int64_t end) {
                             for (std::int64_t o = begin; o < end; ++o)
                                 accumulate_lanes(op, lanes, in + o * block, out + o * block);
                         });
        }
    });
    return {result};
}

Arrays eval(const op::TopK& op, EvalContext& ctx) {
    const Array x = ctx.contiguous(op.x);
    Array values = ctx.result(0);
    Array indices = ctx.result(1);
    if (values.size() == 0) return {values, indices};
    const Lanes lanes = lanes_of(x.shape(), op.axis);
    const std::int64_t k = values.dim(static_cast<std::size_t>(op.axis));
    dispatch(x.dtype(), [&]<class T>() {
        const T* in = x.data<T>();
        T* out = values.mutable_data<T>();
        auto* positions = indices.mutable_data<std::int64_t>();
        const auto length = static_cast<std::size_t>(lanes.length);
        ctx.parallel(lanes.outer * lanes.inner, 20.0 * static_cast<double>(length),
                     [&](std::int64_t begin, std::int64_t end) {
                         std::vector<Compute<T>> lane(length);
                         Ints order(length);
                         const auto before = [&](std::int64_t i, std::int64_t j) {
                             const auto a = lane[static_cast<std::size_t>(i)];
                             const auto b = lane[static_cast<std::size_t>(j)];
                             if (op.largest ? below(b, a) : below(a, b)) return true;
                             if (op.largest ? below(a, b) : below(b, a)) return false;
                             return i < j;
                         };
                         for (std::int64_t l = begin; l < end; ++l) {
                             const std::int64_t o = l / lanes.inner;
                             const std::int64_t i = l % lanes.inner;
                             const T* from = in + o * lanes.length * lanes.inner + i;
                             for (std::size_t j = 0; j < length; ++j)
                                 lane[j] = widen(from[static_cast<std::int64_t>(j) * lanes.inner]);
                             std::iota(order.begin(), order.end(), 0);
                             std::partial_sort(order.begin(), order.begin() + k, order.end(),
                                               before);
                             for (std::int64_t j = 0; j < k; ++j) {
                                 const std::int64_t to = (o * k + j) * lanes.inner + i;
                                 const std::int64_t at = order[static_cast<std::size_t>(j)];
                                 out[to] = from[at * lanes.inner];
                                 positions[to] = at;
                             }
                         }
                     });
    });
    return {values, indices};
}

}  // namespace kn::cpu
