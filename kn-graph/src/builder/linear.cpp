#include <algorithm>

#include "builder/common.h"

namespace kn {

using builder::add;

Var matmul(Var a, Var b) {
    builder::check_same_graph(a, b);
    if (a.rank() == 0 || b.rank() == 0) throw GraphError("matmul of a scalar");
    if (a.rank() == 1 || b.rank() == 1) {
        const bool row = a.rank() == 1;
        const bool column = b.rank() == 1;
        const Var product = matmul(row ? unsqueeze(a, {0}) : a, column ? unsqueeze(b, {1}) : b);
        Ints added;
        if (row) added.push_back(-2);
        if (column) added.push_back(-1);
        return squeeze(product, added);
    }
    const Shape a_shape = a.shape();
    const Shape b_shape = b.shape();
    const Shape a_batch = a_shape.slice(0, a.rank() - 2);
    const Shape b_batch = b_shape.slice(0, b.rank() - 2);
    const Dim rows = a_shape[a.rank() - 2];
    const Dim inner = a_shape[a.rank() - 1];
    const Dim columns = b_shape[b.rank() - 1];
    Shape batch = broadcast_shapes(*a.graph, a_batch, b_batch);
    const auto matrix = [&](const Dim& first, const Dim& second) {
        Shape shape = batch;
        shape.push_back(first);
        shape.push_back(second);
        return shape;
    };
    // One matrix b for all of a: a single product, whose rows are those of all matrices of a.
    if (b_batch.size() == 1 && a.rank() > 2) {
        const Var flat_b = reshape(b, b_shape.slice(b.rank() - 2, b.rank()));
        const Var flat_a = reshape(a, {a_batch.size() * rows, inner});
        return reshape(add(a, op::MatMul{flat_a, flat_b}), matrix(rows, columns));
    }
    const Var full_a = broadcast_to(a, matrix(rows, inner));
    const Var full_b = broadcast_to(b, matrix(b_shape[b.rank() - 2], columns));
    return add(a, op::MatMul{full_a, full_b});
}

Var linear(Var x, Var weight, std::optional<Var> bias) {
    const Var product = matmul(x, weight);
    return bias ? product + *bias : product;
}

namespace {

/// The attributes of a convolution over `spatial` axes, the missing ones filled in.
struct Geometry {
    Ints strides;
    Ints dilations;
    std::vector<Dim> before;
    std::vector<Dim> after;
    std::vector<Dim> output_padding;
};

Geometry geometry_of(const ConvOptions& options, std::size_t spatial) {
    const auto check = [&](const char* name, std::size_t size, std::size_t expected) {
        if (size != 0 && size != expected)
            throw GraphError(fmt::format("conv over {} spatial axes: {} {} instead of {}", spatial,
                                         size, name, expected));
    };
    check("strides", options.strides.size(), spatial);
    check("dilations", options.dilations.size(), spatial);
    check("pads", options.pads.size(), 2 * spatial);
    check("output paddings", options.output_padding.size(), spatial);
    Geometry result{options.strides, options.dilations, {}, {}, options.output_padding};
    result.strides.resize(spatial, 1);
    result.dilations.resize(spatial, 1);
    result.output_padding.resize(spatial, Dim(0));
    std::vector<Dim> pads = options.pads;
    pads.resize(2 * spatial, Dim(0));
    const auto middle = pads.begin() + static_cast<std::ptrdiff_t>(spatial);
    result.before.assign(pads.begin(), middle);
    result.after.assign(middle, pads.end());
    return result;
}

std::size_t spatial_rank(Var x) {
    if (x.rank() < 3)
        throw GraphError(fmt::format("conv of {}: no spatial axes", x.shape().to_string()));
    return x.rank() - 2;
}

Var with_bias(Var x, std::optional<Var> bias) {
    return bias ? x + builder::as_channels(*bias, x.rank()) : x;
}

}  // namespace

Var conv(Var x, Var weight, std::optional<Var> bias, const ConvOptions& options) {
    builder::check_same_graph(x, weight);
    Geometry g = geometry_of(options, spatial_rank(x));
    const Var y = add(x, op::Conv{x, weight, std::move(g.strides), std::move(g.dilations),
                                  std::move(g.before), std::move(g.after), options.groups});
    return with_bias(y, bias);
}

Var conv_transpose(Var x, Var weight, std::optional<Var> bias, const ConvOptions& options) {
    builder::check_same_graph(x, weight);
    Geometry g = geometry_of(options, spatial_rank(x));
    const Var y = add(x, op::ConvTranspose{x, weight, std::move(g.strides), std::move(g.dilations),
                                           std::move(g.before), std::move(g.after),
                                           std::move(g.output_padding), options.groups});
    return with_bias(y, bias);
}

}  // namespace kn
