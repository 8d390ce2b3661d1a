// Fourier transforms, windows, mel filters.
#include <array>
#include <cmath>
#include <numbers>

#include <fmt/core.h>

#include "onnx/import_util.h"

namespace kn::onnx {

namespace {

Var dft(Var x, std::size_t axis, bool inverse) {
    return add(x, op::Dft{x, static_cast<std::int64_t>(axis), inverse});
}

/// x with `length` elements along an axis: cut, or padded with zeros at the end.
Var with_length(Var x, std::size_t axis, const Dim& length) {
    if (x.shape()[axis] == length) return x;
    std::vector<Dim> before(x.rank(), 0), after(x.rank(), 0);
    after[axis] = length - x.shape()[axis];
    return pad(x, before, after, 0.0);
}

/// Real numbers [..., 1] as complex ones [..., 2].
Var as_complex(Node& node, Var x) {
    const Dim parts = x.shape()[x.rank() - 1];
    if (parts == 2) return x;
    if (!(parts == 1))
        node.broken(
            fmt::format("the last dim is {}, expected 1 (real) or 2 (complex)", parts.to_string()));
    std::vector<Dim> before(x.rank(), 0), after(x.rank(), 0);
    after.back() = 1;
    return pad(x, before, after, 0.0);
}

Dim bins_of(const Dim& length) { return floor_div(length, 2) + 1; }

/// The real signal of `length` whose one-sided spectrum is x: the missing bins are the conjugates
/// of the others.
Var inverse_real(Var x, std::size_t axis, const Dim& length) {
    Graph& g = *x.graph;
    const auto a = static_cast<std::int64_t>(axis);
    Var half = with_length(x, axis, bins_of(length));
    Var rest = flip(slice(half, a, 1, floor_div(length - 1, 2) + 1), a);
    Var sign = cast(g.constant(Tensor::from_span<float>({2}, std::array{1.0f, -1.0f})), x.dtype());
    Var signal = dft(concat({half, rest * sign}, a), axis, true);
    return slice(signal, -1, 0, 1);
}

std::vector<Var> import_dft(Node& node) {
    Var x = node.input(0);
    if (x.rank() < 2) node.broken("the input has no axis to transform");
    std::int64_t chosen = 1;
    if (node.opset() < 20) {
        chosen = node.attr_int("axis", 1);
    } else {
        chosen = -2;
        if (node.has_input(2)) {
            const Ints given = node.input_ints(2);
            if (given.size() != 1) node.broken("axis is not a scalar");
            chosen = given[0];
        }
    }
    const std::size_t axis = normalize_axis(chosen, x.rank());
    if (axis + 1 == x.rank())
        node.broken("the last axis, of real and imaginary parts, cannot be transformed");
    const bool inverse = node.attr_int("inverse", 0) != 0;
    const bool one_sided = node.attr_int("onesided", 0) != 0;
    Dim length = inverse && one_sided ? (x.shape()[axis] - 1) * 2 : x.shape()[axis];
    if (node.has_input(1)) {
        const auto given = node.input_dims(1, 1);
        if (given.size() != 1) node.broken("dft_length is not a scalar");
        length = given[0];
    }
    const DType dtype = x.dtype();
    x = as_complex(node, cast(x, wide_dtype(dtype)));
    if (inverse && one_sided) return {cast(inverse_real(x, axis, length), dtype)};
    Var y = dft(with_length(x, axis, length), axis, inverse);
    if (one_sided) y = slice(y, static_cast<std::int64_t>(axis), 0, bins_of(length));
    return {cast(y, dtype)};
}

/// signal [B, L, 1|2] -> [B, frames, bins, 2]
std::vector<Var> import_stft(Node& node) {
    Var signal = node.input(0);
    const auto window_input = node.optional_input(2);
    const bool one_sided = node.attr_int("onesided", 1) != 0;
    const DType dtype = signal.dtype();
    if (signal.rank() == 2) signal = unsqueeze(signal, {2});
    if (signal.rank() != 3)
        node.broken(fmt::format("the signal has rank {}, expected 3", signal.rank()));
    const Ints step = node.input_ints(1);
    if (step.size() != 1 || step[0] < 1) node.broken("frame_step is not a number above 0");
    Dim length = window_input ? window_input->shape().size() : signal.shape()[1];
    if (node.has_input(3)) {
        const auto given = node.input_dims(3, 1);
        if (given.size() != 1) node.broken("frame_length is not a scalar");
        length = given[0];
    }
    const bool real = signal.shape()[2] == 1;
    Var wide_signal = cast(signal, wide_dtype(dtype));
    // [B, frames, parts, length] -> [B, frames, length, parts]
    Var frames = permute(window(wide_signal, {1}, {length}, {step[0]}, {1}), {0, 1, 3, 2});
    if (window_input) frames = frames * reshape(cast(*window_input, frames.dtype()), {length, 1});
    Var y = dft(as_complex(node, frames), 2, false);
    if (one_sided) {
        if (!real) node.broken("a complex signal has no one-sided spectrum");
        y = slice(y, 2, 0, bins_of(length));
    }
    return {cast(y, dtype)};
}

/// sum over k of coefficients[k] * cos(2 pi k n / N), with N the size (periodic) or one less.
std::vector<Var> cosine_window(Node& node, std::initializer_list<double> coefficients) {
    Graph& g = node.graph();
    const auto size = node.input_dims(0);
    if (size.size() != 1) node.broken("size is not a scalar");
    const bool periodic = node.attr_int("periodic", 1) != 0;
    const DType dtype = node.attr_dtype("output_datatype").value_or(DType::F32);
    const Dim period = periodic ? size[0] : size[0] - 1;
    Var phase = cast(iota(g, size[0]), DType::F64) * (2 * std::numbers::pi) /
                cast(scalar_dim(g, period), DType::F64);
    Var y = full(g, DType::F64, {size[0]}, *coefficients.begin());
    double harmonic = 0;
    for (const double coefficient : coefficients) {
        if (harmonic > 0) y = y + cos(phase * harmonic) * coefficient;
        harmonic++;
    }
    return {cast(y, dtype)};
}

std::vector<Var> import_hann_window(Node& node) { return cosine_window(node, {0.5, -0.5}); }
std::vector<Var> import_hamming_window(Node& node) {
    return cosine_window(node, {25.0 / 46, -21.0 / 46});
}
std::vector<Var> import_blackman_window(Node& node) {
    return cosine_window(node, {0.42, -0.5, 0.08});
}

/// Triangular filters [dft_length / 2 + 1, num_mel_bins], evenly spaced on the mel scale 2595
/// log10(1 + f / 700).
std::vector<Var> import_mel_weight_matrix(Node& node) {
    auto whole = [&](std::size_t i, const char* name) {
        const Ints values = node.input_ints(i);
        if (values.size() != 1 || values[0] < 1 || values[0] > (1 << 24))
            node.broken(fmt::format("{} is not a number above 0", name));
        return values[0];
    };
    auto frequency = [&](std::size_t i, const char* name) {
        const auto values = node.input_floats(i);
        if (values.size() != 1 || !std::isfinite(values[0]) || values[0] < 0)
            node.broken(fmt::format("{} is not a frequency", name));
        return values[0];
    };
    const auto filters = whole(0, "num_mel_bins");
    const auto length = whole(1, "dft_length");
    const auto rate = whole(2, "sample_rate");
    const double low = frequency(3, "lower_edge_hertz");
    const double high = frequency(4, "upper_edge_hertz");
    const DType dtype = node.attr_dtype("output_datatype").value_or(DType::F32);
    const std::int64_t bins = length / 2 + 1;
    if (filters * bins > (std::int64_t{1} << 28))
        node.unsupported("a matrix of more than 2^28 elements");

    const double log10 = std::log(10.0);
    const double low_mel = 2595 * std::log1p(low / 700) / log10;
    const double high_mel = 2595 * std::log1p(high / 700) / log10;
    const double step = (high_mel - low_mel) / static_cast<double>(filters + 2);
    Ints edges;
    for (std::int64_t i = 0; i < filters + 2; ++i) {
        const double hertz =
            700 * std::expm1((static_cast<double>(i) * step + low_mel) / 2595 * log10);
        edges.push_back(static_cast<std::int64_t>(
            std::floor(static_cast<double>(length + 1) * hertz / static_cast<double>(rate))));
    }
    Tensor matrix = Tensor::zeros(DType::F64, {bins, filters});
    auto elements = matrix.mutable_data<double>();
    auto set = [&](std::int64_t bin, std::int64_t filter, double value) {
        if (bin < 0 || bin >= bins) node.broken("upper_edge_hertz lies above half the sample rate");
        elements[static_cast<std::size_t>(bin * filters + filter)] = value;
    };
    for (std::int64_t i = 0; i < filters; ++i) {
        const auto left = edges[static_cast<std::size_t>(i)];
        const auto centre = edges[static_cast<std::size_t>(i) + 1];
        const auto right = edges[static_cast<std::size_t>(i) + 2];
        if (left == centre) set(centre, i, 1);
        for (auto bin = left; bin <= centre && left < centre; bin++)
            set(bin, i, static_cast<double>(bin - left) / static_cast<double>(centre - left));
        for (auto bin = centre; bin < right; bin++)
            set(bin, i, static_cast<double>(right - bin) / static_cast<double>(right - centre));
    }
    return {node.graph().constant(matrix.cast(dtype))};
}

}  // namespace

std::vector<ImportRow> signal_rows() {
    return {
        {"", "DFT", 17, import_dft},
        {"", "STFT", 17, import_stft},
        {"", "HannWindow", 17, import_hann_window},
        {"", "HammingWindow", 17, import_hamming_window},
        {"", "BlackmanWindow", 17, import_blackman_window},
        {"", "MelWeightMatrix", 17, import_mel_weight_matrix},
    };
}

}  // namespace kn::onnx
