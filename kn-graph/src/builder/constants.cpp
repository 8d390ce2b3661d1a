#include "builder/common.h"

namespace kn {

Var scalar_like(Var like, double value) { return scalar(*like.graph, like.dtype(), value); }

Var scalar(Graph& graph, DType dtype, double value) {
    return graph.constant(Tensor::scalar(value).cast(dtype));
}

Var vector_i64(Graph& graph, const Ints& values) {
    const auto length = static_cast<std::int64_t>(values.size());
    return graph.constant(Tensor::from_span<std::int64_t>({length}, values));
}

Var shape_value(Graph& graph, const std::vector<Dim>& dims) {
    if (Shape(dims).is_static()) return vector_i64(graph, Shape(dims).to_ints());
    return graph.var(graph.add(op::ShapeValue{dims, {static_cast<std::int64_t>(dims.size())}}));
}

Var scalar_dim(Graph& graph, const Dim& dim) {
    if (dim.is_constant()) return graph.constant(Tensor::scalar(dim.value()));
    return graph.var(graph.add(op::ShapeValue{{dim}, {}}));
}

Var iota(Graph& graph, const Dim& length) { return graph.var(graph.add(op::Iota{length})); }

Var full(Graph& graph, DType dtype, const Shape& shape, double value) {
    const Shape target = shape;  // adding a node may move the graph's own shapes
    return broadcast_to(scalar(graph, dtype, value), target);
}

}  // namespace kn
