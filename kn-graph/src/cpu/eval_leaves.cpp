#include <utility>

#include <fmt/core.h>

#include "cpu/frame.h"
#include "cpu/strided.h"

namespace kn::cpu {

Arrays eval(const op::Input& op, EvalContext& ctx) {
    ctx.fail("input '" + op.name + "' has no value");
}

Arrays eval(const op::Constant& op, EvalContext&) { return {Array(op.data->tensor)}; }

Arrays eval(const op::ShapeValue& op, EvalContext& ctx) {
    Array result = ctx.result();
    const Ints values = ctx.eval(op.dims);
    KN_CHECK(static_cast<std::int64_t>(values.size()) == result.size());
    std::copy(values.begin(), values.end(), result.mutable_data<std::int64_t>());
    return {result};
}

Arrays eval(const op::Iota&, EvalContext& ctx) {
    Array result = ctx.result();
    auto* out = result.mutable_data<std::int64_t>();
    for (std::int64_t i = 0; i < result.size(); ++i) out[i] = i;
    return {result};
}

Arrays eval(const op::ReadDims& op, EvalContext& ctx) {
    const Array x = ctx.contiguous(op.x);
    KN_CHECK(x.size() == static_cast<std::int64_t>(op.symbols.size()));
    for (std::size_t i = 0; i < op.symbols.size(); ++i) {
        const std::int64_t value = dispatch(x.dtype(), [&]<class T>() -> std::int64_t {
            if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) {
                const T size = x.data<T>()[i];
                if (std::in_range<std::int64_t>(size)) return static_cast<std::int64_t>(size);
            }
            ctx.fail("a size beyond the 64-bit range");
        });
        if (value < op.minimum)
            ctx.fail(fmt::format("the size '{}' would be {}, at least {} is needed",
                                 printable(op.symbols[i]), value, op.minimum));
        ctx.bind(op.symbols[i], value);
    }
    return {ctx.operand(op.x)};
}

Arrays eval(const op::Result& op, EvalContext& ctx) {
    return {ctx.operand_result(op.source, static_cast<std::size_t>(op.index))};
}

}  // namespace kn::cpu
