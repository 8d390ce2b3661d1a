// The decomposition of each composite operation, and what they share.
#pragma once

#include <kn/graph/builder.h>

namespace kn::decomposition {

using Vars = std::vector<Var>;

Vars parts(const op::Softmax& op, Graph& graph);
Vars parts(const op::Norm& op, Graph& graph);
Vars parts(const op::Attention& op, Graph& graph);
Vars parts(const op::Resize& op, Graph& graph);
Vars parts(const op::GridSample& op, Graph& graph);
Vars parts(const op::Recurrent& op, Graph& graph);
Vars parts(const op::Dft& op, Graph& graph);

/// A value in the type that arithmetic on it is done in.
inline Var widened(Graph& graph, Value x) {
    const Var var = graph.var(x);
    return is_half(var.dtype()) ? cast(var, DType::F32) : var;
}

/// A row-major float constant of `like`'s dtype.
inline Var float_constant(Var like, Ints shape, const std::vector<double>& values) {
    return like.graph->constant(
        Tensor::from_span<double>(std::move(shape), values).cast(like.dtype()));
}

/// axis to the end: [..., axis, ...] to [..., ..., axis]; and back.
inline Var axis_to_end(Var x, std::int64_t axis) {
    Ints perm;
    for (std::int64_t a = 0; a < static_cast<std::int64_t>(x.rank()); ++a)
        if (a != axis) perm.push_back(a);
    perm.push_back(axis);
    return permute(x, perm);
}
inline Var axis_from_end(Var x, std::int64_t axis) {
    const auto last = static_cast<std::int64_t>(x.rank()) - 1;
    Ints perm;
    for (std::int64_t a = 0; a < last; ++a) perm.push_back(a);
    perm.insert(perm.begin() + axis, last);
    return permute(x, perm);
}

}  // namespace kn::decomposition
