#include <algorithm>
#include <limits>

#include "cpu/dispatch.h"
#include "cpu/gemm.h"
#include "cpu/simd.h"
#include "cpu/softmax_row.h"

namespace kn::cpu {

namespace {

constexpr std::int64_t kScoreBytes = 1 << 20;

/// The matrix [rows, columns] of an operand [B, H, rows, columns] at (b, h).
template <class T>
Matrix<T> head(const Array& x, std::int64_t b, std::int64_t h) {
    return {x.data<T>() + b * x.stride(0) + h * x.stride(1), x.stride(2), x.stride(3)};
}

Array as_matrices(const Array& x, const EvalContext& ctx) {
    const Array wide = widened(x, ctx);
    return is_matrix(wide.dim(2), wide.dim(3), wide.stride(2), wide.stride(3)) ? wide
                                                                               : copy(wide, ctx);
}

/// Adds the mask's row; false excludes.
template <class T>
inline __attribute__((always_inline)) void add_mask(const Array& mask, std::int64_t offset, T* row,
                                                    std::int64_t n) {
    const std::int64_t stride = mask.stride(3);
    if (mask.dtype() == DType::Bool) {
        const bool* m = reinterpret_cast<const bool*>(mask.bytes()) + offset;
        for (std::int64_t t = 0; t < n; ++t)
            row[t] = m[t * stride] ? row[t] : -std::numeric_limits<T>::infinity();
    } else {
        const T* m = reinterpret_cast<const T*>(mask.bytes()) + offset;
        if (stride == 1)
            for (std::int64_t t = 0; t < n; ++t) row[t] += m[t];
        else
            for (std::int64_t t = 0; t < n; ++t) row[t] += m[t * stride];
    }
}

template <class T>
struct Attend {
    Array q, k, v;
    std::optional<Array> mask;  ///< broadcast to [B, H, S, T]
    T scale;
    CausalMask causal;

    /// How many positions of k row s sees.
    std::int64_t visible(std::int64_t s) const {
        const std::int64_t n = k.dim(2);
        if (causal == CausalMask::None) return n;
        const std::int64_t last = causal == CausalMask::TopLeft ? s : s + n - q.dim(2);
        return std::clamp<std::int64_t>(last + 1, 0, n);
    }

    /// Rows [first, end) of head (b, h); `out` has rows `row_stride` apart.
    void operator()(std::int64_t b, std::int64_t h, std::int64_t first, std::int64_t end, T* scores,
                    T* out, std::int64_t row_stride) const {
        const std::int64_t group = h / (q.dim(1) / k.dim(1));
        const std::int64_t rows = end - first;
        const std::int64_t width = visible(end - 1);
        const Matrix<T> keys = head<T>(k, b, group);
        gemm<T>(rows, width, q.dim(3), scale, head<T>(q, b, h).at(first, 0),
                {keys.data, keys.column_stride, keys.row_stride}, T{0}, scores, width);
        simd([&] {
            for (std::int64_t i = 0; i < rows; ++i) {
                T* row = scores + i * width;
                const std::int64_t n = visible(first + i);
                if (mask)
                    add_mask(
                        *mask,
                        b * mask->stride(0) + h * mask->stride(1) + (first + i) * mask->stride(2),
                        row, n);
                // A row that sees nothing is NaN, as 0 / 0.
                softmax_row(row, row, n);
                const T rest = n == 0 ? std::numeric_limits<T>::quiet_NaN() : T{0};
                for (std::int64_t t = n; t < width; ++t) row[t] = rest;
            }
        });
        gemm<T>(rows, v.dim(3), width, T{1}, {scores, width, 1}, head<T>(v, b, group), T{0}, out,
                row_stride);
        for (std::int64_t i = 0; i < rows && visible(first + i) == 0; ++i)
            std::fill_n(out + i * row_stride, v.dim(3), std::numeric_limits<T>::quiet_NaN());
    }
};

}  // namespace

Arrays eval(const op::Attention& op, EvalContext& ctx) {
    const DType dtype = ctx.result_dtype();
    const Array q = as_matrices(ctx.operand(op.q), ctx);
    const Array k = as_matrices(ctx.operand(op.k), ctx);
    const Array v = as_matrices(ctx.operand(op.v), ctx);
    const std::int64_t batch = q.dim(0);
    const std::int64_t heads = q.dim(1);
    const std::int64_t rows = q.dim(2);
    const std::int64_t length = k.dim(2);
    if (k.dim(0) != batch || v.dim(0) != batch || k.dim(1) != v.dim(1) || v.dim(2) != length ||
        q.dim(3) != k.dim(3) || (heads > 0 && (k.dim(1) == 0 || heads % k.dim(1) != 0)))
        ctx.fail("q " + Shape::of(q.shape()).to_string() + ", k " +
                 Shape::of(k.shape()).to_string() + " and v " + Shape::of(v.shape()).to_string() +
                 " do not fit");
    std::optional<Array> mask;
    if (op.mask) {
        const Array& given = ctx.operand(*op.mask);
        const Ints full = {batch, heads, rows, length};
        for (std::size_t a = 0; a < 4; ++a)
            if (given.dim(a) != full[a] && given.dim(a) != 1)
                ctx.fail("a mask of shape " + Shape::of(given.shape()).to_string() +
                         " for scores " + Shape::of(full).to_string());
        mask = widened(given, ctx).broadcast(full);
    }

    // Laid out as [B, S, H, E]: what follows mostly joins the heads, which then costs nothing.
    const std::int64_t width = v.dim(3);
    Array result = ctx.allocate(q.dtype(), {batch, rows, heads, width});
    const int threads = ctx.threads().threads();
    const std::int64_t share = (batch * heads * rows + 2 * threads - 1) / (2 * threads);
    const std::int64_t fitting = kScoreBytes / 4 / std::max<std::int64_t>(length, 1);
    const std::int64_t block =
        std::clamp<std::int64_t>(std::min(share, fitting), std::min<std::int64_t>(rows, 16),
                                 std::max<std::int64_t>(rows, 1));
    const std::int64_t blocks = (rows + block - 1) / block;
    if (result.size() > 0)
        dispatch_float(q.dtype(), [&]<class T>() {
            if constexpr (!is_half_type<T>) {
                const Attend<T> attend{q, k, v, mask, static_cast<T>(op.scale), op.causal};
                T* out = result.mutable_data<T>();
                const double cost = 0.03 * static_cast<double>(block * length) *
                                    static_cast<double>(q.dim(3) + width);
                ctx.parallel(
                    batch * heads * blocks, cost + 500, [&](std::int64_t begin, std::int64_t end) {
                        Array buffer = ctx.allocate(result.dtype(), {block * length});
                        for (std::int64_t task = begin; task < end; ++task) {
                            const std::int64_t b = task / (heads * blocks);
                            const std::int64_t h = task / blocks % heads;
                            const std::int64_t first = task % blocks * block;
                            attend(b, h, first, std::min(rows, first + block),
                                   buffer.mutable_data<T>(),
                                   out + ((b * rows + first) * heads + h) * width, heads * width);
                        }
                    });
            }
        });
    return {narrowed(result, dtype, ctx).permuted({0, 2, 1, 3})};
}

}  // namespace kn::cpu
