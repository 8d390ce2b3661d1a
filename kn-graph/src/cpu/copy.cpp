#include <cstring>

#include "cpu/eval.h"
#include "cpu/strided.h"

namespace kn::cpu {

namespace {

constexpr double kCostPerByte = 0.15;

/// Runs along the last axis, one after the other.
template <class T>
void copy_runs(const T* from, T* out, const Walk& walk, std::int64_t begin, std::int64_t end) {
    const std::int64_t length = walk.shape.back();
    const std::int64_t stride = walk.strides.back();
    Cursor cursor(walk, walk.shape.size() - 1, begin);
    for (std::int64_t run = begin; run < end; ++run, cursor.next()) {
        const T* x = from + cursor.offset();
        T* y = out + run * length;
        if (stride == 1) {
            for (std::int64_t i = 0; i < length; ++i) y[i] = x[i];
        } else if (stride == 0) {
            std::fill_n(y, length, *x);
        } else {
            for (std::int64_t i = 0; i < length; ++i) y[i] = x[i * stride];
        }
    }
}

/// The side of a square tile whose rows fill a cache line.
template <class T>
inline constexpr std::int64_t kTile = 64 / static_cast<std::int64_t>(sizeof(T));

/// y[i * y_stride + j] = x[j * x_stride + i]
template <class T>
void transpose_tile(const T* x, std::int64_t x_stride, T* y, std::int64_t y_stride,
                    std::int64_t rows, std::int64_t columns) {
    if (rows == kTile<T> && columns == kTile<T>) {
        // Through a tile of its own: rows that lie a power of two apart compete for the same places
        // in the cache.
        T tile[kTile<T>][kTile<T>];
        for (int j = 0; j < kTile<T>; ++j)
            for (int i = 0; i < kTile<T>; ++i) tile[i][j] = x[j * x_stride + i];
        for (int i = 0; i < kTile<T>; ++i)
            for (int j = 0; j < kTile<T>; ++j) y[i * y_stride + j] = tile[i][j];
        return;
    }
    for (std::int64_t i = 0; i < rows; ++i)
        for (std::int64_t j = 0; j < columns; ++j) y[i * y_stride + j] = x[j * x_stride + i];
}

/// The last axis is strided in x and axis `dense` is not: both are walked in tiles, so that each
/// cache line is used whole.
template <class T>
void copy_transposed(const T* from, T* out, const Walk& walk, std::size_t dense,
                     const EvalContext& ctx) {
    const std::size_t last = walk.shape.size() - 1;
    const std::int64_t rows = walk.shape[dense];
    const std::int64_t columns = walk.shape[last];
    const Ints out_strides = row_major_strides(walk.shape);
    Walk outer_x;
    Walk outer_y;
    std::int64_t count = 1;
    for (std::size_t a = 0; a < last; ++a) {
        if (a == dense) continue;
        outer_x.shape.push_back(walk.shape[a]);
        outer_x.strides.push_back(walk.strides[a]);
        outer_y.strides.push_back(out_strides[a]);
        count *= walk.shape[a];
    }
    outer_y.shape = outer_x.shape;
    constexpr std::int64_t tile = kTile<T>;
    const std::int64_t bands = (rows + tile - 1) / tile;
    ctx.parallel(
        count * bands, kCostPerByte * 2 * sizeof(T) * tile * static_cast<double>(columns),
        [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t band = begin; band < end; ++band) {
                const std::int64_t i = band % bands * tile;
                const T* x =
                    from + Cursor(outer_x, outer_x.shape.size(), band / bands).offset() + i;
                T* y = out + Cursor(outer_y, outer_y.shape.size(), band / bands).offset() +
                       i * out_strides[dense];
                const std::int64_t height = std::min(tile, rows - i);
                for (std::int64_t j = 0; j < columns; j += tile)
                    transpose_tile(x + j * walk.strides[last], walk.strides[last], y + j,
                                   out_strides[dense], height, std::min(tile, columns - j));
            }
        });
}

template <class T>
void copy_elements(const T* from, T* out, const Walk& walk, std::int64_t size,
                   const EvalContext& ctx) {
    const std::size_t last = walk.shape.size() - 1;
    if (walk.strides[last] != 1 && walk.strides[last] != 0)
        for (std::size_t a = 0; a < last; ++a)
            if (walk.strides[a] == 1 && walk.shape[a] >= 4)
                return copy_transposed(from, out, walk, a, ctx);
    const std::int64_t runs = size / walk.shape[last];
    const double cost = kCostPerByte * sizeof(T) * static_cast<double>(walk.shape[last]) + 5;
    ctx.parallel(runs, cost, [&](std::int64_t begin, std::int64_t end) {
        copy_runs(from, out, walk, begin, end);
    });
}

}  // namespace

Walk collapse(const Ints& shape, const Ints& strides) {
    Walk walk;
    for (std::size_t a = 0; a < shape.size(); ++a) {
        if (shape[a] == 1) continue;
        if (!walk.shape.empty() && walk.strides.back() == shape[a] * strides[a]) {
            walk.shape.back() *= shape[a];
            walk.strides.back() = strides[a];
        } else {
            walk.shape.push_back(shape[a]);
            walk.strides.push_back(strides[a]);
        }
    }
    if (walk.shape.empty()) return {{1}, {1}};
    return walk;
}

void copy_to(const Array& x, std::byte* out, const EvalContext& ctx) {
    if (x.size() == 0) return;
    if (x.is_contiguous()) {
        ctx.parallel(static_cast<std::int64_t>(x.byte_size()), kCostPerByte,
                     [&](std::int64_t begin, std::int64_t end) {
                         std::memcpy(out + begin, x.bytes() + begin,
                                     static_cast<std::size_t>(end - begin));
                     });
        return;
    }
    const Walk walk = collapse(x);
    dispatch_size(x.dtype(), [&]<class T>() {
        copy_elements(reinterpret_cast<const T*>(x.bytes()), reinterpret_cast<T*>(out), walk,
                      x.size(), ctx);
    });
}

Array copy(const Array& x, const EvalContext& ctx) {
    Array result = ctx.allocate(x.dtype(), x.shape());
    copy_to(x, result.mutable_bytes(), ctx);
    return result;
}

}  // namespace kn::cpu
