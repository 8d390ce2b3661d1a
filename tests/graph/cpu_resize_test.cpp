// Resize and GridSample on the CPU, against their definitions as sums over all source positions.
#include <gmock/gmock.h>

#include "cpu_reference.h"

namespace kn {
namespace {

using namespace reference;

struct Axis {
    std::int64_t in, out;
    double scale, roi_start = 0, roi_end = 1;
};

double source_of(ResizeCoordinates mode, const Axis& a, double i) {
    const double in = static_cast<double>(a.in), length = a.scale * in;
    switch (mode) {
        case ResizeCoordinates::HalfPixel: return (i + 0.5) / a.scale - 0.5;
        case ResizeCoordinates::HalfPixelSymmetric:
            return in / 2 * (1 - static_cast<double>(a.out) / length) + (i + 0.5) / a.scale - 0.5;
        case ResizeCoordinates::PytorchHalfPixel:
            return length == 1 ? -0.5 : (i + 0.5) / a.scale - 0.5;
        case ResizeCoordinates::AlignCorners: return length == 1 ? 0 : i * (in - 1) / (length - 1);
        case ResizeCoordinates::Asymmetric: return i / a.scale;
        case ResizeCoordinates::TfHalfPixelForNn: return (i + 0.5) / a.scale;
        case ResizeCoordinates::TfCropAndResize:
            return length == 1 ? 0.5 * (a.roi_start + a.roi_end) * (in - 1)
                               : a.roi_start * (in - 1) +
                                     i * (a.roi_end - a.roi_start) * (in - 1) / (length - 1);
    }
    return 0;
}

double kernel(const op::Resize& op, double x) {
    x = std::abs(x);
    const double a = op.cubic_a;
    if (op.mode == ResizeMode::Linear) return x < 1 ? 1 - x : 0;
    if (x < 1) return (a + 2) * x * x * x - (a + 3) * x * x + 1;
    return x < 2 ? a * x * x * x - 5 * a * x * x + 8 * a * x - 4 * a : 0;
}

/// The row of the interpolation matrix of one output position; empty: extrapolated.
std::vector<double> weights_of(const op::Resize& op, const Axis& a, std::int64_t i) {
    const double x = source_of(op.coordinates, a, static_cast<double>(i));
    std::vector<double> row(a.in);
    const auto clamp = [&](double at) {
        return static_cast<std::size_t>(std::clamp<double>(at, 0, a.in - 1.0));
    };
    if (op.coordinates == ResizeCoordinates::TfCropAndResize && (x < 0 || x > a.in - 1.0))
        return {};
    if (op.mode == ResizeMode::Nearest) {
        const double at = op.nearest == NearestMode::Floor              ? std::floor(x)
                          : op.nearest == NearestMode::Ceil             ? std::ceil(x)
                          : op.nearest == NearestMode::RoundPreferFloor ? std::ceil(x - 0.5)
                                                                        : std::floor(x + 0.5);
        row[clamp(at)] = 1;
        return row;
    }
    const double shrink = op.antialias ? std::min(1.0, a.scale) : 1;
    double total = 0;
    for (std::int64_t k = -60; k < a.in + 60; ++k) {
        if (op.exclude_outside && (k < 0 || k >= a.in)) continue;
        const double w = kernel(op, (static_cast<double>(k) - x) * shrink);
        row[clamp(static_cast<double>(k))] += w;
        total += w;
    }
    for (double& w : row) w /= total;
    return row;
}

/// x [2, in0, in1] over its last two axes.
std::vector<double> expected_resize(const op::Resize& op, const Tensor& x, const Axis& a,
                                    const Axis& b) {
    std::vector<double> out;
    for (std::int64_t c = 0; c < x.shape()[0]; ++c)
        for (std::int64_t i = 0; i < a.out; ++i)
            for (std::int64_t j = 0; j < b.out; ++j) {
                const auto p = weights_of(op, a, i), q = weights_of(op, b, j);
                double sum = p.empty() || q.empty() ? op.extrapolation : 0;
                for (std::size_t k = 0; k < p.size(); ++k)
                    for (std::size_t l = 0; l < q.size(); ++l)
                        sum += p[k] * q[l] *
                               x.at((c * a.in + static_cast<std::int64_t>(k)) * b.in +
                                    static_cast<std::int64_t>(l));
                out.push_back(sum);
            }
    return out;
}

op::Resize resize(ResizeMode mode, ResizeCoordinates coordinates) {
    op::Resize op{};
    op.axes = {1, 2};
    op.mode = mode, op.coordinates = coordinates;
    op.cubic_a = -0.75, op.extrapolation = 10;
    return op;
}

void check_resize(op::Resize op, const Axis& a, const Axis& b, DType dtype = DType::F32,
                  double tolerance = 1e-5) {
    op.sizes = {a.out, b.out};
    op.scales = {a.scale, b.scale};
    if (op.coordinates == ResizeCoordinates::TfCropAndResize)
        op.roi = {a.roi_start, b.roi_start, a.roi_end, b.roi_end};
    const Tensor x = uniform({2, a.in, b.in}, 11, -1, 1, dtype);
    const Tensor y = run_op({x}, [&](auto& v) {
        op.x = v[0];
        return op;
    })[0];
    SCOPED_TRACE(testing::Message()
                 << "mode " << int(op.mode) << " coordinates " << int(op.coordinates) << " nearest "
                 << int(op.nearest) << " antialias " << op.antialias << " exclude "
                 << op.exclude_outside << ": " << a.in << "->" << a.out << ", " << b.in << "->"
                 << b.out);
    expect_close(y, expected_resize(op, x, a, b), tolerance);
}

constexpr ResizeCoordinates kCoordinates[] = {
    ResizeCoordinates::HalfPixel,        ResizeCoordinates::HalfPixelSymmetric,
    ResizeCoordinates::PytorchHalfPixel, ResizeCoordinates::AlignCorners,
    ResizeCoordinates::Asymmetric,       ResizeCoordinates::TfHalfPixelForNn,
    ResizeCoordinates::TfCropAndResize,
};

TEST(CpuResize, EveryModeAndCoordinateTransform) {
    for (const ResizeMode mode : {ResizeMode::Nearest, ResizeMode::Linear, ResizeMode::Cubic})
        for (const ResizeCoordinates coordinates : kCoordinates) {
            check_resize(resize(mode, coordinates), {5, 11, 2.2, 0.1, 0.8},
                         {7, 4, 4 / 7.0, -0.2, 1.3});
            check_resize(resize(mode, coordinates), {4, 1, 0.25}, {1, 6, 6});
            check_resize(resize(mode, coordinates), {6, 4, 0.7},
                         {3, 8, 2.7});  // sizes are rounded down
        }
}

TEST(CpuResize, NearestModes) {
    for (const NearestMode nearest : {NearestMode::RoundPreferFloor, NearestMode::RoundPreferCeil,
                                      NearestMode::Floor, NearestMode::Ceil})
        for (const ResizeCoordinates coordinates : kCoordinates) {
            auto op = resize(ResizeMode::Nearest, coordinates);
            op.nearest = nearest;
            check_resize(op, {4, 8, 2}, {6, 3, 0.5});
            check_resize(op, {4, 9, 2.25}, {5, 4, 0.8}, DType::I32, 0);
        }
}

TEST(CpuResize, AntialiasAndExcludedNeighbours) {
    for (const ResizeMode mode : {ResizeMode::Linear, ResizeMode::Cubic})
        for (const bool antialias : {false, true})
            for (const bool exclude : {false, true})
                for (const ResizeCoordinates coordinates :
                     {ResizeCoordinates::HalfPixel, ResizeCoordinates::AlignCorners}) {
                    auto op = resize(mode, coordinates);
                    op.antialias = antialias, op.exclude_outside = exclude;
                    check_resize(op, {13, 5, 5 / 13.0}, {9, 20, 20 / 9.0});
                    check_resize(op, {8, 3, 0.375}, {3, 3, 1});
                }
}

TEST(CpuResize, OtherDTypes) {
    check_resize(resize(ResizeMode::Cubic, ResizeCoordinates::HalfPixel), {5, 7, 1.4}, {6, 3, 0.5},
                 DType::F64, 1e-13);
    check_resize(resize(ResizeMode::Linear, ResizeCoordinates::HalfPixel), {5, 7, 1.4}, {6, 3, 0.5},
                 DType::F16, 5e-4);
}

TEST(CpuResize, ExamplesOfTheStandard) {
    // onnx/backend/test/case/node/resize.py: upsample_scales_linear, downsample_scales_nearest
    auto op = resize(ResizeMode::Linear, ResizeCoordinates::HalfPixel);
    op.axes = {0, 1}, op.sizes = {4, 4}, op.scales = {2, 2};
    const auto up =
        run_op({floats({2, 2}, {1, 2, 3, 4})}, [&](auto& v) { return op.x = v[0], op; })[0];
    expect_close(
        up, {1, 1.25, 1.75, 2, 1.5, 1.75, 2.25, 2.5, 2.5, 2.75, 3.25, 3.5, 3, 3.25, 3.75, 4}, 0);
    op = resize(ResizeMode::Nearest, ResizeCoordinates::HalfPixel);
    op.axes = {0, 1}, op.sizes = {1, 2}, op.scales = {0.6, 0.6};
    const auto down = run_op({floats({2, 4}, {1, 2, 3, 4, 5, 6, 7, 8})},
                             [&](auto& v) { return op.x = v[0], op; })[0];
    expect_close(down, {1, 3}, 0);
}

// ---- GridSample ----

double mirrored(double x, double low, double high) {
    if (high <= low) return low;
    while (x < low || x > high) x = x < low ? 2 * low - x : 2 * high - x;
    return x;
}

/// The value at a grid point, coordinates in the order of the axes: the sum over lattice points
/// near by.
double sample(const op::GridSample& op, const Tensor& x, std::int64_t plane_start,
              const Ints& sizes, const std::vector<double>& at) {
    op::Resize interpolation{};
    interpolation.mode = op.mode, interpolation.cubic_a = -0.75;
    const std::size_t dims = sizes.size();
    std::vector<double> centre(dims);
    for (std::size_t a = 0; a < dims; ++a) {
        const double size = static_cast<double>(sizes[a]);
        const double low = op.align_corners ? 0 : -0.5, high = size - 1 - low;
        double c = op.align_corners ? (at[a] + 1) / 2 * (size - 1) : ((at[a] + 1) * size - 1) / 2;
        if (op.mode == ResizeMode::Nearest) c = std::nearbyint(c);
        if (op.padding == GridPadding::Reflection) c = mirrored(c, low, high);
        centre[a] = c;
    }
    double sum = 0;
    const int reach = 6;
    const auto add = [&](auto&& self, std::size_t axis, std::int64_t offset,
                         double weight) -> void {
        if (axis == dims) {
            sum += weight * x.at(plane_start + offset);
            return;
        }
        for (int k = 0; k < reach; ++k) {
            const double lattice = std::floor(centre[axis]) - 2 + k;
            const double distance = lattice - centre[axis];
            const double w = op.mode == ResizeMode::Nearest ? (std::abs(distance) < 1e-9 ? 1 : 0)
                                                            : kernel(interpolation, distance);
            if (w == 0) continue;
            const double size = static_cast<double>(sizes[axis]);
            double source = lattice;
            if (op.padding == GridPadding::Zeros && (source < 0 || source >= size)) continue;
            if (op.padding == GridPadding::Border) source = std::clamp(source, 0.0, size - 1);
            if (op.padding == GridPadding::Reflection)
                source = op.align_corners ? mirrored(source, 0, size - 1)
                                          : mirrored(source, -0.5, size - 0.5);
            self(self, axis + 1, offset * sizes[axis] + static_cast<std::int64_t>(source),
                 weight * w);
        }
    };
    add(add, 0, 0, 1);
    return sum;
}

void check_grid_sample(op::GridSample op, const Ints& sizes, const Ints& points, DType dtype,
                       double tolerance) {
    const auto dims = static_cast<std::int64_t>(sizes.size());
    Ints x_shape{2, 3}, grid_shape{2};
    x_shape.insert(x_shape.end(), sizes.begin(), sizes.end());
    grid_shape.insert(grid_shape.end(), points.begin(), points.end());
    grid_shape.push_back(dims);
    const Tensor x = uniform(x_shape, 21, -1, 1, dtype);
    const Tensor grid = uniform(grid_shape, 22, -1.9, 1.9, dtype);
    const Tensor y = run_op({x, grid}, [&](auto& v) {
        op.x = v[0], op.grid = v[1];
        return op;
    })[0];
    const std::int64_t plane = x.size() / 6, count = grid.size() / dims / 2;
    std::vector<double> expected;
    for (std::int64_t c = 0; c < 6; ++c)
        for (std::int64_t p = 0; p < count; ++p) {
            std::vector<double> at;
            for (std::int64_t a = dims - 1; a >= 0; --a)
                at.push_back(grid.at((c / 3 * count + p) * dims + a));
            expected.push_back(sample(op, x, c * plane, sizes, at));
        }
    SCOPED_TRACE(testing::Message() << "mode " << int(op.mode) << " padding " << int(op.padding)
                                    << " align " << op.align_corners << " dims " << dims);
    expect_close(y, expected, tolerance);
}

TEST(CpuGridSample, EveryModeAndPadding) {
    for (const ResizeMode mode : {ResizeMode::Nearest, ResizeMode::Linear, ResizeMode::Cubic})
        for (const GridPadding padding :
             {GridPadding::Zeros, GridPadding::Border, GridPadding::Reflection})
            for (const bool align : {false, true}) {
                op::GridSample op{};
                op.mode = mode, op.padding = padding, op.align_corners = align;
                check_grid_sample(op, {5, 4}, {6, 7}, DType::F64, 1e-12);
                check_grid_sample(op, {3, 4, 5}, {2, 3, 4}, DType::F64, 1e-12);
                check_grid_sample(op, {1, 6}, {3, 3}, DType::F64, 1e-12);
                check_grid_sample(op, {5, 4}, {4, 4}, DType::F32,
                                  mode == ResizeMode::Nearest ? 1e-6 : 2e-5);
            }
}

TEST(CpuGridSample, CoordinatesThatAreNoNumbers) {
    op::GridSample op{};
    op.mode = ResizeMode::Linear;
    const Tensor x = floats({1, 1, 2, 2}, {1, 2, 3, 4});
    const Tensor grid = floats({1, 1, 3, 2}, {NAN, 0, INFINITY, 0, -1e30F, 0});
    for (const GridPadding padding :
         {GridPadding::Zeros, GridPadding::Border, GridPadding::Reflection}) {
        op.padding = padding;
        const Tensor y =
            run_op({x, grid}, [&](auto& v) { return op.x = v[0], op.grid = v[1], op; })[0];
        if (padding == GridPadding::Zeros) expect_close(y, {0, 0, 0}, 0);
        if (padding == GridPadding::Border) expect_close(y, {2, 3, 2}, 0);
    }
}

}  // namespace
}  // namespace kn
