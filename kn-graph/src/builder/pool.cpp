#include <limits>

#include "builder/common.h"

namespace kn {

namespace {

/// Trailing axes of a tensor of `rank` dims.
Ints last_axes(std::size_t rank, std::size_t count) {
    if (count > rank)
        throw GraphError(fmt::format("{} pooled axes of a tensor of rank {}", count, rank));
    Ints axes;
    for (std::size_t i = rank - count; i < rank; ++i) axes.push_back(static_cast<std::int64_t>(i));
    return axes;
}

/// x padded along its trailing axes.
Var padded(Var x, std::size_t spatial, const std::vector<Dim>& pads, double value) {
    if (pads.empty()) return x;
    if (pads.size() != 2 * spatial)
        throw GraphError(fmt::format("pooling over {} axes: {} pads", spatial, pads.size()));
    std::vector<Dim> before(x.rank(), Dim(0));
    std::vector<Dim> after(x.rank(), Dim(0));
    for (std::size_t j = 0; j < spatial; ++j) {
        before[x.rank() - spatial + j] = pads[j];
        after[x.rank() - spatial + j] = pads[spatial + j];
    }
    return pad(x, before, after, value);
}

/// A reduction of each window of x.
Var pooled(ReduceOp op, Var x, const std::vector<Dim>& kernel, const PoolOptions& options,
           double pad_value) {
    const std::size_t spatial = kernel.size();
    const Ints axes = last_axes(x.rank(), spatial);
    const Var windows = window(padded(x, spatial, options.pads, pad_value), axes, kernel,
                               options.strides, options.dilations);
    return reduce(op, windows, last_axes(windows.rank(), spatial));
}

}  // namespace

Var window(Var x, const Ints& axes, const std::vector<Dim>& sizes, const Ints& strides,
           const Ints& dilations) {
    const std::size_t count = axes.size();
    if (sizes.size() != count || (!strides.empty() && strides.size() != count) ||
        (!dilations.empty() && dilations.size() != count))
        throw GraphError(fmt::format("window: {} axes, {} sizes, {} strides, {} dilations", count,
                                     sizes.size(), strides.size(), dilations.size()));
    op::Window op{x, {}, sizes, strides, dilations};
    for (const std::int64_t axis : axes)
        op.axes.push_back(static_cast<std::int64_t>(normalize_axis(axis, x.rank())));
    op.strides.resize(count, 1);
    op.dilations.resize(count, 1);
    return builder::add(x, std::move(op));
}

Var max_pool(Var x, const std::vector<Dim>& kernel, const PoolOptions& options) {
    // The lowest value of x's dtype: what -inf saturates to.
    return pooled(ReduceOp::Max, x, kernel, options, -std::numeric_limits<double>::infinity());
}

Var average_pool(Var x, const std::vector<Dim>& kernel, const PoolOptions& options,
                 bool count_pads) {
    bool any_pad = false;
    for (const Dim& pad : options.pads) any_pad |= !(pad == 0);
    if (count_pads || !any_pad) return pooled(ReduceOp::Mean, x, kernel, options, 0);
    // The count of elements inside x is the same pooling of a tensor of ones.
    const Shape spatial = x.shape().slice(x.rank() - kernel.size(), x.rank());
    const Var count =
        pooled(ReduceOp::Sum, full(*x.graph, x.dtype(), spatial, 1), kernel, options, 0);
    return pooled(ReduceOp::Sum, x, kernel, options, 0) / count;
}

}  // namespace kn
