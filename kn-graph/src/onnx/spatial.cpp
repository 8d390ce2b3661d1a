#include "onnx/spatial.h"

#include <fmt/core.h>

namespace kn::onnx {

std::vector<Dim> Spatial::pads() const {
    std::vector<Dim> all = before;
    all.insert(all.end(), after.begin(), after.end());
    return all;
}

AutoPad read_auto_pad(Node& node) {
    const std::string text = node.attr_string("auto_pad", "NOTSET");
    if (text == "NOTSET" || text.empty()) return AutoPad::NotSet;
    if (text == "SAME_UPPER") return AutoPad::SameUpper;
    if (text == "SAME_LOWER") return AutoPad::SameLower;
    if (text != "VALID") node.broken(fmt::format("auto_pad is '{}'", printable(text)));
    return AutoPad::Valid;
}

Ints read_per_axis(Node& node, const std::string& name, std::size_t count, std::int64_t otherwise,
                   std::int64_t minimum) {
    const auto values = node.attr_ints(name);
    if (!values || values->empty()) return Ints(count, otherwise);
    if (values->size() != count)
        node.broken(fmt::format("{} has {} entries, expected {}", name, values->size(), count));
    for (const auto value : *values)
        if (value < minimum)
            node.broken(
                fmt::format("{} has the entry {}, expected at least {}", name, value, minimum));
    return *values;
}

Spatial read_spatial(Node& node, std::size_t rank, const std::vector<Dim>& weight_kernel,
                     bool has_dilations) {
    Spatial spatial;
    const auto kernel = node.attr_ints("kernel_shape");
    if (!weight_kernel.empty()) {
        spatial.kernel = weight_kernel;
        if (kernel && kernel->size() != rank)
            node.broken(
                fmt::format("kernel_shape has {} entries, expected {}", kernel->size(), rank));
        for (std::size_t i = 0; kernel && i < rank; ++i)
            node.graph().require_equal(weight_kernel[i], (*kernel)[i],
                                       "kernel_shape and the weight's shape");
    } else {
        if (!kernel) node.broken("kernel_shape is missing");
        const Ints sizes = read_per_axis(node, "kernel_shape", rank, 1, 1);
        spatial.kernel.assign(sizes.begin(), sizes.end());
    }
    spatial.strides = read_per_axis(node, "strides", rank, 1, 1);
    spatial.dilations =
        has_dilations ? read_per_axis(node, "dilations", rank, 1, 1) : Ints(rank, 1);
    spatial.auto_pad = read_auto_pad(node);
    Ints pads = read_per_axis(node, "pads", 2 * rank, 0, 0);
    if (spatial.auto_pad != AutoPad::NotSet) pads.assign(2 * rank, 0);
    const auto middle = pads.begin() + static_cast<std::ptrdiff_t>(rank);
    spatial.before.assign(pads.begin(), middle);
    spatial.after.assign(middle, pads.end());
    return spatial;
}

void resolve_same(Spatial& spatial, const Shape& x) {
    if (spatial.auto_pad != AutoPad::SameUpper && spatial.auto_pad != AutoPad::SameLower) return;
    for (std::size_t i = 0; i < spatial.rank(); ++i) {
        const Dim size = x[i + 2];
        const Dim last = (ceil_div(size, spatial.strides[i]) - 1) * spatial.strides[i];
        const Dim total = max(last + spatial.extent(i) - size, 0);
        const Dim smaller = floor_div(total, 2);
        const Dim larger = total - smaller;
        spatial.before[i] = spatial.auto_pad == AutoPad::SameUpper ? smaller : larger;
        spatial.after[i] = spatial.auto_pad == AutoPad::SameUpper ? larger : smaller;
    }
}

std::size_t spatial_rank(Node& node, Var x, std::size_t lowest, std::size_t highest) {
    if (x.rank() < 2)
        node.broken(fmt::format("the input has rank {}, expected [N, C, ...]", x.rank()));
    const std::size_t rank = x.rank() - 2;
    if (rank < lowest || rank > highest) node.unsupported(fmt::format("{} spatial axes", rank));
    return rank;
}

std::vector<Dim> kernel_of(Node& node, Var w, std::size_t rank) {
    if (w.rank() != rank + 2)
        node.broken(fmt::format("the weight has rank {}, expected {}", w.rank(), rank + 2));
    const auto& dims = w.shape().dims();
    return {dims.begin() + 2, dims.end()};
}

std::int64_t read_groups(Node& node, const char* name) {
    const auto groups = node.attr_int(name, 1);
    if (groups < 1) node.broken(fmt::format("{} is {}", name, groups));
    return groups;
}

ConvOptions read_conv(Node& node, Var x, Var w) {
    const auto rank = spatial_rank(node, x, 1, 3);
    Spatial spatial = read_spatial(node, rank, kernel_of(node, w, rank), true);
    resolve_same(spatial, x.shape());
    return {.strides = spatial.strides,
            .dilations = spatial.dilations,
            .pads = spatial.pads(),
            .groups = read_groups(node)};
}

}  // namespace kn::onnx
