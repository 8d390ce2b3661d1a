// Resize as gathers, or (of many taps) as products with interpolation matrices; Dft as a product
// with the matrix of cosines and sines.
#include <fmt/core.h>

#include <algorithm>

#include "ir/decompose_parts.h"
#include "ir/resize_taps.h"
#include "ir/unit_root.h"

namespace kn::decomposition {

namespace {

constexpr std::int64_t kLargestTransform = 4096;
constexpr std::size_t kFewTaps = 4;

std::int64_t number(const Dim& dim, const char* what) {
    if (!dim.is_constant())
        throw GraphError(
            fmt::format("{} of size {}: only a size that is a number can be decomposed", what,
                        dim.to_string()));
    return dim.value();
}

ResizeTaps taps_along(const op::Resize& op, std::size_t j, const Shape& shape) {
    const std::int64_t input = number(shape[static_cast<std::size_t>(op.axes[j])], "a Resize");
    const std::int64_t output = number(op.sizes[j], "a Resize");
    const double scale =
        op.scales[j] > 0
            ? op.scales[j]
            : static_cast<double>(output) / static_cast<double>(std::max<std::int64_t>(input, 1));
    const bool crop = !op.roi.empty();
    return resize_taps(op, {.input = input,
                            .output = output,
                            .scale = scale,
                            .roi_start = crop ? op.roi[j] : 0,
                            .roi_end = crop ? op.roi[op.axes.size() + j] : 1});
}

/// [input, output]
Var interpolation_matrix(Var like, const ResizeTaps& taps, std::int64_t input) {
    const auto output = static_cast<std::int64_t>(taps.outside.size());
    std::vector<double> matrix(static_cast<std::size_t>(input * output));
    for (std::size_t j = 0; j < taps.outside.size(); ++j)
        for (std::size_t t = j * taps.taps; t < (j + 1) * taps.taps; ++t)
            matrix[static_cast<std::size_t>(taps.positions[t] * output) + j] += taps.weights[t];
    return float_constant(like, {input, output}, matrix);
}

/// Where few neighbours count: one gather for each, times its weight.
Var interpolated(Var x, std::int64_t axis, const ResizeTaps& taps) {
    const std::size_t count = taps.outside.size();
    std::optional<Var> total;
    for (std::size_t t = 0; t < taps.taps; ++t) {
        Ints positions(count);
        std::vector<double> weights(count);
        for (std::size_t j = 0; j < count; ++j) {
            positions[j] = taps.positions[j * taps.taps + t];
            weights[j] = taps.weights[j * taps.taps + t];
        }
        Ints shape(x.rank(), 1);
        shape[static_cast<std::size_t>(axis)] = static_cast<std::int64_t>(count);
        const Var part =
            gather(x, vector_i64(*x.graph, positions), axis) * float_constant(x, shape, weights);
        total = total ? *total + part : part;
    }
    return *total;
}

/// The extrapolation value where it takes the place of what was interpolated.
Var extrapolated(const op::Resize& op, Var x, std::int64_t axis, const ResizeTaps& taps) {
    if (std::none_of(taps.outside.begin(), taps.outside.end(), [](bool o) { return o; })) return x;
    std::vector<std::uint8_t> flags(taps.outside.begin(), taps.outside.end());
    Ints shape(x.rank(), 1);
    shape[static_cast<std::size_t>(axis)] = static_cast<std::int64_t>(flags.size());
    const Var outside =
        x.graph->constant(Tensor::from_span<std::uint8_t>(shape, flags).cast(DType::Bool));
    return select(outside, scalar_like(x, op.extrapolation), x);
}

}  // namespace

Vars parts(const op::Resize& op, Graph& graph) {
    const bool nearest = op.mode == ResizeMode::Nearest;
    Var x = nearest ? graph.var(op.x) : widened(graph, op.x);
    for (std::size_t j = 0; j < op.axes.size(); ++j) {
        const std::int64_t axis = op.axes[j];
        const ResizeTaps taps = taps_along(op, j, x.shape());
        if (taps.identity) continue;
        if (nearest) {
            x = gather(x, vector_i64(graph, taps.positions), axis);
        } else if (taps.taps <= kFewTaps) {
            x = interpolated(x, axis, taps);
        } else {
            const std::int64_t input = x.shape()[static_cast<std::size_t>(axis)].value();
            x = axis_from_end(linear(axis_to_end(x, axis), interpolation_matrix(x, taps, input)),
                              axis);
        }
        x = extrapolated(op, x, axis, taps);
    }
    return {cast(x, graph.dtype(op.x))};
}

Vars parts(const op::Dft& op, Graph& graph) {
    const Var x = widened(graph, op.x);
    const std::int64_t length = number(x.shape()[static_cast<std::size_t>(op.axis)], "a Dft");
    if (length > kLargestTransform)
        throw GraphError(fmt::format("a Dft of length {} is too long for a matrix (up to {})",
                                     length, kLargestTransform));
    // Rows (t, real or imaginary part of the input), columns (k, part of the output).
    const auto n = static_cast<std::size_t>(length);
    std::vector<double> matrix(4 * n * n);
    const double scale = op.inverse ? 1.0 / static_cast<double>(length) : 1.0;
    for (std::size_t t = 0; t < n; ++t)
        for (std::size_t k = 0; k < n; ++k) {
            const auto root = unit_root(t * k, n) * scale;
            const double imaginary = op.inverse ? root.imag() : -root.imag();
            double* top = matrix.data() + 2 * t * 2 * n + 2 * k;
            double* bottom = top + 2 * n;
            top[0] = bottom[1] = root.real();
            top[1] = imaginary;
            bottom[0] = -imaginary;
        }
    // [..., axis, ..., 2] to [..., ..., axis, 2] to [..., ..., 2 axis] and back.
    const std::int64_t last = static_cast<std::int64_t>(x.rank()) - 1;
    Ints perm;
    for (std::int64_t a = 0; a < last; ++a)
        if (a != op.axis) perm.push_back(a);
    perm.push_back(op.axis);
    perm.push_back(last);
    const Var moved = permute(x, perm);
    Shape joined = moved.shape().slice(0, static_cast<std::size_t>(last) - 1);
    joined.push_back(2 * length);
    const Var product =
        linear(reshape(moved, joined), float_constant(x, {2 * length, 2 * length}, matrix));
    Ints back(perm.size());
    for (std::size_t a = 0; a < perm.size(); ++a)
        back[static_cast<std::size_t>(perm[a])] = static_cast<std::int64_t>(a);
    return {cast(permute(reshape(product, moved.shape()), back), graph.dtype(op.x))};
}

}  // namespace kn::decomposition
