#include "cpu/fft.h"
#include "cpu/lanes.h"

namespace kn::cpu {

Arrays eval(const op::Dft& op, EvalContext& ctx) {
    const Array x = ctx.contiguous(op.x);
    Array result = ctx.result();
    if (result.size() == 0) return {result};
    // Seen without the last axis, which makes an element of two numbers.
    const Lanes lanes = lanes_of(Ints(x.shape().begin(), x.shape().end() - 1), op.axis);
    const auto length = static_cast<std::size_t>(lanes.length);
    const Fft fft(length, op.inverse);
    const double scale = op.inverse ? 1.0 / static_cast<double>(length) : 1.0;
    dispatch_float(x.dtype(), [&]<class T>() {
        const T* in = x.data<T>();
        T* out = result.mutable_data<T>();
        ctx.parallel(
            lanes.outer * lanes.inner, 50.0 * static_cast<double>(length),
            [&](std::int64_t begin, std::int64_t end) {
                std::vector<std::complex<double>> data(length);
                for (std::int64_t l = begin; l < end; ++l) {
                    const std::int64_t start =
                        l / lanes.inner * lanes.length * lanes.inner + l % lanes.inner;
                    for (std::size_t k = 0; k < length; ++k) {
                        const std::int64_t at =
                            2 * (start + static_cast<std::int64_t>(k) * lanes.inner);
                        data[k] = {widen(in[at]), widen(in[at + 1])};
                    }
                    fft(data);
                    for (std::size_t k = 0; k < length; ++k) {
                        const std::int64_t at =
                            2 * (start + static_cast<std::int64_t>(k) * lanes.inner);
                        out[at] = narrow<T>(static_cast<Compute<T>>(data[k].real() * scale));
                        out[at + 1] = narrow<T>(static_cast<Compute<T>>(data[k].imag() * scale));
                    }
                }
            });
    });
    return {result};
}

}  // namespace kn::cpu
