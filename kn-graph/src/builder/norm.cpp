#include <cmath>

#include "builder/common.h"

namespace kn {

using builder::add;

Var normalize(NormKind kind, Var x, const Ints& axes, double epsilon) {
    return add(x, op::Norm{kind, x, builder::sorted_axes(axes, x.rank()), epsilon});
}

namespace {

Var normalize_last(NormKind kind, Var x, std::size_t count, double epsilon) {
    if (count > x.rank())
        throw GraphError(
            fmt::format("normalisation of {} over {} axes", x.shape().to_string(), count));
    Ints axes;
    for (std::size_t i = x.rank() - count; i < x.rank(); ++i)
        axes.push_back(static_cast<std::int64_t>(i));
    return normalize(kind, x, axes, epsilon);
}

}  // namespace

Var layer_norm(Var x, Var scale, std::optional<Var> bias, double epsilon) {
    const Var y = normalize_last(NormKind::MeanVariance, x, scale.rank(), epsilon) * scale;
    return bias ? y + *bias : y;
}

Var rms_norm(Var x, Var scale, double epsilon) {
    return normalize_last(NormKind::MeanSquare, x, scale.rank(), epsilon) * scale;
}

Var group_norm(Var x, std::int64_t groups, Var scale, Var bias, double epsilon) {
    if (x.rank() < 2 || groups < 1)
        throw GraphError(
            fmt::format("group_norm of {} in {} groups", x.shape().to_string(), groups));
    const Shape shape = x.shape();
    const Dim per_group = floor_div(shape[1], groups);
    x.graph->require_equal(per_group * groups, shape[1], "the channels of a group normalisation");
    const Var rows =
        reshape(x, {shape[0], groups, per_group * shape.slice(2, shape.rank()).size()});
    const Var y = reshape(normalize(NormKind::MeanVariance, rows, {2}, epsilon), shape);
    return y * builder::as_channels(scale, shape.rank()) + builder::as_channels(bias, shape.rank());
}

Var attention(Var q, Var k, Var v, std::optional<Var> mask, double scale, CausalMask causal) {
    builder::check_same_graph(q, k);
    builder::check_same_graph(q, v);
    if (q.rank() != 4 || k.rank() != 4 || v.rank() != 4)
        throw GraphError(fmt::format("attention needs [batch, heads, length, size], got {}, {}, {}",
                                     q.shape().to_string(), k.shape().to_string(),
                                     v.shape().to_string()));
    if (scale == 0) {
        const Dim head = q.shape()[3];
        if (!head.is_constant())
            throw GraphError(fmt::format(
                "attention needs a scale, since the head size {} is not fixed", head.to_string()));
        scale = 1 / std::sqrt(static_cast<double>(head.value()));
    }
    std::optional<Value> full_mask;
    if (mask) {
        builder::check_same_graph(q, *mask);
        const Var m = builder::to_rank(*mask, 4);
        Shape shape = m.shape();
        if (shape.rank() == 4) shape[3] = k.shape()[2];
        full_mask = broadcast_to(m, shape);
    }
    return add(q, op::Attention{q, k, v, full_mask, scale, causal});
}

}  // namespace kn
