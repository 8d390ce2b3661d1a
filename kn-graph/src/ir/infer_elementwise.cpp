// Elementwise operations and casts.
#include <ir/infer.h>
#include <ir/require.h>

namespace kn {
using namespace rules;

namespace {

DType row_result(const ScalarRow& row, DType dtype) {
    if (!accepts(row.accepts, dtype)) fail("{} does not take {}", row.text, name_of(dtype));
    return row.gives == Gives::Bool ? DType::Bool : dtype;
}

}  // namespace

std::vector<Type> infer(const op::Unary& op, Graph& graph) {
    const Type& x = graph.type(op.x);
    return one(row_result(row_of(op.op), x.dtype), x.shape);
}

std::vector<Type> infer(const op::Binary& op, Graph& graph) {
    const Type& a = graph.type(op.a);
    const Type& b = graph.type(op.b);
    const ScalarRow& row = row_of(op.op);
    if (a.dtype != b.dtype)
        fail("the operands of {} are {} and {}", row.text, describe(a), describe(b));
    const DType dtype = row_result(row, a.dtype);
    return one(dtype, same(graph, a.shape, b.shape,
                           [&] { return fmt::format("the operands of {}", row.text); }));
}

std::vector<Type> infer(const op::Select& op, Graph& graph) {
    const Type& condition = graph.type(op.condition);
    const Type& a = graph.type(op.a);
    const Type& b = graph.type(op.b);
    dtype_is("the condition", condition.dtype, DType::Bool);
    if (a.dtype != b.dtype) fail("the choices are {} and {}", describe(a), describe(b));
    Shape shape = same(graph, a.shape, b.shape, "the choices");
    return one(a.dtype, same(graph, shape, condition.shape, "choices and condition"));
}

std::vector<Type> infer(const op::Cast& op, Graph& graph) {
    return one(op.dtype, graph.shape(op.x));
}

std::vector<Type> infer(const op::BitCast& op, Graph& graph) {
    const Type& x = graph.type(op.x);
    if (x.dtype == DType::Bool || op.dtype == DType::Bool)
        fail("bool has no bits to reinterpret ({} as {})", name_of(x.dtype), name_of(op.dtype));
    if (size_of(x.dtype) != size_of(op.dtype))
        fail("{} and {} differ in size", name_of(x.dtype), name_of(op.dtype));
    return one(op.dtype, x.shape);
}

}  // namespace kn
