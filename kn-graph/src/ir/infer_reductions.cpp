// Reductions, scans, sorting.
#include <ir/infer.h>
#include <ir/require.h>

namespace kn {
using namespace rules;

std::vector<Type> infer(const op::Reduce& op, Graph& graph) {
    const Type& x = graph.type(op.x);
    axes_sorted(op.axes, x.shape.rank());
    if (op.op == ReduceOp::Mean) dtype_is_float("the operand of a mean", x.dtype);
    if (op.op != ReduceOp::Max && op.op != ReduceOp::Min)
        dtype_is_number("the operand of a sum or product", x.dtype);
    return one(x.dtype, x.shape.without(op.axes));
}

std::vector<Type> infer(const op::ArgReduce& op, Graph& graph) {
    const Type& x = graph.type(op.x);
    axis_in_range(op.axis, x.shape.rank());
    dtype_is_number("x", x.dtype);
    at_least(graph, x.shape[op.axis], 1, fmt::format("axis {} has no element to find", op.axis));
    return one(DType::I64, x.shape.without(Ints{op.axis}));
}

std::vector<Type> infer(const op::Cumulative& op, Graph& graph) {
    const Type& x = graph.type(op.x);
    axis_in_range(op.axis, x.shape.rank());
    dtype_is_number("x", x.dtype);
    if (op.op != ReduceOp::Sum && op.op != ReduceOp::Prod)
        fail("only a sum or a product can be cumulative");
    return one(x.dtype, x.shape);
}

std::vector<Type> infer(const op::TopK& op, Graph& graph) {
    const Type& x = graph.type(op.x);
    axis_in_range(op.axis, x.shape.rank());
    dtype_is_number("x", x.dtype);
    at_least(graph, op.k, 0, "k must not be negative");
    at_least(graph, x.shape[op.axis], op.k,
             fmt::format("axis {} of size {} has no {} elements", op.axis,
                         x.shape[op.axis].to_string(), op.k.to_string()));
    Shape shape = x.shape;
    shape[op.axis] = op.k;
    return {{x.dtype, shape}, {DType::I64, shape}};
}

}  // namespace kn
