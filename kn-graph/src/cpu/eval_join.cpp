// Concat and Pad: row-wise copies.
#include <cstring>

#include <fmt/core.h>

#include "cpu/eval.h"
#include "cpu/strided.h"

namespace kn::cpu {

namespace {

constexpr double kCostPerByte = 0.15;

/// For each index of the padded axis the index in x, or -1 for the padding value.
Ints source_indices(std::int64_t size, std::int64_t before, std::int64_t after, PadMode mode,
                    const EvalContext& ctx) {
    if (before < 0 || after < 0) ctx.fail(fmt::format("pads of {} and {}", before, after));
    const std::int64_t most = std::max(before, after);
    if (mode == PadMode::Reflect && most > 0 && most >= size)
        ctx.fail(fmt::format("cannot reflect {} elements of an axis of size {}", most, size));
    if (mode != PadMode::Constant && most > 0 && size == 0)
        ctx.fail("nothing to take the padding of an empty axis from");
    Ints indices(static_cast<std::size_t>(before + size + after));
    for (std::int64_t i = -before; i < size + after; ++i) {
        std::int64_t source = i;
        if (i < 0 || i >= size) {
            switch (mode) {
                case PadMode::Constant: source = -1; break;
                case PadMode::Edge: source = i < 0 ? 0 : size - 1; break;
                case PadMode::Reflect: source = i < 0 ? -i : 2 * (size - 1) - i; break;
                case PadMode::Wrap: source = (i % size + size) % size; break;
            }
        }
        indices[static_cast<std::size_t>(i + before)] = source;
    }
    return indices;
}

template <class T>
void pad(const Array& x, const std::vector<Ints>& sources, std::int64_t before, T value,
         const Ints& shape, T* out, const EvalContext& ctx) {
    const std::size_t last = shape.size() - 1;
    const T* data = reinterpret_cast<const T*>(x.bytes());
    const std::int64_t length = shape[last];
    const std::int64_t stride = x.stride(last);
    const std::int64_t middle = x.dim(last);
    const std::int64_t rows = checked_size(shape) / length;
    ctx.parallel(rows, kCostPerByte * sizeof(T) * static_cast<double>(length) + 10,
                 [&](std::int64_t begin, std::int64_t end) {
                     for (std::int64_t row = begin; row < end; ++row) {
                         T* y = out + row * length;
                         std::int64_t offset = 0;
                         std::int64_t rest = row;
                         bool inside = true;
                         for (std::size_t a = last; a-- > 0; rest /= shape[a]) {
                             const std::int64_t index =
                                 sources[a][static_cast<std::size_t>(rest % shape[a])];
                             inside = inside && index >= 0;
                             offset += index * x.stride(a);
                         }
                         if (!inside) {
                             std::fill_n(y, length, value);
                             continue;
                         }
                         const T* from = data + offset;
                         const auto edge = [&](std::int64_t i) {
                             const std::int64_t index = sources[last][static_cast<std::size_t>(i)];
                             y[i] = index < 0 ? value : from[index * stride];
                         };
                         for (std::int64_t i = 0; i < before; ++i) edge(i);
                         if (stride == 1)
                             std::copy_n(from, middle, y + before);
                         else
                             for (std::int64_t i = 0; i < middle; ++i)
                                 y[before + i] = from[i * stride];
                         for (std::int64_t i = before + middle; i < length; ++i) edge(i);
                     }
                 });
}

}  // namespace

Arrays eval(const op::Concat& op, EvalContext& ctx) {
    Array result = ctx.result();
    const auto axis = static_cast<std::size_t>(op.axis);
    std::int64_t outer = 1;
    std::size_t inner = size_of(result.dtype());
    for (std::size_t a = 0; a < axis; ++a) outer *= result.dim(a);
    for (std::size_t a = axis + 1; a < result.rank(); ++a)
        inner *= static_cast<std::size_t>(result.dim(a));
    const std::size_t row = inner * static_cast<std::size_t>(result.dim(axis));
    std::byte* out = result.mutable_bytes();
    std::int64_t position = 0;
    for (Value input : op.inputs) {
        const Array& x = ctx.operand(input);
        Ints expected = result.shape();
        expected[axis] = x.dim(axis);
        position += x.dim(axis);
        if (x.shape() != expected || position > result.dim(axis))
            ctx.fail(fmt::format("a part of shape {} does not fit {}",
                                 Shape::of(x.shape()).to_string(),
                                 Shape::of(result.shape()).to_string()));
        const std::size_t bytes = inner * static_cast<std::size_t>(x.dim(axis));
        if (outer == 1) {
            copy_to(x, out, ctx);
        } else {
            const Array part = ctx.contiguous(input);
            ctx.parallel(outer, kCostPerByte * static_cast<double>(bytes) + 5,
                         [&](std::int64_t begin, std::int64_t end) {
                             for (auto i = static_cast<std::size_t>(begin);
                                  i < static_cast<std::size_t>(end); ++i)
                                 std::memcpy(out + i * row, part.bytes() + i * bytes, bytes);
                         });
        }
        out += bytes;
    }
    return {result};
}

Arrays eval(const op::Pad& op, EvalContext& ctx) {
    const Array& x = ctx.operand(op.x);
    const Ints before = ctx.eval(op.before);
    const Ints after = ctx.eval(op.after);
    Array result = ctx.result();
    if (result.size() == 0) return {result};
    std::vector<Ints> sources;
    for (std::size_t a = 0; a < x.rank(); ++a)
        sources.push_back(source_indices(x.dim(a), before[a], after[a], op.mode, ctx));
    if (x.rank() == 0) return {x};
    dispatch_size(x.dtype(), [&]<class T>() {
        T value{};
        if (op.value) std::memcpy(&value, ctx.operand(*op.value).bytes(), sizeof value);
        pad(x, sources, before.back(), value, result.shape(),
            reinterpret_cast<T*>(result.mutable_bytes()), ctx);
    });
    return {result};
}

}  // namespace kn::cpu
