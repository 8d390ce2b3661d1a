#include <cstdint>

#include <kn/graph/builder.h>
#include <kn/graph/decompose.h>
#include <kn/graph/precision.h>

namespace kn {

namespace {

// To the nearest, ties away from zero, by the bits: half a unit of the tenth mantissa bit is added,
// and the bits below are cut off. Infinities stay what they are; a NaN is passed by, as the sum
// might carry into its sign.
Value rounded(Graph& graph, Value x) {
    if (graph.dtype(x) != DType::F32) return x;
    const auto number = [&](std::int32_t bits) { return graph.constant(Tensor::scalar(bits)); };
    const Var whole = graph.var(x);
    const Var bits = bit_cast(whole, DType::I32) + number(0x1000);
    const Var cut = bit_cast(binary(BinaryOp::BitAnd, bits, number(~0x1fff)), DType::F32);
    return select(equal(whole, whole), cut, whole);
}

bool is_product(const Operation& operation) {
    return is_any_of<op::MatMul, op::Conv, op::ConvTranspose>(operation);
}

}  // namespace

Graph to_tf32(const Graph& graph) {
    const Graph source = decompose(graph, [](const Operation& operation) {
        return std::holds_alternative<op::Attention>(operation);
    });
    Graph out;
    out.share_fresh_symbols(source);
    ValueMap map(source);
    for (const Value& value : source.live()) {
        const Operation& operation = source[value].operation;
        out.set_origins(source[value].origins);
        if (const auto* input = std::get_if<op::Input>(&operation)) {
            map.set(value, out.input(input->name, input->dtype, input->shape));
            continue;
        }
        const bool rounds = is_product(operation);
        map.set(value, out.add(map_inputs(operation, [&](Value v) {
            return rounds ? rounded(out, map(v)) : map(v);
        })));
    }
    out.set_origins({});
    for (const NamedValue& output : source.outputs()) out.output(output.name, map(output.value));
    for (const Constraint& constraint : source.constraints()) out.add_constraint(constraint);
    return out;
}

}  // namespace kn
