// Sampling at positions that the data give: GridSample, RoiAlign.

#include "onnx/import_util.h"

namespace kn::onnx {

namespace {

std::vector<Var> import_grid_sample(Node& node) {
    Var x = node.input(0);
    Var grid = node.input(1);
    const std::string mode = node.attr_string("mode", node.opset() >= 20 ? "linear" : "bilinear");
    const std::string padding = node.attr_string("padding_mode", "zeros");
    const bool align_corners = node.attr_int("align_corners", 0) != 0;
    ResizeMode interpolation = ResizeMode::Nearest;
    if (mode == "linear" || mode == "bilinear")
        interpolation = ResizeMode::Linear;
    else if (mode == "cubic" || mode == "bicubic")
        interpolation = ResizeMode::Cubic;
    else if (mode != "nearest")
        node.broken(fmt::format("mode is '{}'", printable(mode)));
    GridPadding outside = GridPadding::Zeros;
    if (padding == "border")
        outside = GridPadding::Border;
    else if (padding == "reflection")
        outside = GridPadding::Reflection;
    else if (padding != "zeros")
        node.broken(fmt::format("padding_mode is '{}'", printable(padding)));
    if (x.rank() != 4 && x.rank() != 5)
        node.unsupported(fmt::format("an input of rank {}", x.rank()));
    if (x.rank() == 5 && interpolation == ResizeMode::Cubic)
        node.unsupported("cubic interpolation over 3 axes");
    if (!is_float(x.dtype()) || !is_float(grid.dtype()))
        node.unsupported(
            fmt::format("{} sampled at {}", name_of(x.dtype()), name_of(grid.dtype())));
    DType common = x.dtype();
    if (grid.dtype() != common)
        common = size_of(grid.dtype()) > 4 || size_of(common) > 4 ? DType::F64 : DType::F32;
    Var y = add(x, op::GridSample{cast(x, common), cast(grid, common), interpolation, outside,
                                  align_corners});
    return {cast(y, x.dtype())};
}

/// Sample positions along one axis for each region: [R, bins * samples].
struct Samples {
    Var low;       ///< the pixel at or before, i64
    Var high;      ///< the next pixel, i64
    Var fraction;  ///< weight of `high`
    Var inside;    ///< bool
};

Samples place_samples(Var start, Var length, const Dim& size, std::int64_t bins,
                      std::int64_t per_bin) {
    Graph& g = *start.graph;
    const DType dtype = start.dtype();
    const std::int64_t count = bins * per_bin;
    Var step = (cast(iota(g, count), dtype) + 0.5) / static_cast<double>(count);
    Var position = unsqueeze(start, {1}) + unsqueeze(length, {1}) * step;
    Var end = cast(scalar_dim(g, size), dtype);
    Var inside =
        logical_and(greater_equal(position, scalar_like(position, -1)), less_equal(position, end));
    Var last = scalar_dim(g, size - 1);
    position = minimum(maximum(position, scalar_like(position, 0)), cast(last, dtype));
    Var low = cast(position, DType::I64);
    Var high = minimum(low + scalar(g, DType::I64, 1), last);
    return {low, high, position - cast(low, dtype), inside};
}

std::vector<Var> import_roi_align(Node& node) {
    Graph& g = node.graph();
    const DType dtype = node.input(0).dtype();
    Var x = cast(node.input(0), wide_dtype(dtype));
    Var rois = cast(node.input(1), x.dtype());
    Var batch = cast(node.input(2), DType::I64);
    const std::string mode = node.attr_string("mode", "avg");
    const auto height = node.attr_int("output_height", 1);
    const auto width = node.attr_int("output_width", 1);
    const auto samples = node.attr_int("sampling_ratio", 0);
    const double spatial_scale = node.attr_float("spatial_scale", 1);
    const bool half_pixel = node.opset() >= 16 && node.attr_string("coordinate_transformation_mode",
                                                                   "half_pixel") == "half_pixel";
    if (mode != "avg" && mode != "max") node.broken(fmt::format("mode is '{}'", printable(mode)));
    if (x.rank() != 4 || rois.rank() != 2) node.broken("X is not [N, C, H, W] or rois not [R, 4]");
    if (height < 1 || width < 1 || samples < 0 || height > 4096 || width > 4096 || samples > 4096)
        node.broken("output size or sampling_ratio out of range");
    if (samples == 0)
        node.unsupported("sampling_ratio 0, by which the data decide the number of samples");

    const Dim regions = rois.shape()[0];
    auto corner = [&](std::int64_t i) {
        Var value = squeeze(slice(rois, 1, i, i + 1), {1}) * spatial_scale;
        return half_pixel ? value - 0.5 : value;
    };
    auto extent = [&](std::int64_t from, std::int64_t to) {
        Var length = corner(to) - corner(from);
        return half_pixel ? length : maximum(length, scalar_like(length, 1));
    };
    const Dim in_h = x.shape()[2], in_w = x.shape()[3], channels = x.shape()[1];
    const Samples ys = place_samples(corner(1), extent(1, 3), in_h, height, samples);
    const Samples xs = place_samples(corner(0), extent(0, 2), in_w, width, samples);

    // Rows of pixels [N * H * W, C], taken at the four neighbours of each sample.
    Var pixels = reshape(permute(x, {0, 2, 3, 1}), {x.shape()[0] * in_h * in_w, channels});
    Var first = reshape(batch * scalar_dim(g, in_h * in_w), {regions, 1, 1});
    auto take = [&](Var row, Var column, Var weight_y, Var weight_x) {
        Var index = first + unsqueeze(row, {2}) * scalar_dim(g, in_w) + unsqueeze(column, {1});
        Var weight = unsqueeze(weight_y, {2}) * unsqueeze(weight_x, {1});
        return gather(pixels, index, 0) * unsqueeze(weight, {3});
    };
    Var uy = 1.0 - ys.fraction, ux = 1.0 - xs.fraction;
    const std::vector<Var> parts = {
        take(ys.low, xs.low, uy, ux), take(ys.low, xs.high, uy, xs.fraction),
        take(ys.high, xs.low, ys.fraction, ux), take(ys.high, xs.high, ys.fraction, xs.fraction)};
    Var sampled = parts[0];
    for (std::size_t i = 1; i < parts.size(); ++i)
        sampled = mode == "avg" ? sampled + parts[i] : maximum(sampled, parts[i]);
    Var inside = logical_and(unsqueeze(ys.inside, {2}), unsqueeze(xs.inside, {1}));
    sampled = select(unsqueeze(inside, {3}), sampled, scalar_like(sampled, 0));
    sampled = reshape(sampled, {regions, height, samples, width, samples, channels});
    Var y = mode == "avg" ? mean(sampled, {2, 4}) : reduce(ReduceOp::Max, sampled, {2, 4});
    return {cast(permute(y, {0, 3, 1, 2}), dtype)};
}

}  // namespace

std::vector<ImportRow> grid_rows() {
    return {
        {"", "GridSample", 16, import_grid_sample},
        {"", "RoiAlign", 10, import_roi_align},
    };
}

}  // namespace kn::onnx
