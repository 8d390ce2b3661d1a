#include "cpu/gemm.h"
#include "cpu/scalar_math.h"
#include "cpu/simd.h"
#include "cpu/strided.h"

namespace kn::cpu {

namespace {

/// The matrices of a batched operand: their strides, and where each starts.
struct Batch {
    Array x;
    Walk walk;  ///< over the leading axes
    std::int64_t row_stride;
    std::int64_t column_stride;

    std::int64_t offset(std::int64_t i) const {
        return Cursor(walk, walk.shape.size(), i).offset();
    }
};

Batch make_batch(Array x, const EvalContext& ctx) {
    const std::size_t r = x.rank();
    if (!is_matrix(x.dim(r - 2), x.dim(r - 1), x.stride(r - 2), x.stride(r - 1))) x = copy(x, ctx);
    const Ints shape(x.shape().begin(), x.shape().end() - 2);
    const Ints strides(x.strides().begin(), x.strides().end() - 2);
    Walk walk = collapse(shape, strides);
    const std::int64_t rows = x.stride(r - 2);
    const std::int64_t columns = x.stride(r - 1);
    return {std::move(x), std::move(walk), rows, columns};
}

/// Where all matrices of a are multiplied with one b, their rows are the rows of one tall matrix,
/// if memory allows.
std::optional<Array> as_tall_matrix(const Array& a, const Array& b) {
    const std::size_t r = a.rank();
    if (r <= 2) return std::nullopt;
    for (std::size_t i = 0; i + 2 < r; ++i)
        if (b.dim(i) != 1 && b.stride(i) != 0) return std::nullopt;
    const std::int64_t columns = a.dim(r - 1);
    if (a.size() == 0 || columns == 0) return std::nullopt;
    return a.reshaped({a.size() / columns, columns});
}

template <class T>
void multiply(const Array& a, const Array& b, Array& result, const EvalContext& ctx) {
    const std::size_t r = a.rank();
    const Batch x = make_batch(a, ctx);
    const Batch y = make_batch(b, ctx);
    const std::int64_t m = a.dim(r - 2);
    const std::int64_t n = b.dim(r - 1);
    T* out = result.mutable_data<T>();
    gemm_batch<T>(
        result.size() / (m * n), m, n, a.dim(r - 1), n,
        [&](std::int64_t i) {
            return Product<T>{{x.x.data<T>() + x.offset(i), x.row_stride, x.column_stride},
                              {y.x.data<T>() + y.offset(i), y.row_stride, y.column_stride},
                              out + i * m * n};
        },
        ctx);
}

template <class T>
void multiply_integers(const Array& a, const Array& b, Array& result, const EvalContext& ctx) {
    const std::size_t r = a.rank();
    const std::int64_t m = a.dim(r - 2);
    const std::int64_t n = b.dim(r - 1);
    const std::int64_t k = a.dim(r - 1);
    const Array x = a.is_contiguous() ? a : copy(a, ctx);
    const Array y = b.is_contiguous() ? b : copy(b, ctx);
    const T* left = x.data<T>();
    const T* right = y.data<T>();
    T* out = result.mutable_data<T>();
    ctx.parallel(result.size() / n, 0.3 * static_cast<double>(n) * static_cast<double>(k) + 5,
                 [&](std::int64_t begin, std::int64_t end) {
                     simd([&] {
                         for (std::int64_t row = begin; row < end; ++row) {
                             T* c = out + row * n;
                             std::fill_n(c, n, T{0});
                             for (std::int64_t p = 0; p < k; ++p) {
                                 const T factor = left[row * k + p];
                                 const T* line = right + (row / m * k + p) * n;
                                 for (std::int64_t j = 0; j < n; ++j)
                                     c[j] = scalar::kn_add(c[j], scalar::kn_mul(factor, line[j]));
                             }
                         }
                     });
                 });
}

}  // namespace

Arrays eval(const op::MatMul& op, EvalContext& ctx) {
    Array a = ctx.operand(op.a);
    Array b = ctx.operand(op.b);
    const std::size_t r = a.rank();
    Ints expected = a.shape();
    expected[r - 2] = a.dim(r - 1);
    expected[r - 1] = b.dim(r - 1);
    if (b.shape() != expected)
        ctx.fail("operands of shapes " + Shape::of(a.shape()).to_string() + " and " +
                 Shape::of(b.shape()).to_string());
    const Ints shape = ctx.result_shape();
    const DType dtype = ctx.result_dtype();
    const DType compute = is_half(dtype) ? DType::F32 : dtype;
    Array result = ctx.allocate(compute, shape);
    if (result.size() == 0) return {ctx.result()};
    if (const auto tall = as_tall_matrix(a, b)) {
        a = *tall;
        b = b.view({b.dim(r - 2), b.dim(r - 1)}, {b.stride(r - 2), b.stride(r - 1)});
    }
    if (is_half(dtype)) {
        a = widened(a, ctx);
        b = widened(b, ctx);
    }
    dispatch(compute, [&]<class T>() {
        if constexpr (std::is_floating_point_v<T>)
            multiply<T>(a, b, result, ctx);
        else if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>)
            multiply_integers<T>(a, b, result, ctx);
        else
            ctx.fail("no " + std::string(name_of(dtype)));
    });
    return {narrowed(result, dtype, ctx)};
}

}  // namespace kn::cpu
