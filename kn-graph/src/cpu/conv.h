// The geometry of a convolution, always with three spatial axes.
#pragma once

#include <algorithm>
#include <array>

#include "cpu/dispatch.h"
#include "cpu/eval.h"

namespace kn::cpu {

using Three = std::array<std::int64_t, 3>;

struct ConvShape {
    std::int64_t batch, groups;
    std::int64_t channels, filters;  ///< in each group: of x, of the result
    Three in, out, kernel, stride, dilation, before;

    std::int64_t in_size() const { return in[0] * in[1] * in[2]; }
    std::int64_t out_size() const { return out[0] * out[1] * out[2]; }
    std::int64_t kernel_size() const { return kernel[0] * kernel[1] * kernel[2]; }
    /// One element of the kernel for each element, in place.
    bool is_pointwise() const {
        return kernel_size() == 1 && stride == Three{1, 1, 1} && before == Three{0, 0, 0} &&
               in == out;
    }
};

/// From the shapes of x, result and weights. Missing axes have size 1.
inline ConvShape conv_shape(const Ints& in, const Ints& out, const Ints& kernel,
                            const Ints& strides, const Ints& dilations, const Ints& before,
                            std::int64_t groups) {
    ConvShape s{.batch = in[0],
                .groups = groups,
                .channels = in[1] / groups,
                .filters = out[1] / groups,
                .in = {1, 1, 1},
                .out = {1, 1, 1},
                .kernel = {1, 1, 1},
                .stride = {1, 1, 1},
                .dilation = {1, 1, 1},
                .before = {0, 0, 0}};
    const std::size_t n = strides.size();
    for (std::size_t i = 0; i < n; ++i) {
        const std::size_t a = 3 - n + i;
        s.in[a] = in[2 + i];
        s.out[a] = out[2 + i];
        s.kernel[a] = kernel[2 + i];
        s.stride[a] = strides[i];
        s.dilation[a] = dilations[i];
        s.before[a] = before[i];
    }
    return s;
}

/// The positions o in [0, out) with 0 <= o * stride + shift < in.
struct Range {
    std::int64_t begin, end;
};
inline Range valid_range(std::int64_t out, std::int64_t in, std::int64_t stride,
                         std::int64_t shift) {
    const std::int64_t begin = shift >= 0 ? 0 : (-shift + stride - 1) / stride;
    const std::int64_t end = in - shift <= 0 ? 0 : (in - shift - 1) / stride + 1;
    const std::int64_t first = std::min(begin, out);
    return {first, std::max(first, std::min(end, out))};
}

/// An operand in the dtype in which the kernels work: f32 for half types, and f64 for integers,
/// which is exact as long as sums stay below 2^53.
Array conv_operand(const Array& x, const EvalContext& ctx);

/// Every filter reads one channel of its own group alone: a direct loop, without matrices.
template <class T>
void depthwise(const ConvShape& s, const T* x, const T* w, T* out, const EvalContext& ctx);

}  // namespace kn::cpu
