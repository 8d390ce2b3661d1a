// Operators that write elements by index.
#include "onnx/import_util.h"

namespace kn::onnx {

namespace {

// add and mul came with opset 16, max and min with 18.
ScatterReduction reduction_of(Node& node) {
    if (node.opset() < 16) return ScatterReduction::None;
    const std::string name = node.attr_string("reduction", "none");
    if (name == "none") return ScatterReduction::None;
    if (name == "add") return ScatterReduction::Add;
    if (name == "mul") return ScatterReduction::Mul;
    if (name == "max" && node.opset() >= 18) return ScatterReduction::Max;
    if (name != "min" || node.opset() < 18) node.broken("reduction is '" + name + "'");
    return ScatterReduction::Min;
}

Var scatter_elements(Var x, Var indices, Var updates, std::int64_t axis,
                     ScatterReduction reduction) {
    const auto at = static_cast<std::int64_t>(normalize_axis(axis, x.rank()));
    return add(x, op::ScatterElements{x, indices, updates, at, reduction});
}

std::vector<Var> import_scatter_elements(Node& node) {
    return {scatter_elements(node.input(0), node.input(1), node.input(2), node.attr_int("axis", 0),
                             reduction_of(node))};
}

std::vector<Var> import_scatter_nd(Node& node) {
    const Var x = node.input(0);
    return {add(x, op::ScatterNd{x, node.input(1), node.input(2), reduction_of(node)})};
}

std::vector<Var> import_tensor_scatter(Node& node) {
    const Var cache = node.input(0);
    const Var update = node.input(1);
    const auto first = node.optional_input(2);
    const std::string mode = node.attr_string("mode", "linear");
    if (mode != "linear" && mode != "circular") node.broken("mode is '" + mode + "'");
    const Shape shape = update.shape();
    const std::size_t rank = cache.rank();
    const std::size_t axis = normalize_axis(node.attr_int("axis", -2), rank);
    if (axis == 0 || shape.rank() != rank)
        node.broken(fmt::format("axis {} of cache {} and update {}", axis,
                                cache.shape().to_string(), shape.to_string()));
    for (std::size_t i = 0; i < rank; ++i)
        if (i != axis) node.graph().require_equal(cache.shape()[i], shape[i], "cache and update");
    node.graph().require_not_negative(cache.shape()[axis] - shape[axis],
                                      "the update fits into the cache");
    Var position = iota_along(node.graph(), shape[axis], axis, rank);
    if (first) position = position + along_axis(*first, 0, rank);
    if (mode == "circular")
        position = binary(BinaryOp::Mod, position, scalar_dim(node.graph(), cache.shape()[axis]));
    return {scatter_elements(cache, broadcast_to(position, shape), update,
                             static_cast<std::int64_t>(axis), ScatterReduction::None)};
}

// ---- Col2Im ----

struct Col2Im {
    Ints image;
    Ints block;
    Ints strides;
    Ints dilations;
    Ints begins;
    Ints ends;

    std::int64_t padded(std::size_t i) const { return image[i] + begins[i] + ends[i]; }
    std::int64_t positions(std::size_t i) const {
        return (padded(i) - dilations[i] * (block[i] - 1) - 1) / strides[i] + 1;
    }
};

Ints with_length(Node& node, const char* name, std::size_t length, std::int64_t otherwise) {
    const Ints values = node.attr_ints(name).value_or(Ints(length, otherwise));
    if (values.size() != length)
        node.broken(fmt::format("{} {}, {} are needed", values.size(), name, length));
    for (const std::int64_t value : values)
        if (value < otherwise || value > INT32_MAX)
            node.broken(fmt::format("{} of {}", name, value));
    return values;
}

Col2Im col2im_of(Node& node) {
    Col2Im out;
    out.image = node.input_ints(1);
    out.block = node.input_ints(2);
    const std::size_t rank = out.image.size();
    if (rank == 0 || out.block.size() != rank)
        node.broken("image_shape and block_shape differ in length");
    out.strides = with_length(node, "strides", rank, 1);
    out.dilations = with_length(node, "dilations", rank, 1);
    const Ints pads = with_length(node, "pads", 2 * rank, 0);
    const auto middle = pads.begin() + static_cast<std::ptrdiff_t>(rank);
    out.begins.assign(pads.begin(), middle);
    out.ends.assign(middle, pads.end());
    for (std::size_t i = 0; i < rank; ++i) {
        if (out.image[i] < 1 || out.block[i] < 1 || out.image[i] > INT32_MAX ||
            out.block[i] > INT32_MAX || out.dilations[i] * (out.block[i] - 1) >= out.padded(i))
            node.broken("a block does not fit into the image");
    }
    return out;
}

// Where element (offset in the block, position of the block) lies in the padded image: i64 [blocks
// * positions].
Var targets(Graph& graph, const Col2Im& c) {
    const std::size_t rank = c.image.size();
    Var index = scalar(graph, DType::I64, 0);
    std::int64_t stride = 1;
    for (std::size_t i = rank; i-- > 0;) {
        const Var offset =
            iota_along(graph, c.block[i], i, 2 * rank) * static_cast<double>(c.dilations[i]);
        const Var place = iota_along(graph, c.positions(i), rank + i, 2 * rank) *
                          static_cast<double>(c.strides[i]);
        index = index + (offset + place) * static_cast<double>(stride);
        stride *= c.padded(i);
    }
    return reshape(index, {index.shape().size()});
}

std::vector<Var> import_col2im(Node& node) {
    const Var x = node.input(0);
    const Shape shape = x.shape();
    const Col2Im c = col2im_of(node);
    const std::size_t rank = c.image.size();
    if (shape.rank() != 3)
        node.broken("the input is " + shape.to_string() + ", not [N, C * block, L]");
    Ints padded;
    for (std::size_t i = 0; i < rank; ++i) padded.push_back(c.padded(i));
    const std::int64_t image_size = checked_size(padded);
    const Dim channels = floor_div(shape[1], checked_size(c.block));
    const Var index = targets(node.graph(), c);
    const Dim planes = shape[0] * channels;
    const Shape columns{planes, index.shape()[0]};
    const Var zeros = full(node.graph(), x.dtype(), {planes, image_size}, 0);
    Var image = scatter_elements(zeros, broadcast_to(index, columns), reshape(x, columns), 1,
                                 ScatterReduction::Add);
    Shape result{shape[0], channels};
    for (const std::int64_t size : padded) result.push_back(size);
    image = reshape(image, result);
    for (std::size_t i = 0; i < rank; ++i)
        image =
            slice(image, static_cast<std::int64_t>(2 + i), c.begins[i], c.begins[i] + c.image[i]);
    return {image};
}

}  // namespace

std::vector<ImportRow> scatter_rows() {
    return {
        {"", "Scatter", 9, import_scatter_elements},
        {"", "ScatterElements", 11, import_scatter_elements},
        {"", "ScatterND", 11, import_scatter_nd},
        {"", "TensorScatter", 24, import_tensor_scatter},
        {"", "Col2Im", 18, import_col2im},
    };
}

}  // namespace kn::onnx
