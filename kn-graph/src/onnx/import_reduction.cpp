// All Reduce operators.
#include "onnx/import_util.h"

namespace kn::onnx {

namespace {

using Reduction = Var (*)(Var x, const Ints& axes, bool keep);

template <ReduceOp op>
Var plain(Var x, const Ints& axes, bool keep) {
    return reduce(op, x, axes, keep);
}

// Whole numbers: the sum over the count, fractions cut off.
Var mean_of(Var x, const Ints& axes, bool keep) {
    if (is_float(x.dtype())) return mean(x, axes, keep);
    Dim count = 1;
    for (const std::int64_t axis : axes) count *= x.shape()[normalize_axis(axis, x.rank())];
    const DType wide = x.dtype() == DType::U64 ? DType::U64 : DType::I64;
    const Var total = sum(cast(x, wide), axes, keep);
    return cast(total / cast(scalar_dim(*x.graph, count), wide), x.dtype());
}

Var l1(Var x, const Ints& axes, bool keep) {
    return sum(is_unsigned_int(x.dtype()) ? x : abs(x), axes, keep);
}

Var sum_square(Var x, const Ints& axes, bool keep) { return sum(square(x), axes, keep); }

// Steps between reduction and root or logarithm keep the precision: half types go through f32,
// integers through f64.
template <Reduction function>
Var wide(Var x, const Ints& axes, bool keep) {
    const DType dtype = x.dtype();
    const DType computed = is_half(dtype) ? DType::F32 : is_float(dtype) ? dtype : DType::F64;
    return cast(function(cast(x, computed), axes, keep), dtype);
}

Var l2(Var x, const Ints& axes, bool keep) { return sqrt(sum_square(x, axes, keep)); }

Var log_sum(Var x, const Ints& axes, bool keep) { return log(sum(x, axes, keep)); }

Var log_sum_exp(Var x, const Ints& axes, bool keep) {
    const Var largest = reduce(ReduceOp::Max, x, axes, true);
    // Of infinities nothing can be subtracted.
    const Var shift = select(unary(UnaryOp::IsInf, largest), zero_like(x), largest);
    const Var total = log(sum(exp(x - shift), axes, true)) + shift;
    return keep ? total : squeeze(total, axes);
}

template <Reduction function>
std::vector<Var> apply(Node& node, Ints axes, bool noop_with_empty_axes) {
    const Var x = node.input(0);
    const bool keep = node.attr_int("keepdims", 1) == 1;
    if (axes.empty() && !noop_with_empty_axes)
        for (std::size_t axis = 0; axis < x.rank(); ++axis)
            axes.push_back(static_cast<std::int64_t>(axis));
    return {function(x, axes, keep)};
}

template <Reduction function>
std::vector<Var> import_by_attribute(Node& node) {
    return apply<function>(node, node.attr_ints("axes").value_or(Ints{}), false);
}

template <Reduction function>
std::vector<Var> import_by_input(Node& node) {
    const bool noop = node.attr_int("noop_with_empty_axes", 0) == 1;
    Ints axes;
    if (node.has_input(1)) {
        // No axes need no values.
        const bool empty = node.input(1).shape() == Shape{0};
        if (!empty) axes = node.input_ints(1);
    }
    return apply<function>(node, axes, noop);
}

template <Reduction function>
void add_rows(std::vector<ImportRow>& rows, const char* op, int axes_input_since = 18) {
    rows.push_back({"", op, 1, import_by_attribute<function>});
    rows.push_back({"", op, axes_input_since, import_by_input<function>});
}

}  // namespace

std::vector<ImportRow> reduction_rows() {
    std::vector<ImportRow> rows;
    add_rows<plain<ReduceOp::Sum>>(rows, "ReduceSum", 13);
    add_rows<plain<ReduceOp::Prod>>(rows, "ReduceProd");
    add_rows<plain<ReduceOp::Max>>(rows, "ReduceMax");
    add_rows<plain<ReduceOp::Min>>(rows, "ReduceMin");
    add_rows<mean_of>(rows, "ReduceMean");
    add_rows<l1>(rows, "ReduceL1");
    add_rows<sum_square>(rows, "ReduceSumSquare");
    add_rows<wide<l2>>(rows, "ReduceL2");
    add_rows<wide<log_sum>>(rows, "ReduceLogSum");
    add_rows<wide<log_sum_exp>>(rows, "ReduceLogSumExp");
    append(rows, loss_rows());
    return rows;
}

}  // namespace kn::onnx
