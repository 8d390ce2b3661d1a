// Conv, ConvTranspose, DeformConv.
#include "onnx/import_util.h"
#include "onnx/spatial.h"

namespace kn::onnx {

namespace {

std::vector<Var> import_conv(Node& node) {
    Var x = node.input(0);
    Var w = node.input(1);
    return {conv(x, w, node.optional_input(2), read_conv(node, x, w))};
}

/// Where output_shape (or SAME_*) decides the pads. A total below zero leaves the pads at 0 and
/// lengthens the output at its end.
void pads_from_output(Spatial& spatial, std::vector<Dim>& extra, const Shape& x,
                      const std::vector<Dim>& output) {
    for (std::size_t i = 0; i < spatial.rank(); ++i) {
        const Dim full = (x[i + 2] - 1) * spatial.strides[i] + extra[i] + spatial.extent(i);
        const Dim total = max(full - output[i], 0);
        const Dim smaller = floor_div(total, 2);
        const Dim larger = total - smaller;
        spatial.before[i] = spatial.auto_pad == AutoPad::SameUpper ? smaller : larger;
        spatial.after[i] = spatial.auto_pad == AutoPad::SameUpper ? larger : smaller;
        extra[i] += output[i] - (full - total);
    }
}

std::vector<Var> import_conv_transpose(Node& node) {
    Var x = node.input(0);
    Var w = node.input(1);
    const auto rank = spatial_rank(node, x, 1, 3);
    Spatial spatial = read_spatial(node, rank, kernel_of(node, w, rank), true);
    const Ints padding = read_per_axis(node, "output_padding", rank, 0, 0);
    std::vector<Dim> extra(padding.begin(), padding.end());
    std::vector<Dim> output;
    if (auto shape = node.attr_ints("output_shape"); shape && !shape->empty()) {
        // Some exporters write the whole shape, batch and channels included.
        if (shape->size() == rank + 2) shape->erase(shape->begin(), shape->begin() + 2);
        if (shape->size() != rank)
            node.broken(
                fmt::format("output_shape has {} entries, expected {}", shape->size(), rank));
        output.assign(shape->begin(), shape->end());
    } else if (spatial.auto_pad == AutoPad::SameUpper || spatial.auto_pad == AutoPad::SameLower) {
        for (std::size_t i = 0; i < rank; ++i)
            output.push_back(x.shape()[i + 2] * spatial.strides[i]);
    }
    if (!output.empty()) pads_from_output(spatial, extra, x.shape(), output);
    return {conv_transpose(x, w, node.optional_input(2),
                           {.strides = spatial.strides,
                            .dilations = spatial.dilations,
                            .pads = spatial.pads(),
                            .groups = read_groups(node),
                            .output_padding = extra})};
}

/// Pixel positions along one axis as grid coordinates (not align_corners): 2 (p + 1/2) / size - 1.
Var to_grid(Var position, const Dim& size) {
    Var length = cast(scalar_dim(*position.graph, size), position.dtype());
    return (position * 2.0 + 1.0) / length - 1.0;
}

/// Samples x at offset positions into columns [N, C, K, out...], then multiplies them with the
/// weight: 2 spatial axes.
std::vector<Var> import_deform_conv(Node& node) {
    Graph& g = node.graph();
    Var x = node.input(0);
    Var w = node.input(1);
    Var offset = node.input(2);
    spatial_rank(node, x, 2, 2);
    const Spatial spatial = read_spatial(node, 2, kernel_of(node, w, 2), true);
    const auto groups = read_groups(node);
    const auto offset_groups = read_groups(node, "offset_group");
    if (offset.rank() != 4) node.broken("offset is not of rank 4");
    if (is_half(x.dtype())) node.unsupported("half precision");  // positions need more bits
    const Dim batch = x.shape()[0];
    const Dim channels = x.shape()[1];
    const Dim out_channels = w.shape()[0];
    const Dim kh = spatial.kernel[0], kw = spatial.kernel[1];
    const Dim oh = offset.shape()[2], ow = offset.shape()[3];

    const Dim outer = batch * offset_groups;
    Var offsets = reshape(offset, {outer, kh, kw, 2, oh, ow});
    auto positions = [&](std::int64_t axis) {
        const auto a = static_cast<std::size_t>(axis);
        Var base = iota(g, axis == 0 ? oh : ow) * vector_i64(g, {spatial.strides[a]});
        Var taps = iota(g, spatial.kernel[a]) * vector_i64(g, {spatial.dilations[a]});
        base = reshape(base, axis == 0 ? Shape{oh, 1} : Shape{1, ow});
        taps = reshape(taps, axis == 0 ? Shape{kh, 1, 1, 1} : Shape{kw, 1, 1});
        Var fixed = cast(base + taps - scalar_dim(g, spatial.before[a]), x.dtype());
        Var position = squeeze(slice(offsets, 3, axis, axis + 1), {3}) + fixed;
        return unsqueeze(to_grid(position, x.shape()[a + 2]), {-1});
    };
    Var grid = reshape(concat({positions(1), positions(0)}, -1), {outer, kh * kw * oh, ow, 2});
    const Dim per_offset_group = floor_div(channels, offset_groups);
    Var source = reshape(x, {outer, per_offset_group, x.shape()[2], x.shape()[3]});
    Var columns =
        add(source, op::GridSample{source, grid, ResizeMode::Linear, GridPadding::Zeros, false});
    columns = reshape(columns, {outer, per_offset_group, kh * kw, oh * ow});
    if (const auto mask = node.optional_input(4))
        columns = columns * reshape(*mask, {outer, 1, kh * kw, oh * ow});
    const Dim per_group = floor_div(channels, groups);
    columns = reshape(columns, {batch, groups, per_group * kh * kw, oh * ow});
    Var weight = reshape(w, {groups, floor_div(out_channels, groups), per_group * kh * kw});
    Var y = reshape(matmul(weight, columns), {batch, out_channels, oh, ow});
    if (const auto bias = node.optional_input(3)) y = y + unsqueeze(*bias, {1, 2});
    return {y};
}

}  // namespace

std::vector<ImportRow> conv_rows() {
    return {
        {"", "Conv", 1, import_conv},
        {"", "ConvTranspose", 1, import_conv_transpose},
        {"", "DeformConv", 19, import_deform_conv},
    };
}

}  // namespace kn::onnx
