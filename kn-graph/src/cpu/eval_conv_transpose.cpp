#include "cpu/conv.h"
#include "cpu/gemm.h"

namespace kn::cpu {

namespace {

constexpr std::int64_t kBufferBytes = 4 << 20;

/// Adds a row of products (one result channel, one kernel position, all positions of x) to where
/// they belong. `s` is the geometry of the convolution whose gradient this is: s.in is our result,
/// s.out is our x.
template <class T>
void scatter_row(const ConvShape& s, const T* products, std::int64_t k, T* plane) {
    const std::int64_t kw = k % s.kernel[2];
    const std::int64_t kh = k / s.kernel[2] % s.kernel[1];
    const std::int64_t kd = k / (s.kernel[2] * s.kernel[1]);
    const std::int64_t shift = kw * s.dilation[2] - s.before[2];
    const Range valid = valid_range(s.out[2], s.in[2], s.stride[2], shift);
    for (std::int64_t row = 0; row < s.out[0] * s.out[1]; ++row) {
        const std::int64_t h = row % s.out[1] * s.stride[1] + kh * s.dilation[1] - s.before[1];
        const std::int64_t d = row / s.out[1] * s.stride[0] + kd * s.dilation[0] - s.before[0];
        if (h < 0 || h >= s.in[1] || d < 0 || d >= s.in[0]) continue;
        T* line = plane + (d * s.in[1] + h) * s.in[2] + shift;
        const T* from = products + row * s.out[2];
        for (std::int64_t o = valid.begin; o < valid.end; ++o) line[o * s.stride[2]] += from[o];
    }
}

template <class T>
void transpose_convolve(const ConvShape& s, const T* x, const T* w, T* out,
                        const EvalContext& ctx) {
    const std::int64_t kernel = s.kernel_size();
    const std::int64_t columns = s.out_size();
    // Blocks of result channels, so that no two tasks write the same place.
    const std::int64_t bytes_per_channel =
        std::max<std::int64_t>(kernel * columns * static_cast<std::int64_t>(sizeof(T)), 1);
    const std::int64_t share = (s.batch * s.groups * s.channels + 4 * ctx.threads().threads() - 1) /
                               (4 * ctx.threads().threads());
    const std::int64_t block =
        std::clamp<std::int64_t>(std::min(kBufferBytes / bytes_per_channel, share), 1, s.channels);
    const std::int64_t blocks = (s.channels + block - 1) / block;
    const double cost =
        0.05 * static_cast<double>(block * kernel * s.filters) * static_cast<double>(columns) + 100;
    ctx.parallel(s.batch * s.groups * blocks, cost, [&](std::int64_t begin, std::int64_t end) {
        Array buffer = ctx.allocate(dtype_of<T>(), {block * kernel * columns});
        T* products = buffer.mutable_data<T>();
        for (std::int64_t task = begin; task < end; ++task) {
            const std::int64_t group = task / blocks;  // counted over all images
            const std::int64_t first = task % blocks * block;
            const std::int64_t count = std::min(block, s.channels - first);
            const T* weights = w + (group % s.groups * s.filters * s.channels + first) * kernel;
            gemm<T>(count * kernel, columns, s.filters, T{1}, {weights, 1, s.channels * kernel},
                    {x + group * s.filters * columns, columns, 1}, T{0}, products, columns);
            T* planes = out + (group * s.channels + first) * s.in_size();
            std::fill_n(planes, count * s.in_size(), T{0});
            for (std::int64_t k = 0; k < count * kernel; ++k)
                scatter_row(s, products + k * columns, k % kernel,
                            planes + k / kernel * s.in_size());
        }
    });
}

}  // namespace

Arrays eval(const op::ConvTranspose& op, EvalContext& ctx) {
    const DType dtype = ctx.result_dtype();
    const Array x = conv_operand(ctx.contiguous(op.x), ctx);
    const Array w = conv_operand(ctx.contiguous(op.w), ctx);
    Array result = ctx.allocate(x.dtype(), ctx.result_shape());
    const ConvShape s = conv_shape(result.shape(), x.shape(), w.shape(), op.strides, op.dilations,
                                   ctx.eval(op.pads_before), op.groups);
    if (w.dim(0) != x.dim(1) || w.dim(1) != s.channels || x.dim(0) != s.batch)
        ctx.fail("x " + Shape::of(x.shape()).to_string() + " and w " +
                 Shape::of(w.shape()).to_string() + " do not fit");
    if (result.size() > 0)
        dispatch_float(x.dtype(), [&]<class T>() {
            if constexpr (!is_half_type<T>)
                transpose_convolve<T>(s, x.data<T>(), w.data<T>(), result.mutable_data<T>(), ctx);
        });
    return {narrowed(result, dtype, ctx)};
}

}  // namespace kn::cpu
