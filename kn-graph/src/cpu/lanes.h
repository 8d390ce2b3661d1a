// A row-major tensor seen as [outer, length, inner] around one axis, and index operands.
#pragma once

#include "cpu/dispatch.h"
#include "cpu/eval.h"

namespace kn::cpu {

/// Element [o, i, k] lies at (o * length + i) * inner + k.
struct Lanes {
    std::int64_t outer = 1;
    std::int64_t length = 1;
    std::int64_t inner = 1;
};

inline Lanes lanes_of(const Ints& shape, std::int64_t axis) {
    Lanes lanes;
    for (std::size_t a = 0; a < shape.size(); ++a) {
        std::int64_t& part = static_cast<std::int64_t>(a) < axis   ? lanes.outer
                             : static_cast<std::int64_t>(a) > axis ? lanes.inner
                                                                   : lanes.length;
        part *= shape[a];
    }
    return lanes;
}

/// The product of dims [from, to).
inline std::int64_t product(const Ints& shape, std::size_t from, std::size_t to) {
    std::int64_t result = 1;
    for (std::size_t a = from; a < to; ++a) result *= shape[a];
    return result;
}

/// The elements of an index operand (i32 or i64) in row-major order, as the file gives them.
Ints read_indices(EvalContext& ctx, Value indices);

/// index in [-size, size) to 0..size-1; any other is an error that names both.
std::int64_t checked_index(const EvalContext& ctx, std::int64_t index, std::int64_t size,
                           std::size_t axis);

/// Coordinate prefixes, `length` numbers each, into offsets (in slices of the axes after them)
/// within axes [first, first + length) of `shape`.
Ints coordinate_offsets(const EvalContext& ctx, const Ints& coordinates, std::size_t length,
                        const Ints& shape, std::size_t first);

}  // namespace kn::cpu
