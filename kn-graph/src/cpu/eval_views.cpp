// Operations that give their operand's memory another shape; only Reshape may have to copy.
#include <fmt/core.h>

#include "cpu/eval.h"

namespace kn::cpu {

namespace {

std::string text(const Ints& shape) { return Shape::of(shape).to_string(); }

}  // namespace

Arrays eval(const op::Reshape& op, EvalContext& ctx) {
    const Array& x = ctx.operand(op.x);
    const Ints shape = ctx.result_shape();
    if (checked_size(shape) != x.size())
        ctx.fail(fmt::format("{} cannot become {}", text(x.shape()), text(shape)));
    if (auto view = x.reshaped(shape)) return {std::move(*view)};
    return {copy(x, ctx).view(shape, row_major_strides(shape))};
}

Arrays eval(const op::Permute& op, EvalContext& ctx) {
    return {ctx.operand(op.x).permuted(op.perm)};
}

Arrays eval(const op::Broadcast& op, EvalContext& ctx) {
    const Array& x = ctx.operand(op.x);
    const Ints shape = ctx.result_shape();
    for (std::size_t a = 0; a < shape.size(); ++a)
        if (x.dim(a) != shape[a] && x.dim(a) != 1)
            ctx.fail(fmt::format("{} does not broadcast to {}", text(x.shape()), text(shape)));
    return {x.broadcast(shape)};
}

Arrays eval(const op::Slice& op, EvalContext& ctx) {
    const Array& x = ctx.operand(op.x);
    const Ints shape = ctx.result_shape();
    const Ints starts = ctx.eval(op.starts);
    Ints strides = x.strides();
    std::int64_t offset = 0;
    for (std::size_t a = 0; a < shape.size(); ++a) {
        if (shape[a] > 1) strides[a] *= op.steps[a];
        if (checked_size(shape) == 0) continue;
        std::int64_t last = 0;
        const bool overflow = __builtin_mul_overflow(shape[a] - 1, op.steps[a], &last) ||
                              __builtin_add_overflow(last, starts[a], &last);
        if (overflow || starts[a] < 0 || starts[a] >= x.dim(a) || last < 0 || last >= x.dim(a))
            ctx.fail(fmt::format("start {}, step {}, length {} leave axis {} of {}", starts[a],
                                 op.steps[a], shape[a], a, text(x.shape())));
        offset += starts[a] * x.stride(a);
    }
    return {x.view(shape, std::move(strides), offset)};
}

Arrays eval(const op::Window& op, EvalContext& ctx) {
    const Array& x = ctx.operand(op.x);
    Ints shape = x.shape();
    Ints strides = x.strides();
    const Ints sizes = ctx.eval(op.sizes);
    for (std::size_t j = 0; j < op.axes.size(); ++j) {
        const auto axis = static_cast<std::size_t>(op.axes[j]);
        if (sizes[j] < 0) ctx.fail(fmt::format("a window of size {}", sizes[j]));
        std::int64_t reach = 0;
        if (__builtin_mul_overflow(sizes[j] - 1, op.dilations[j], &reach))
            ctx.fail(fmt::format("a window of {} elements {} apart", sizes[j], op.dilations[j]));
        const std::int64_t room = x.dim(axis) - reach - 1;
        shape[axis] = room < 0 ? 0 : room / op.strides[j] + 1;
        // A stride that is never walked may be too large to compute with.
        if (shape[axis] > 1) strides[axis] = x.stride(axis) * op.strides[j];
        shape.push_back(sizes[j]);
        strides.push_back(sizes[j] > 1 ? x.stride(axis) * op.dilations[j] : 1);
    }
    return {x.view(std::move(shape), std::move(strides))};
}

Arrays eval(const op::BitCast& op, EvalContext& ctx) {
    return {ctx.operand(op.x).bit_cast(op.dtype)};
}

}  // namespace kn::cpu
