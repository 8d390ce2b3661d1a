// Operators that pick elements by index, search and sort.
#include "onnx/import_util.h"

namespace kn::onnx {

namespace {

std::vector<Var> import_gather(Node& node) {
    return {gather(node.input(0), node.input(1), node.attr_int("axis", 0))};
}

std::vector<Var> import_gather_elements(Node& node) {
    return {gather_elements(node.input(0), node.input(1), node.attr_int("axis", 0))};
}

std::vector<Var> import_gather_nd(Node& node) {
    const Var x = node.input(0);
    const std::int64_t batch_dims = node.opset() >= 12 ? node.attr_int("batch_dims", 0) : 0;
    return {add(x, op::GatherNd{x, node.input(1), batch_dims})};
}

std::vector<Var> import_one_hot(Node& node) {
    Graph& graph = node.graph();
    const std::vector<Dim> depths = numeric_dims(node, 1, "depth");
    if (depths.size() != 1) node.broken("depth is not one number");
    const Dim depth = depths[0];
    const Var values = node.input(2);
    Var index = cast(node.input(0), DType::I64);
    const std::size_t rank = index.rank() + 1;
    const std::size_t axis = normalize_axis(node.attr_int("axis", -1), rank);
    // Negative indices count from the end since opset 11.
    if (node.opset() >= 11)
        index = select(less(index, zero_like(index)), index + scalar_dim(graph, depth), index);
    index = unsqueeze(index, {static_cast<std::int64_t>(axis)});
    const Var on = as_scalar(slice(values, 0, 1, 2));
    const Var off = as_scalar(slice(values, 0, 0, 1));
    if (!(values.shape() == Shape{2}))
        node.broken("values are " + values.shape().to_string() + ", not [2]");
    return {select(equal(index, iota_along(graph, depth, axis, rank)), on, off)};
}

std::vector<Var> top_k_outputs(Node& node, const Dim& k, bool largest) {
    const TopKResult result = top_k(node.input(0), k, node.attr_int("axis", -1), largest);
    return {result.values, result.indices};
}

std::vector<Var> import_top_k_1(Node& node) {
    return top_k_outputs(node, node.attr_int("k"), true);
}

std::vector<Var> import_top_k(Node& node) {
    const std::vector<Dim> k = node.input_dims(1);
    if (k.size() != 1) node.broken("k is not one number");
    bool largest = true;
    if (node.opset() >= 11) {
        largest = node.attr_int("largest", 1) != 0;
        node.ignore_attr("sorted");  // sorted is as good as any order
    }
    return top_k_outputs(node, k[0], largest);
}

template <bool largest>
std::vector<Var> import_arg(Node& node) {
    const Var x = node.input(0);
    const auto axis = static_cast<std::int64_t>(normalize_axis(node.attr_int("axis", 0), x.rank()));
    const bool keep = node.attr_int("keepdims", 1) == 1;
    const bool last = node.opset() >= 12 && node.attr_int("select_last_index", 0) != 0;
    const Var index = add(x, op::ArgReduce{largest, last, x, axis});
    return {keep ? unsqueeze(index, {axis}) : index};
}

// i64 [rank, count]
Var non_zero(Var x) {
    if (x.rank() == 0) x = reshape(x, {1});
    return add(x, op::NonZero{x, x.graph->fresh_symbol("nonzero")});
}

// The coordinates as a constant, where the elements are known.
Tensor non_zero_of(const Tensor& x) {
    const Ints shape = x.rank() == 0 ? Ints{1} : x.shape();
    std::vector<std::int64_t> found;
    for (std::int64_t i = 0; i < x.size(); ++i)
        if (x.at(i) != 0) found.push_back(i);
    const auto count = static_cast<std::int64_t>(found.size());
    Tensor result(DType::I64, {static_cast<std::int64_t>(shape.size()), count});
    const auto out = result.mutable_data<std::int64_t>();
    std::int64_t stride = 1;
    for (std::size_t axis = shape.size(); axis-- > 0;) {
        for (std::int64_t i = 0; i < count; ++i)
            out[static_cast<std::size_t>(static_cast<std::int64_t>(axis) * count + i)] =
                found[static_cast<std::size_t>(i)] / stride % shape[axis];
        stride *= shape[axis];
    }
    return result;
}

std::vector<Var> import_non_zero(Node& node) {
    const Var x = node.input(0);
    if (const auto known = node.known_tensor(0))
        return {node.graph().constant(non_zero_of(*known))};
    return {non_zero(x)};
}

std::vector<Var> import_compress(Node& node) {
    Var x = node.input(0);
    const Var condition = node.input(1);
    std::int64_t axis = 0;
    if (node.has_attr("axis"))
        axis = node.attr_int("axis");
    else
        x = reshape(x, {x.shape().size()});
    if (condition.rank() != 1)
        node.broken("the condition is " + condition.shape().to_string() + ", not a vector");
    const auto known = node.known_tensor(1);
    const Var found = known ? node.graph().constant(non_zero_of(*known)) : non_zero(condition);
    return {gather(x, reshape(found, {found.shape()[1]}), axis)};
}

template <ReduceOp op>
std::vector<Var> import_cumulative(Node& node) {
    const Var x = node.input(0);
    const Ints axes = node.input_ints(1);
    if (axes.size() != 1) node.broken("axis is not one number");
    const auto axis = static_cast<std::int64_t>(normalize_axis(axes[0], x.rank()));
    const bool exclusive = node.attr_int("exclusive", 0) != 0;
    const bool reverse = node.attr_int("reverse", 0) != 0;
    return {add(x, op::Cumulative{op, x, axis, exclusive, reverse})};
}

std::vector<Var> import_reverse_sequence(Node& node) {
    const Var x = node.input(0);
    const Var lengths = cast(node.input(1), DType::I64);
    const Shape shape = x.shape();
    const std::int64_t batch = node.attr_int("batch_axis", 1);
    const std::int64_t time = node.attr_int("time_axis", 0);
    if (shape.rank() < 2 || batch + time != 1 || batch < 0 || batch > 1)
        node.broken(
            fmt::format("batch_axis {} and time_axis {} of {}", batch, time, shape.to_string()));
    const auto time_axis = static_cast<std::size_t>(time);
    const Var position = iota_along(node.graph(), shape[time_axis], time_axis, shape.rank());
    const Var length = along_axis(lengths, static_cast<std::size_t>(batch), shape.rank());
    const Var source = select(less(position, length), length - 1.0 - position, position);
    return {gather_elements(x, broadcast_to(source, shape), time)};
}

// Picks elements of the last axis.
std::vector<Var> import_array_feature_extractor(Node& node) {
    const Var x = node.input(0);
    Var index = node.input(1);
    index = reshape(index, {index.shape().size()});
    return {gather(x.rank() == 1 ? unsqueeze(x, {0}) : x, index, -1)};
}

}  // namespace

std::vector<ImportRow> index_rows() {
    std::vector<ImportRow> rows = {
        {"", "Gather", 1, import_gather},
        {"", "GatherElements", 11, import_gather_elements},
        {"", "GatherND", 11, import_gather_nd},
        {"", "OneHot", 9, import_one_hot},
        {"", "TopK", 1, import_top_k_1},
        {"", "TopK", 10, import_top_k},
        {"", "ArgMax", 1, import_arg<true>},
        {"", "ArgMin", 1, import_arg<false>},
        {"", "NonZero", 9, import_non_zero},
        {"", "Compress", 9, import_compress},
        {"", "CumSum", 11, import_cumulative<ReduceOp::Sum>},
        {"", "CumProd", 26, import_cumulative<ReduceOp::Prod>},
        {"", "ReverseSequence", 10, import_reverse_sequence},
        {"ai.onnx.ml", "ArrayFeatureExtractor", 1, import_array_feature_extractor},
    };
    append(rows, scatter_rows());
    return rows;
}

}  // namespace kn::onnx
