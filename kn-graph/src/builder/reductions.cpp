#include "builder/common.h"

namespace kn {

using builder::add;

Var reduce(ReduceOp op, Var x, const Ints& axes, bool keep_dims) {
    const Ints sorted = builder::sorted_axes(axes, x.rank());
    Shape kept = x.shape();
    for (const std::int64_t axis : sorted) kept[static_cast<std::size_t>(axis)] = 1;
    const Var reduced = add(x, op::Reduce{op, x, sorted});
    return keep_dims ? reshape(reduced, kept) : reduced;
}

Var sum(Var x, const Ints& axes, bool keep_dims) {
    return reduce(ReduceOp::Sum, x, axes, keep_dims);
}
Var mean(Var x, const Ints& axes, bool keep_dims) {
    return reduce(ReduceOp::Mean, x, axes, keep_dims);
}

Var arg_max(Var x, std::int64_t axis, bool keep_dims) {
    const auto at = static_cast<std::int64_t>(normalize_axis(axis, x.rank()));
    const Var index = add(x, op::ArgReduce{true, false, x, at});
    return keep_dims ? unsqueeze(index, {at}) : index;
}

Var softmax(Var x, std::int64_t axis) {
    return add(x, op::Softmax{x, static_cast<std::int64_t>(normalize_axis(axis, x.rank())), false});
}

Var log_softmax(Var x, std::int64_t axis) {
    return add(x, op::Softmax{x, static_cast<std::int64_t>(normalize_axis(axis, x.rank())), true});
}

TopKResult top_k(Var x, const Dim& k, std::int64_t axis, bool largest) {
    const Var values =
        add(x, op::TopK{x, static_cast<std::int64_t>(normalize_axis(axis, x.rank())), k, largest});
    return {values, x.graph->var(x.graph->result(values, 1))};
}

}  // namespace kn
