#include <cstring>

#include "cpu/lanes.h"

namespace kn::cpu {

Ints read_indices(EvalContext& ctx, Value indices) {
    const Array array = ctx.contiguous(indices);
    Ints result(static_cast<std::size_t>(array.size()));
    if (array.dtype() == DType::I32)
        std::copy_n(array.data<std::int32_t>(), result.size(), result.begin());
    else
        std::copy_n(array.data<std::int64_t>(), result.size(), result.begin());
    return result;
}

std::int64_t checked_index(const EvalContext& ctx, std::int64_t index, std::int64_t size,
                           std::size_t axis) {
    if (index < -size || index >= size)
        ctx.fail("index " + std::to_string(index) + " is out of range for axis " +
                 std::to_string(axis) + " of size " + std::to_string(size));
    return index < 0 ? index + size : index;
}

Ints coordinate_offsets(const EvalContext& ctx, const Ints& coordinates, std::size_t length,
                        const Ints& shape, std::size_t first) {
    if (length == 0) return {};
    Ints offsets(coordinates.size() / length);
    for (std::size_t i = 0; i < offsets.size(); ++i) {
        for (std::size_t j = 0; j < length; ++j) {
            const std::size_t axis = first + j;
            offsets[i] = offsets[i] * shape[axis] +
                         checked_index(ctx, coordinates[i * length + j], shape[axis], axis);
        }
    }
    return offsets;
}

Arrays eval(const op::Gather& op, EvalContext& ctx) {
    const Array x = ctx.contiguous(op.x);
    Ints indices = read_indices(ctx, op.indices);
    const Lanes lanes = lanes_of(x.shape(), op.axis);
    for (std::int64_t& index : indices)
        index = checked_index(ctx, index, lanes.length, static_cast<std::size_t>(op.axis));

    Array result = ctx.result();
    const auto count = static_cast<std::int64_t>(indices.size());
    const std::size_t block = static_cast<std::size_t>(lanes.inner) * size_of(x.dtype());
    std::byte* out = result.mutable_bytes();
    if (result.size() == 0) return {result};
    ctx.parallel(lanes.outer * count, 2.0 + 0.1 * static_cast<double>(block),
                 [&](std::int64_t begin, std::int64_t end) {
                     for (std::int64_t i = begin; i < end; ++i) {
                         const std::int64_t from = i / count * lanes.length +
                                                   indices[static_cast<std::size_t>(i % count)];
                         std::memcpy(out + i * block, x.bytes() + from * block, block);
                     }
                 });
    return {result};
}

Arrays eval(const op::GatherElements& op, EvalContext& ctx) {
    const Array& x = ctx.operand(op.x);
    const Ints indices = read_indices(ctx, op.indices);
    Array result = ctx.result();
    if (result.size() == 0) return {result};
    const Ints& shape = result.shape();
    const auto axis = static_cast<std::size_t>(op.axis);
    const std::size_t last = shape.size() - 1;
    const std::int64_t row = shape[last];
    dispatch_size(x.dtype(), [&]<class T>() {
        const auto* from = reinterpret_cast<const T*>(x.bytes());
        auto* to = reinterpret_cast<T*>(result.mutable_bytes());
        ctx.parallel(result.size() / row, 3.0 * static_cast<double>(row),
                     [&](std::int64_t begin, std::int64_t end) {
                         for (std::int64_t r = begin; r < end; ++r) {
                             std::int64_t base = 0;
                             std::int64_t rest = r;
                             for (std::size_t a = last; a-- > 0; rest /= shape[a])
                                 if (a != axis) base += rest % shape[a] * x.stride(a);
                             for (std::int64_t j = 0; j < row; ++j) {
                                 const std::int64_t i = r * row + j;
                                 const std::int64_t index = checked_index(
                                     ctx, indices[static_cast<std::size_t>(i)], x.dim(axis), axis);
                                 const std::int64_t along_row =
                                     axis == last ? 0 : j * x.stride(last);
                                 to[i] = from[base + along_row + index * x.stride(axis)];
                             }
                         }
                     });
    });
    return {result};
}

Arrays eval(const op::GatherNd& op, EvalContext& ctx) {
    const Array x = ctx.contiguous(op.x);
    const Ints index_shape = ctx.operand(op.indices).shape();
    const auto batch_axes = static_cast<std::size_t>(op.batch_dims);
    const auto length = static_cast<std::size_t>(index_shape.back());
    const Ints coordinates = read_indices(ctx, op.indices);
    const Ints offsets = coordinate_offsets(ctx, coordinates, length, x.shape(), batch_axes);

    Array result = ctx.result();
    if (result.size() == 0) return {result};
    const std::int64_t batches = product(x.shape(), 0, batch_axes);
    const std::int64_t slices = product(x.shape(), batch_axes, batch_axes + length);
    const std::int64_t inner = product(x.shape(), batch_axes + length, x.rank());
    const std::int64_t per_batch = product(index_shape, batch_axes, index_shape.size() - 1);
    const std::size_t block = static_cast<std::size_t>(inner) * size_of(x.dtype());
    std::byte* out = result.mutable_bytes();
    ctx.parallel(batches * per_batch, 2.0 + 0.1 * static_cast<double>(block),
                 [&](std::int64_t begin, std::int64_t end) {
                     for (std::int64_t i = begin; i < end; ++i) {
                         const std::int64_t offset =
                             length == 0 ? 0 : offsets[static_cast<std::size_t>(i)];
                         const std::int64_t from = i / per_batch * slices + offset;
                         std::memcpy(out + i * block, x.bytes() + from * block, block);
                     }
                 });
    return {result};
}

}  // namespace kn::cpu
