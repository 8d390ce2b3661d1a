#include "cpu/conv.h"
#include "cpu/simd.h"

namespace kn::cpu {

namespace {

/// y[o] += w * x[o * stride + shift] over the valid part of a row, for each kernel column.
template <class T>
void add_row(const ConvShape& s, const T* line, const T* w, T* y) {
    for (std::int64_t k = 0; k < s.kernel[2]; ++k) {
        const std::int64_t shift = k * s.dilation[2] - s.before[2];
        const Range valid = valid_range(s.out[2], s.in[2], s.stride[2], shift);
        const T factor = w[k];
        const T* from = line + shift;
        if (s.stride[2] == 1) {
            for (std::int64_t o = valid.begin; o < valid.end; ++o) y[o] += factor * from[o];
        } else if (s.stride[2] == 2) {
            for (std::int64_t o = valid.begin; o < valid.end; ++o) y[o] += factor * from[2 * o];
        } else {
            for (std::int64_t o = valid.begin; o < valid.end; ++o)
                y[o] += factor * from[s.stride[2] * o];
        }
    }
}

template <class T>
void plane(const ConvShape& s, const T* x, const T* w, T* out) {
    for (std::int64_t row = 0; row < s.out[0] * s.out[1]; ++row) {
        T* y = out + row * s.out[2];
        for (std::int64_t o = 0; o < s.out[2]; ++o) y[o] = T{0};
        for (std::int64_t kd = 0; kd < s.kernel[0]; ++kd) {
            const std::int64_t d = row / s.out[1] * s.stride[0] + kd * s.dilation[0] - s.before[0];
            if (d < 0 || d >= s.in[0]) continue;
            for (std::int64_t kh = 0; kh < s.kernel[1]; ++kh) {
                const std::int64_t h =
                    row % s.out[1] * s.stride[1] + kh * s.dilation[1] - s.before[1];
                if (h < 0 || h >= s.in[1]) continue;
                add_row(s, x + (d * s.in[1] + h) * s.in[2],
                        w + (kd * s.kernel[1] + kh) * s.kernel[2], y);
            }
        }
    }
}

}  // namespace

template <class T>
void depthwise(const ConvShape& s, const T* x, const T* w, T* out, const EvalContext& ctx) {
    const double cost =
        0.3 * static_cast<double>(s.kernel_size()) * static_cast<double>(s.out_size()) + 20;
    const std::int64_t results = s.groups * s.filters;  // planes of an image
    ctx.parallel(s.batch * results, cost, [&](std::int64_t begin, std::int64_t end) {
        simd([&] {
            for (std::int64_t p = begin; p < end; ++p) {
                const std::int64_t channel = p / results * s.groups + p % results / s.filters;
                plane(s, x + channel * s.in_size(), w + p % results * s.kernel_size(),
                      out + p * s.out_size());
            }
        });
    });
}

template void depthwise<float>(const ConvShape&, const float*, const float*, float*,
                               const EvalContext&);
template void depthwise<double>(const ConvShape&, const double*, const double*, double*,
                                const EvalContext&);

}  // namespace kn::cpu
