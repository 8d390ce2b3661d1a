// Operators that move elements or ask for sizes.
#include <algorithm>
#include <numeric>

#include <fmt/core.h>

#include "onnx/import_util.h"

namespace kn::onnx {

namespace {

// What a -1 stands for: the size of `from` over the product of the other dims, after equal dims are
// struck out on both sides, so that symbols need no division.
Dim inferred_dim(Node& node, const Shape& from, const std::vector<Dim>& to, std::size_t unknown) {
    std::vector<Dim> left = from.dims();
    Dim divisor = 1;
    for (std::size_t i = 0; i < to.size(); ++i) {
        if (i == unknown) continue;
        const auto same = to[i] == Dim(0) ? left.end() : std::find(left.begin(), left.end(), to[i]);
        if (same != left.end())
            left.erase(same);
        else
            divisor *= to[i];
    }
    if (divisor == Dim(0)) node.broken("a dim of -1 beside a dim of 0 cannot be determined");
    return floor_div(Shape(left).size(), divisor);
}

std::vector<Dim> known_target(Node& node, const Shape& from, std::vector<Dim> to,
                              bool zero_is_zero) {
    std::optional<std::size_t> unknown;
    for (std::size_t i = 0; i < to.size(); ++i) {
        if (to[i] == Dim(-1)) {
            if (unknown) node.broken("more than one dim of -1");
            unknown = i;
        } else if (to[i] == Dim(0) && !zero_is_zero) {
            if (i >= from.rank())
                node.broken(
                    fmt::format("dim {} is copied from an input of rank {}", i, from.rank()));
            to[i] = from[i];
        } else if (provably_gt(0, to[i])) {
            node.broken("a dim of " + to[i].to_string());
        }
    }
    if (unknown) to[*unknown] = inferred_dim(node, from, to, *unknown);
    return to;
}

// The same on a target that only the data decide.
std::vector<Dim> run_time_target(Var target, const Shape& from, bool zero_is_zero) {
    Graph& graph = *target.graph;
    target = cast(target, DType::I64);
    if (!target.shape().is_static() || target.rank() != 1)
        throw GraphError("the target shape is " + target.shape().to_string() +
                         ", a vector of known length is needed");
    const auto rank = static_cast<std::size_t>(target.shape()[0].value());
    const Var zero = zero_like(target);
    if (!zero_is_zero) {
        std::vector<Dim> copied(from.begin(), from.begin() + std::min(rank, from.rank()));
        copied.resize(rank, Dim(0));
        target = select(equal(target, zero), shape_value(graph, copied), target);
    }
    const Var is_unknown = equal(target, scalar_like(target, -1));
    const Var others =
        reduce(ReduceOp::Prod, select(is_unknown, scalar_like(target, 1), target), {0});
    const Var inferred = scalar_dim(graph, from.size()) / others;
    return read_dims(select(is_unknown, inferred, target), "reshape");
}

std::vector<Var> import_reshape(Node& node) {
    const Var x = node.input(0);
    const Var target = node.input(1);
    const Shape from = x.shape();
    const bool zero_is_zero = node.opset() >= 14 && node.attr_int("allowzero", 0) != 0;
    const auto known = node.known_dims(1);
    if (known) return {reshape(x, Shape(known_target(node, from, *known, zero_is_zero)))};
    return {reshape(x, Shape(run_time_target(target, from, zero_is_zero)))};
}

std::vector<Var> import_flatten(Node& node) {
    return {flatten(node.input(0), node.attr_int("axis", 1))};
}

// `axes` became input 1 with opset 13.
std::optional<Ints> axes_of(Node& node) {
    if (node.opset() < 13) return node.attr_ints("axes");
    if (node.has_input(1)) return node.input_ints(1);
    return std::nullopt;
}

std::vector<Var> import_squeeze(Node& node) {
    const Var x = node.input(0);
    if (const auto axes = axes_of(node)) return {squeeze(x, *axes)};
    Ints ones;
    for (std::size_t axis = 0; axis < x.rank(); ++axis) {
        const Dim& dim = x.shape()[axis];
        if (dim == Dim(1))
            ones.push_back(static_cast<std::int64_t>(axis));
        else if (!dim.is_constant() && !provably_gt(dim, 1))
            node.unsupported(
                fmt::format("no axes are given, and whether dim {} of {} is 1 is not known: fix it",
                            axis, x.shape().to_string()));
    }
    return {squeeze(x, ones)};
}

std::vector<Var> import_unsqueeze(Node& node) {
    const Var x = node.input(0);
    const auto axes = axes_of(node);
    if (!axes) node.broken("axes are missing");
    return {unsqueeze(x, *axes)};
}

std::vector<Var> import_transpose(Node& node) {
    const Var x = node.input(0);
    Ints reversed(x.rank());
    std::iota(reversed.rbegin(), reversed.rend(), 0);
    const Ints perm = node.attr_ints("perm").value_or(reversed);
    for (const std::int64_t axis : perm)
        if (axis < 0) node.broken(fmt::format("the permutation has axis {}", axis));
    return {permute(x, perm)};
}

std::vector<Var> import_expand(Node& node) {
    const Var x = node.input(0);
    const Shape shape = x.shape();
    return {broadcast_to(x, broadcast_shapes(node.graph(), shape, Shape(node.input_dims(1))))};
}

std::vector<Var> import_tile(Node& node) { return {tile(node.input(0), node.input_dims(1))}; }

std::vector<Var> import_concat(Node& node) {
    const std::vector<Var> parts = node.all_inputs();
    const std::int64_t axis = node.attr_int("axis");
    if (parts.empty()) node.broken("no input");
    (void)normalize_axis(axis, parts[0].rank());
    return {concat(parts, axis)};
}

// Equal parts; from opset 18 on the last one may be smaller.
std::vector<Dim> equal_parts(Node& node, const Dim& size, std::int64_t count) {
    if (count <= 0) node.broken(fmt::format("{} parts", count));
    const bool last_smaller = node.opset() >= 18;
    const Dim part = last_smaller ? ceil_div(size, count) : floor_div(size, count);
    std::vector<Dim> sizes(static_cast<std::size_t>(count), part);
    if (last_smaller) sizes.back() = size - part * (count - 1);
    return sizes;
}

std::vector<Var> import_split(Node& node) {
    const Var x = node.input(0);
    const std::int64_t axis = node.attr_int("axis", 0);
    const Dim size = x.shape()[normalize_axis(axis, x.rank())];
    std::optional<std::vector<Dim>> sizes;
    if (node.opset() >= 13) {
        if (node.has_input(1)) sizes = node.input_dims(1);
    } else if (const auto given = node.attr_ints("split")) {
        sizes.emplace(given->begin(), given->end());
    }
    std::int64_t count = static_cast<std::int64_t>(node.output_count());
    if (node.opset() >= 18) {
        const std::int64_t asked = node.attr_int("num_outputs", count);
        if (asked != count)
            node.broken(fmt::format("num_outputs is {}, the node has {} outputs", asked, count));
    }
    if (!sizes) sizes = equal_parts(node, size, count);
    if (static_cast<std::int64_t>(sizes->size()) != count)
        node.broken(fmt::format("{} sizes for {} outputs", sizes->size(), count));
    return split(x, axis, *sizes);
}

std::vector<Var> import_identity(Node& node) { return {node.input(0)}; }

std::vector<Var> import_shape(Node& node) {
    const Shape shape = node.input(0).shape();
    const auto rank = static_cast<std::int64_t>(shape.rank());
    std::int64_t start = 0;
    std::int64_t end = rank;
    if (node.opset() >= 15) {
        start = node.attr_int("start", 0);
        end = node.attr_int("end", rank);
    }
    const auto clamped = [&](std::int64_t axis) {
        return static_cast<std::size_t>(
            std::clamp<std::int64_t>(axis < 0 ? axis + rank : axis, 0, rank));
    };
    const std::size_t from = clamped(start);
    return {shape_value(node.graph(), shape.slice(from, std::max(from, clamped(end))).dims())};
}

std::vector<Var> import_size(Node& node) {
    return {scalar_dim(node.graph(), node.input(0).shape().size())};
}

std::int64_t block_size(Node& node) {
    const std::int64_t block = node.attr_int("blocksize");
    if (block < 1 || block > (1 << 20)) node.broken(fmt::format("blocksize is {}", block));
    return block;
}

// Whether depth is the slower of depth and block: CRD.
bool depth_first(Node& node, int since) {
    if (node.opset() < since) return false;
    const std::string mode = node.attr_string("mode", "DCR");
    if (mode != "DCR" && mode != "CRD") node.broken("mode is '" + mode + "'");
    return mode == "CRD";
}

Shape image_shape(Node& node) {
    const Shape shape = node.input(0).shape();
    if (shape.rank() != 4) node.broken("the input is " + shape.to_string() + ", not [N, C, H, W]");
    return shape;
}

std::vector<Var> import_depth_to_space(Node& node) {
    const Var x = node.input(0);
    const Shape s = image_shape(node);
    const std::int64_t b = block_size(node);
    const Dim depth = floor_div(s[1], b * b);
    const Shape result{s[0], depth, s[2] * b, s[3] * b};
    if (depth_first(node, 11))
        return {reshape(permute(reshape(x, {s[0], depth, b, b, s[2], s[3]}), {0, 1, 4, 2, 5, 3}),
                        result)};
    return {
        reshape(permute(reshape(x, {s[0], b, b, depth, s[2], s[3]}), {0, 3, 4, 1, 5, 2}), result)};
}

std::vector<Var> import_space_to_depth(Node& node) {
    const Var x = node.input(0);
    const Shape s = image_shape(node);
    const std::int64_t b = block_size(node);
    const Dim height = floor_div(s[2], b);
    const Dim width = floor_div(s[3], b);
    const Var blocks = reshape(x, {s[0], s[1], height, b, width, b});
    const Ints perm = depth_first(node, 28) ? Ints{0, 1, 3, 5, 2, 4} : Ints{0, 3, 5, 1, 2, 4};
    return {reshape(permute(blocks, perm), {s[0], s[1] * (b * b), height, width})};
}

}  // namespace

std::vector<ImportRow> shape_rows() {
    std::vector<ImportRow> rows = {
        {"", "Reshape", 5, import_reshape},
        {"", "Flatten", 1, import_flatten},
        {"", "Squeeze", 1, import_squeeze},
        {"", "Unsqueeze", 1, import_unsqueeze},
        {"", "Transpose", 1, import_transpose},
        {"", "Expand", 8, import_expand},
        {"", "Tile", 6, import_tile},
        {"", "Concat", 4, import_concat},
        {"", "Split", 2, import_split},
        {"", "Identity", 1, import_identity},
        {"", "Shape", 1, import_shape},
        {"", "Size", 1, import_size},
        {"", "DepthToSpace", 1, import_depth_to_space},
        {"", "SpaceToDepth", 1, import_space_to_depth},
    };
    append(rows, slice_rows());
    append(rows, generator_rows());
    return rows;
}

}  // namespace kn::onnx
