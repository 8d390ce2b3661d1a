// What follows from sizes and constants alone: integers, branches, fixed positions.
#include "ir/symbolic.h"
#include "optimizer/rules.h"

namespace kn::optimizer {

std::optional<Value> known_sizes(Rewriter& r, Value v) {
    constexpr std::int64_t max_elements = 64;
    const Type type = r.graph.type(v);
    if (type.dtype != DType::I64 && type.dtype != DType::I32 && type.dtype != DType::Bool)
        return std::nullopt;
    if (r.is<op::Constant>(v) || r.is<op::ShapeValue>(v) || r.is<op::Broadcast>(v) ||
        r.is<op::ReadDims>(v) || !type.shape.is_static() ||
        type.shape.size().value() > max_elements)
        return std::nullopt;
    const auto dims = known_dims(r.graph, v);
    if (!dims) return std::nullopt;
    const Ints shape = type.shape.to_ints();
    if (Shape(*dims).is_static()) {
        const Ints values = Shape(*dims).to_ints();
        return r.graph.constant(Tensor::from_span<std::int64_t>(shape, values).cast(type.dtype));
    }
    if (type.dtype != DType::I64) return std::nullopt;
    return r.graph.add(op::ShapeValue{*dims, shape});
}

std::optional<Value> if_constant(Rewriter& r, Value v) {
    std::size_t index = 0;
    Value source = v;
    if (const auto* result = r.graph.get_if<op::Result>(v)) {
        index = static_cast<std::size_t>(result->index);
        source = result->source;
    }
    const auto branch = r.get<op::If>(source);
    if (!branch) return std::nullopt;
    const auto condition = r.uniform(branch->condition);
    if (!condition) return std::nullopt;
    return call(r.graph, *condition != 0 ? *branch->then_body : *branch->else_body,
                branch->captures)
        .at(index);
}

std::optional<Value> gather_to_slice(Rewriter& r, Value v) {
    const auto gather = r.get<op::Gather>(v);
    if (!gather) return std::nullopt;
    const auto position = r.uniform(gather->indices);
    if (!position || !(r.shape(gather->indices).size() == 1)) return std::nullopt;
    const Shape shape = r.shape(v);
    const Dim size = r.shape(gather->x)[static_cast<std::size_t>(gather->axis)];
    const auto index = static_cast<std::int64_t>(*position);
    const Dim start = index < 0 ? size + index : Dim(index);
    if (!provably_ge(start, 0) || !provably_gt(size, start)) return std::nullopt;
    return reshape(slice(r.var(gather->x), gather->axis, start, start + 1), shape);
}

}  // namespace kn::optimizer
