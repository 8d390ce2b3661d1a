#include "lower/channel_chunks.h"

#include <fmt/core.h>

#include "lower/library.h"

namespace kn::cuda {

TensorRef channels_innermost(Placement& placement, const TensorRef& y, const std::string& name) {
    const auto size = static_cast<std::int64_t>(size_of(y.dtype));
    const bool suits = y.strides[1] == 1 && alignment_of(placement.plan(), y) >= 16 &&
                       y.strides[0] * size % 16 == 0 && y.strides[2] * size % 16 == 0 &&
                       y.strides[3] * size % 16 == 0;
    return suits ? y : placement.scratch(y.dtype, y.shape, name, channels_last_order(4));
}

void write_finish_and_give(Placement& placement, const Group& group, Value end,
                           KernelOperands& operands, Emitter& emitter, Code& code,
                           const TensorRef& y) {
    IndexMath& math = emitter.math();
    const auto index_of = [&](const Ints& shape) -> Index {
        return {math.variable("image", shape[0]), math.variable("filter", shape[1]),
                math.variable("row", shape[2]), math.variable("column", shape[3])};
    };
    const std::string place = fmt::format(
        "const {0} image, const {0} filter, const {0} row, const {0} column", math.type());
    code.open(fmt::format("const auto finish = [&]({}, const float product)", place));
    emitter.push_scope();
    emitter.provide(group.anchor, [](const Index&) -> std::string { return "product"; });
    const Ints shape = placement.graph().shape(end).to_ints();
    const std::string value = emitter.value(end, index_of(shape));
    code.line(fmt::format("return {};", is_half(y.dtype) ? value : as_stored(y, value)));
    emitter.pop_scope();
    code.close("};");
    const std::string pointer = operands.pointer(y, Access::Write, "y");
    code.open(fmt::format("const auto give = [&]({}, const kn_vector<unsigned, 4>& chunk)", place));
    code.line(fmt::format("*reinterpret_cast<kn_vector<unsigned, 4>*>({} + ({})) = chunk;", pointer,
                          math.dot(index_of(y.shape), y.strides)));
    code.close("};");
}

}  // namespace kn::cuda
