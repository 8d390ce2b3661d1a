#include <algorithm>
#include <cmath>

#include <kn/graph/error.h>

#include "ir/resize_taps.h"

namespace kn {

namespace {

/// The source coordinate of output position `i`.
double source_coordinate(ResizeCoordinates mode, const ResizeAxis& axis, double i) {
    const auto input = static_cast<double>(axis.input);
    // The size before rounding; it can differ from axis.output.
    const double length = axis.scale * input;
    const double half_pixel = (i + 0.5) / axis.scale - 0.5;
    switch (mode) {
        case ResizeCoordinates::HalfPixel: return half_pixel;
        case ResizeCoordinates::HalfPixelSymmetric: {
            const double adjustment = static_cast<double>(axis.output) / length;
            return input / 2 * (1 - adjustment) + half_pixel;
        }
        case ResizeCoordinates::PytorchHalfPixel: return length == 1 ? -0.5 : half_pixel;
        case ResizeCoordinates::AlignCorners:
            return length == 1 ? 0 : i * (input - 1) / (length - 1);
        case ResizeCoordinates::Asymmetric: return i / axis.scale;
        case ResizeCoordinates::TfHalfPixelForNn: return (i + 0.5) / axis.scale;
        case ResizeCoordinates::TfCropAndResize: {
            const double extent = (axis.roi_end - axis.roi_start) * (input - 1);
            const double offset = length == 1 ? extent / 2 : i * extent / (length - 1);
            return axis.roi_start * (input - 1) + offset;
        }
    }
    return half_pixel;
}

// Of all output elements together; real ones stay far below.
constexpr double max_taps = 1e8;

/// Whether the nearest of two neighbours is the upper one, which lies 1 - ratio away; ratio in (0,
/// 1].
bool takes_upper(NearestMode mode, double ratio) {
    if (ratio == 1) return true;
    switch (mode) {
        case NearestMode::RoundPreferFloor: return ratio > 0.5;
        case NearestMode::RoundPreferCeil: return ratio >= 0.5;
        case NearestMode::Floor: return false;
        case NearestMode::Ceil: return true;
    }
    return false;
}

/// The interpolation kernel at distance x: a triangle, or Keys' cubic.
double kernel(const op::Resize& op, double x) {
    x = std::abs(x);
    if (op.mode == ResizeMode::Linear) return std::max(0.0, 1 - x);
    const double a = op.cubic_a;
    if (x <= 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2) return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
    return 0;
}

bool is_identity(const op::Resize& op, const ResizeAxis& axis) {
    if (axis.scale != 1 || axis.input != axis.output) return false;
    switch (op.coordinates) {
        case ResizeCoordinates::TfCropAndResize: return axis.roi_start == 0 && axis.roi_end == 1;
        case ResizeCoordinates::TfHalfPixelForNn: return false;
        default: return true;
    }
}

}  // namespace

ResizeTaps resize_taps(const op::Resize& op, const ResizeAxis& axis) {
    ResizeTaps result;
    result.identity = is_identity(op, axis);
    const bool nearest = op.mode == ResizeMode::Nearest;
    // Taps reach `radius` source positions to both sides; shrinking with antialias widens them.
    const double support = op.mode == ResizeMode::Linear ? 1 : 2;
    const double shrink = op.antialias ? std::min(axis.scale, 1.0) : 1.0;
    const double reach = nearest ? 1 : std::floor(-support / shrink) + 1;
    if (!(std::abs(reach) * static_cast<double>(axis.output) < max_taps))
        throw GraphError("Resize by " + std::to_string(axis.scale) + " weighs too many elements");
    const auto first = nearest ? 0 : static_cast<std::int64_t>(reach);
    result.taps = nearest ? 1 : static_cast<std::size_t>(2 - 2 * first);

    const auto limit = static_cast<double>(axis.input);
    for (std::int64_t i = 0; i < axis.output; ++i) {
        const double x = source_coordinate(op.coordinates, axis, static_cast<double>(i));
        result.outside.push_back(op.coordinates == ResizeCoordinates::TfCropAndResize &&
                                 !(x >= 0 && x <= limit - 1));
        // Far outside, every tap is the edge element; the bound keeps the conversion defined.
        const double bounded = std::isnan(x) ? 0 : std::clamp(x, -1e15, 1e15);
        const double lower = std::ceil(bounded) - 1;
        const double ratio = bounded - lower;
        const auto base = static_cast<std::int64_t>(lower);
        if (nearest) {
            const std::int64_t at = base + (takes_upper(op.nearest, ratio) ? 1 : 0);
            result.positions.push_back(std::clamp<std::int64_t>(at, 0, axis.input - 1));
            result.weights.push_back(1);
            continue;
        }
        double total = 0;
        const std::size_t start = result.weights.size();
        for (std::size_t t = 0; t < result.taps; ++t) {
            const std::int64_t offset = first + static_cast<std::int64_t>(t);
            const std::int64_t at = base + offset;
            const bool excluded = op.exclude_outside && (at < 0 || at >= axis.input);
            const double weight =
                excluded ? 0 : kernel(op, (static_cast<double>(offset) - ratio) * shrink);
            result.positions.push_back(std::clamp<std::int64_t>(at, 0, axis.input - 1));
            result.weights.push_back(weight);
            total += weight;
        }
        // Without these two, the weights sum to 1 already.
        if ((op.antialias || op.exclude_outside) && total != 0)
            for (std::size_t t = start; t < result.weights.size(); ++t) result.weights[t] /= total;
    }
    return result;
}

}  // namespace kn
