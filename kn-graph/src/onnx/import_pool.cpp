// Pooling: over windows and over all spatial axes.
#include <limits>

#include <fmt/core.h>

#include "onnx/import_util.h"
#include "onnx/pool.h"

namespace kn::onnx {

namespace {

/// The windows of a pooling node. In `ceil` mode the pads at the end are lengthened so that every
/// window is whole; `declared_after` keeps those of the node.
struct Pool : Spatial {
    std::vector<Dim> declared_after;
};

Pool read_pool(Node& node, Var x, bool has_ceil_mode, bool has_dilations) {
    const auto rank = spatial_rank(node, x, 1, 6);
    Pool pool{read_spatial(node, rank, {}, has_dilations), {}};
    resolve_same(pool, x.shape());
    pool.declared_after = pool.after;
    const bool ceil = has_ceil_mode && node.attr_int("ceil_mode", 0) != 0;
    for (std::size_t i = 0; i < rank && ceil; ++i) {
        const Dim stride = pool.strides[i];
        const Dim extent = pool.extent(i);
        const Dim inside = x.shape()[i + 2] + pool.before[i];
        const Dim rounded_up = inside + pool.after[i] + stride - 1;
        if (provably_ge(extent, pool.after[i] + stride)) {
            pool.after[i] += stride - 1;
        } else {
            // A window that would start in the padding at the end is dropped.
            const Dim count =
                min(floor_div(rounded_up - extent, stride), floor_div(inside - 1, stride));
            pool.after[i] = count * stride + extent - inside;
        }
    }
    for (std::size_t i = 0; i < rank; ++i) {
        const Dim size = pool.before[i] + x.shape()[i + 2] + pool.after[i];
        if (provably_gt(pool.extent(i), size))
            node.broken(
                fmt::format("the kernel spans {} elements, but axis {} has {} with its pads",
                            pool.extent(i).to_string(), i + 2, size.to_string()));
    }
    return pool;
}

std::vector<Dim> with_leading_zeros(const std::vector<Dim>& pads) {
    std::vector<Dim> all(2, 0);
    all.insert(all.end(), pads.begin(), pads.end());
    return all;
}

Ints spatial_axes(std::size_t rank) {
    Ints axes;
    for (std::size_t i = 0; i < rank; ++i) axes.push_back(static_cast<std::int64_t>(i) + 2);
    return axes;
}

/// [N, C, in...] -> [N, C, out..., kernel...]
Var windows_of(Var x, const Pool& pool, double fill) {
    x = pad(x, with_leading_zeros(pool.before), with_leading_zeros(pool.after), fill);
    return window(x, spatial_axes(pool.rank()), pool.kernel, pool.strides, pool.dilations);
}

Ints window_axes(const Pool& pool) {
    Ints axes;
    for (std::size_t i = 0; i < pool.rank(); ++i)
        axes.push_back(static_cast<std::int64_t>(2 + pool.rank() + i));
    return axes;
}

/// Where the maximum of each window lies, as an index into the flattened x.
Var max_indices(Var x, const Pool& pool, bool column_major) {
    Graph& g = *x.graph;
    const auto rank = pool.rank();
    // Lowest integers may occur in x, and then the padding must not win.
    const bool integer = is_int(x.dtype());
    Var values = integer ? cast(x, DType::I32) : x;
    Var windows =
        windows_of(values, pool, integer ? -1e6 : -std::numeric_limits<double>::infinity());
    const Shape out = windows.shape().slice(0, rank + 2);
    Dim taps = 1;
    for (const Dim& size : pool.kernel) taps *= size;
    Shape flat = out;
    flat.push_back(taps);
    Var best = arg_max(reshape(windows, flat), -1, true);

    std::vector<Dim> steps(rank, 1);
    for (std::size_t i = 1; i < rank; ++i) {
        if (column_major)
            steps[i] = steps[i - 1] * x.shape()[i + 1];
        else
            steps[rank - 1 - i] = steps[rank - i] * x.shape()[rank + 2 - i];
    }
    const Dim plane = x.shape().slice(2, rank + 2).size();
    Var index = reshape(iota(g, x.shape()[0] * x.shape()[1]) * scalar_dim(g, plane),
                        {x.shape()[0], x.shape()[1]});
    index = unsqueeze(index, spatial_axes(rank));
    for (std::size_t i = 0; i < rank; ++i) {
        Ints others;
        for (std::size_t j = 0; j < rank + 2; j++)
            if (j != i + 2) others.push_back(static_cast<std::int64_t>(j));
        index = index + unsqueeze(iota(g, x.shape()[i + 2]) * scalar_dim(g, steps[i]), others);
    }
    Var choices = reshape(windows_of(index, pool, 0), flat);
    return squeeze(gather_elements(choices, best, -1), {-1});
}

std::vector<Var> import_max_pool(Node& node) {
    Var x = node.input(0);
    const bool since_10 = node.opset() >= 10;
    const Pool pool = read_pool(node, x, since_10, since_10);
    const auto order = node.opset() >= 8 ? node.attr_int("storage_order", 0) : 0;
    Var y = max_pool(x, pool.kernel,
                     {.strides = pool.strides, .dilations = pool.dilations, .pads = pool.pads()});
    if (!node.wants_output(1)) return {y};
    return {y, max_indices(x, pool, order != 0)};
}

std::vector<Var> import_average_pool(Node& node) {
    return {pool_average(node, node.input(0), node.opset() >= 10, node.opset() >= 19)};
}

std::int64_t read_p(Node& node) {
    const auto p = node.attr_int("p", 2);
    if (p < 1) node.broken(fmt::format("p is {}", p));
    return p;
}

/// (sum |x|^p)^(1/p)
Var lp_norm(Var x, std::int64_t p, const Ints& axes, bool keep_dims) {
    if (p == 1) return sum(abs(x), axes, keep_dims);
    if (p == 2) return sqrt(sum(square(x), axes, keep_dims));
    Var powers = pow(abs(x), scalar_like(x, static_cast<double>(p)));
    return pow(sum(powers, axes, keep_dims), scalar_like(x, 1.0 / static_cast<double>(p)));
}

std::vector<Var> import_lp_pool(Node& node) {
    Var x = node.input(0);
    const bool since_18 = node.opset() >= 18;
    const Pool pool = read_pool(node, x, since_18, since_18);
    return {lp_norm(windows_of(x, pool, 0), read_p(node), window_axes(pool), false)};
}

std::vector<Var> import_global_average_pool(Node& node) {
    Var x = node.input(0);
    return {mean(x, spatial_axes(spatial_rank(node, x, 0, 6)), true)};
}

std::vector<Var> import_global_max_pool(Node& node) {
    Var x = node.input(0);
    return {reduce(ReduceOp::Max, x, spatial_axes(spatial_rank(node, x, 0, 6)), true)};
}

std::vector<Var> import_global_lp_pool(Node& node) {
    Var x = node.input(0);
    return {lp_norm(x, read_p(node), spatial_axes(spatial_rank(node, x, 0, 6)), true)};
}

/// The indices refer to the shape that the attributes give; a larger output_shape pads that at its
/// ends.
std::vector<Var> import_max_unpool(Node& node) {
    Graph& g = node.graph();
    Var x = node.input(0);
    Var indices = node.input(1);
    const auto rank = spatial_rank(node, x, 1, 6);
    const Ints kernel = read_per_axis(node, "kernel_shape", rank, 1, 1);
    const Ints strides = read_per_axis(node, "strides", rank, 1, 1);
    const Ints pads = read_per_axis(node, "pads", 2 * rank, 0, 0);
    if (indices.rank() != x.rank()) node.broken("X and I differ in rank");
    Shape shape = x.shape();
    for (std::size_t i = 0; i < rank; ++i)
        shape[i + 2] = (shape[i + 2] - 1) * strides[i] - pads[i] - pads[rank + i] + kernel[i];
    for (std::size_t i = 0; i < x.rank(); ++i)
        g.require_equal(x.shape()[i], indices.shape()[i], "the shapes of X and I");
    Var zeros = full(g, x.dtype(), {shape.size()}, 0);
    const Shape flat = {x.shape().size()};
    Var y = add(zeros, op::ScatterElements{zeros, reshape(cast(indices, DType::I64), flat),
                                           reshape(x, flat), 0, ScatterReduction::None});
    y = reshape(y, shape);
    if (node.has_input(2)) {
        const auto output = node.input_dims(2);
        if (output.size() != shape.rank())
            node.broken("output_shape does not have the input's rank");
        std::vector<Dim> after;
        for (std::size_t i = 0; i < output.size(); ++i) after.push_back(output[i] - shape[i]);
        y = pad(y, std::vector<Dim>(output.size(), 0), after, 0.0);
    }
    return {y};
}

}  // namespace

Var pool_average(Node& node, Var x, bool has_ceil_mode, bool has_dilations) {
    Pool pool = read_pool(node, x, has_ceil_mode, has_dilations);
    const bool count_pads = node.attr_int("count_include_pad", 0) != 0;
    const bool ceil_padding = pool.after != pool.declared_after;
    if (count_pads && ceil_padding) {
        // The declared padding counts, what ceil_mode adds beyond it does not.
        x = pad(x, with_leading_zeros(pool.before), with_leading_zeros(pool.declared_after), 0.0);
        for (std::size_t i = 0; i < pool.rank(); ++i) {
            pool.before[i] = 0;
            pool.after[i] -= pool.declared_after[i];
        }
    }
    return average_pool(x, pool.kernel,
                        {.strides = pool.strides, .dilations = pool.dilations, .pads = pool.pads()},
                        count_pads && !ceil_padding);
}

std::vector<ImportRow> pool_rows() {
    return {
        {"", "MaxPool", 1, import_max_pool},
        {"", "AveragePool", 7, import_average_pool},
        {"", "LpPool", 2, import_lp_pool},
        {"", "GlobalAveragePool", 1, import_global_average_pool},
        {"", "GlobalMaxPool", 1, import_global_max_pool},
        {"", "GlobalLpPool", 2, import_global_lp_pool},
        {"", "MaxUnpool", 9, import_max_unpool},
    };
}

}  // namespace kn::onnx
