#include "cpu/conv.h"

#include <cstring>

#include "cpu/gemm.h"

namespace kn::cpu {

namespace {

// The bytes of a thread's columns: a few times the second-level cache, since BLAS reads them block
// by block.
constexpr std::int64_t kPanelBytes = 2 << 20;

/// Row `k` (channel, kernel position) of the column matrix for the results [begin, end).
template <class T>
void fill_row(const ConvShape& s, const T* x, std::int64_t k, std::int64_t begin, std::int64_t end,
              T* to) {
    const std::int64_t kw = k % s.kernel[2];
    const std::int64_t kh = k / s.kernel[2] % s.kernel[1];
    const std::int64_t kd = k / (s.kernel[2] * s.kernel[1]) % s.kernel[0];
    const T* channel = x + k / s.kernel_size() * s.in_size();
    const std::int64_t shift = kw * s.dilation[2] - s.before[2];
    const Range valid = valid_range(s.out[2], s.in[2], s.stride[2], shift);
    for (std::int64_t o = begin; o < end;) {
        const std::int64_t row = o / s.out[2];
        const std::int64_t first = o % s.out[2];
        const std::int64_t last = std::min(s.out[2], first + end - o);
        const std::int64_t h = row % s.out[1] * s.stride[1] + kh * s.dilation[1] - s.before[1];
        const std::int64_t d = row / s.out[1] * s.stride[0] + kd * s.dilation[0] - s.before[0];
        const bool inside = h >= 0 && h < s.in[1] && d >= 0 && d < s.in[0];
        const std::int64_t from = inside ? std::clamp(valid.begin, first, last) : last;
        const std::int64_t until = inside ? std::clamp(valid.end, from, last) : last;
        for (std::int64_t i = first; i < from; ++i) *to++ = T{0};
        if (from < until) {
            const T* line = channel + (d * s.in[1] + h) * s.in[2] + shift;
            if (s.stride[2] == 1)
                std::memcpy(to, line + from, static_cast<std::size_t>(until - from) * sizeof(T));
            else
                for (std::int64_t i = from; i < until; ++i) to[i - from] = line[i * s.stride[2]];
            to += until - from;
        }
        for (std::int64_t i = until; i < last; ++i) *to++ = T{0};
        o += last - first;
    }
}

/// A result too small to share out by columns: they are made first, then the product is shared out
/// by rows too.
template <class T>
void by_product(const ConvShape& s, const T* x, const T* w, T* out, T* columns,
                const EvalContext& ctx) {
    const std::int64_t k = s.channels * s.kernel_size();
    const std::int64_t n = s.out_size();
    const bool direct = s.is_pointwise();
    for (std::int64_t image = 0; image < s.batch; ++image) {
        const T* from = x + image * s.groups * s.channels * s.in_size();
        if (!direct)
            ctx.parallel(s.groups * k, 0.4 * static_cast<double>(n) + 10,
                         [&](std::int64_t begin, std::int64_t end) {
                             for (std::int64_t row = begin; row < end; ++row)
                                 fill_row(s, from, row, 0, n, columns + row * n);
                         });
        const T* matrix = direct ? from : columns;
        gemm_batch<T>(
            s.groups, s.filters, n, k, n,
            [&](std::int64_t g) {
                return Product<T>{{w + g * s.filters * k, k, 1},
                                  {matrix + g * k * n, n, 1},
                                  out + (image * s.groups + g) * s.filters * n};
            },
            ctx);
    }
}

/// Panels of the result, each with columns of its own.
template <class T>
void by_panels(const ConvShape& s, const T* x, const T* w, T* out, std::int64_t panel,
               const EvalContext& ctx) {
    const std::int64_t k = s.channels * s.kernel_size();
    const std::int64_t n = s.out_size();
    const std::int64_t panels = (n + panel - 1) / panel;
    const double cost =
        0.03 * static_cast<double>(k) * static_cast<double>(panel) * static_cast<double>(s.filters);
    ctx.parallel(s.batch * s.groups * panels, cost, [&](std::int64_t first, std::int64_t last) {
        Array buffer = ctx.allocate(dtype_of<T>(), {k * panel});
        T* columns = buffer.mutable_data<T>();
        for (std::int64_t task = first; task < last; ++task) {
            const std::int64_t group = task / panels;  // counted over all images
            const std::int64_t begin = task % panels * panel;
            const std::int64_t end = std::min(n, begin + panel);
            const std::int64_t width = end - begin;
            const T* from = x + group * s.channels * s.in_size();
            for (std::int64_t row = 0; row < k; ++row)
                fill_row(s, from, row, begin, end, columns + row * width);
            gemm<T>(s.filters, width, k, T{1}, {w + group % s.groups * s.filters * k, k, 1},
                    {columns, width, 1}, T{0}, out + group * s.filters * n + begin, n);
        }
    });
}

template <class T>
void convolve(const ConvShape& s, const T* x, const T* w, T* out, const EvalContext& ctx) {
    if (s.channels == 1 && s.groups > 1) return depthwise(s, x, w, out, ctx);
    const std::int64_t k = s.channels * s.kernel_size();
    const std::int64_t n = s.out_size();
    const auto bytes = static_cast<double>(k * n) * static_cast<double>(s.groups) * sizeof(T);
    const int threads = ctx.threads().threads();
    if (s.is_pointwise()) return by_product<T>(s, x, w, out, nullptr, ctx);
    if (s.batch * s.groups < 2 * threads && bytes <= kPanelBytes * threads) {
        Array buffer = ctx.allocate(dtype_of<T>(), {s.groups * k * n});
        return by_product(s, x, w, out, buffer.mutable_data<T>(), ctx);
    }
    const std::int64_t fitting =
        kPanelBytes / static_cast<std::int64_t>(sizeof(T)) / std::max<std::int64_t>(k, 1);
    const std::int64_t shared = (s.batch * s.groups * n + 4 * threads - 1) / (4 * threads);
    const std::int64_t panel =
        std::clamp<std::int64_t>(std::min(fitting, shared), std::min<std::int64_t>(n, 64), n);
    by_panels(s, x, w, out, panel, ctx);
}

}  // namespace

Array conv_operand(const Array& x, const EvalContext& ctx) {
    return is_int(x.dtype()) ? narrowed(x, DType::F64, ctx) : widened(x, ctx);
}

Arrays eval(const op::Conv& op, EvalContext& ctx) {
    const DType dtype = ctx.result_dtype();
    const Array x = conv_operand(ctx.contiguous(op.x), ctx);
    const Array w = conv_operand(ctx.contiguous(op.w), ctx);
    Array result = ctx.allocate(x.dtype(), ctx.result_shape());
    const ConvShape s = conv_shape(x.shape(), result.shape(), w.shape(), op.strides, op.dilations,
                                   ctx.eval(op.pads_before), op.groups);
    if (w.dim(0) != s.groups * s.filters || x.dim(1) != s.groups * s.channels ||
        w.dim(1) != s.channels)
        ctx.fail("x " + Shape::of(x.shape()).to_string() + " and w " +
                 Shape::of(w.shape()).to_string() + " do not fit");
    if (result.size() > 0)
        dispatch_float(x.dtype(), [&]<class T>() {
            if constexpr (!is_half_type<T>)
                convolve<T>(s, x.data<T>(), w.data<T>(), result.mutable_data<T>(), ctx);
        });
    return {narrowed(result, dtype, ctx)};
}

}  // namespace kn::cpu
