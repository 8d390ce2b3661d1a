// Tensors made from sizes and positions: ranges, fills, triangles, grids.
#include <cmath>

#include "onnx/import_util.h"

namespace kn::onnx {

namespace {

// start + i * delta, i < length
Var progression(const Dim& length, Var start, Var delta) {
    return cast(iota(*start.graph, length), start.dtype()) * delta + start;
}

// max(0, ceil((limit - start) / delta)) where everything is an integer known at load time, or a
// multiple of symbols.
std::optional<Dim> known_count(Node& node) {
    const auto start = node.known_dims(0);
    const auto limit = node.known_dims(1);
    const auto delta = node.known_dims(2);
    if (!start || !limit || !delta || start->size() != 1 || limit->size() != 1 ||
        delta->size() != 1 || !(*delta)[0].is_constant())
        return std::nullopt;
    const std::int64_t step = (*delta)[0].value();
    if (step == 0) node.broken("delta is 0");
    const Dim distance = step > 0 ? (*limit)[0] - (*start)[0] : (*start)[0] - (*limit)[0];
    return max(ceil_div(distance, step > 0 ? Dim(step) : -Dim(step)), 0);
}

std::optional<Dim> known_float_count(Node& node) {
    const auto start = node.known_tensor(0);
    const auto limit = node.known_tensor(1);
    const auto delta = node.known_tensor(2);
    if (!start || !limit || !delta) return std::nullopt;
    const double count = std::ceil((limit->at(0) - start->at(0)) / delta->at(0));
    if (!(count < 1e18)) node.broken("the range has no end");
    return Dim(count > 0 ? static_cast<std::int64_t>(count) : 0);
}

Dim run_time_count(Var start, Var limit, Var delta) {
    Var count = start;
    if (is_float(start.dtype())) {
        const auto wide = [](Var x) { return cast(x, DType::F64); };
        count = cast(unary(UnaryOp::Ceil, (wide(limit) - wide(start)) / wide(delta)), DType::I64);
    } else {
        // ceil(a / b) = -floor(-a / b), and -a - mod(-a, b) is a multiple of b
        const Var distance = cast(start, DType::I64) - cast(limit, DType::I64);
        const Var step = cast(delta, DType::I64);
        count = -((distance - binary(BinaryOp::Mod, distance, step)) / step);
    }
    return read_dims(maximum(count, zero_like(count)), "range")[0];
}

std::vector<Var> import_range(Node& node) {
    Var start = as_scalar(node.input(0));
    Var limit = as_scalar(node.input(1));
    Var delta = as_scalar(node.input(2));
    const DType dtype = start.dtype();
    if (node.opset() >= 27) {
        const std::int64_t stash = node.attr_int("stash_type", 1);
        if (stash != 1 && stash != 11) node.unsupported(fmt::format("stash_type {}", stash));
    }
    std::optional<Dim> count = is_int(dtype) ? known_count(node) : known_float_count(node);
    if (!count) count = run_time_count(start, limit, delta);
    if (is_half(dtype)) {
        start = cast(start, DType::F32);
        delta = cast(delta, DType::F32);
    }
    return {cast(progression(*count, start, delta), dtype)};
}

std::vector<Var> import_constant_of_shape(Node& node) {
    const Shape shape(node.input_dims(0));
    const Tensor value = node.attr_tensor("value").value_or(Tensor::scalar(0.0f));
    if (value.size() != 1) node.broken("the value is " + value.type_string() + ", not one element");
    return {broadcast_to(node.graph().constant(value.reshaped({})), shape)};
}

// column - row of a matrix's positions
Var diagonals(Graph& graph, const Dim& rows, const Dim& columns) {
    return iota_along(graph, columns, 1, 2) - iota_along(graph, rows, 0, 2);
}

std::vector<Var> import_eye_like(Node& node) {
    const Var x = node.input(0);
    const Shape shape = x.shape();
    const DType dtype = node.attr_dtype("dtype").value_or(x.dtype());
    if (shape.rank() != 2) node.broken("the input is " + shape.to_string() + ", not a matrix");
    const Var offset = scalar(node.graph(), DType::I64, static_cast<double>(node.attr_int("k", 0)));
    return {cast(equal(diagonals(node.graph(), shape[0], shape[1]), offset), dtype)};
}

std::vector<Var> import_trilu(Node& node) {
    const Var x = node.input(0);
    const Shape shape = x.shape();
    const bool upper = node.attr_int("upper", 1) != 0;
    if (shape.rank() < 2) node.broken("the input is " + shape.to_string() + ", not a matrix");
    const auto given = node.optional_input(1);
    const Var offset = given ? as_scalar(*given) : scalar(node.graph(), DType::I64, 0);
    const Var place = diagonals(node.graph(), shape[shape.rank() - 2], shape[shape.rank() - 1]);
    const Var kept = upper ? greater_equal(place, offset) : less_equal(place, offset);
    return {select(kept, x, zero_like(x))};
}

// Positions -1..1 of `size` points: of the edges, or of the centres of equal cells.
Var coordinates(Graph& graph, const Dim& size, bool edges, DType dtype) {
    const Var i = cast(iota(graph, size), dtype);
    if (edges) return i * 2.0 / cast(scalar_dim(graph, max(size - 1, 1)), dtype) - 1.0;
    return (i * 2.0 + 1.0) / cast(scalar_dim(graph, size), dtype) - 1.0;
}

std::vector<Var> import_affine_grid(Node& node) {
    const Var theta = node.input(0);
    const std::vector<Dim> sizes = node.input_dims(1);
    const bool edges = node.attr_int("align_corners", 0) != 0;
    if (sizes.size() != 4 && sizes.size() != 5)
        node.broken(fmt::format("size has {} elements, 4 or 5 are needed", sizes.size()));
    const std::size_t spatial = sizes.size() - 2;
    const Dim axes = static_cast<std::int64_t>(spatial);
    const Shape space = Shape(sizes).slice(2, sizes.size());
    Shape column = space;
    column.push_back(1);
    // x first: the last axis comes first.
    std::vector<Var> columns;
    for (std::size_t axis = spatial; axis-- > 0;) {
        const Var line = coordinates(node.graph(), space[axis], edges, theta.dtype());
        columns.push_back(broadcast_to(along_axis(line, axis, spatial + 1), column));
    }
    columns.push_back(full(node.graph(), theta.dtype(), column, 1));
    const Var points = reshape(concat(columns, -1), {space.size(), axes + 1});
    Shape result{sizes[0]};
    for (const Dim& dim : space) result.push_back(dim);
    result.push_back(axes);
    return {reshape(matmul(points, transpose(theta)), result)};
}

}  // namespace

std::vector<ImportRow> generator_rows() {
    return {
        {"", "Range", 11, import_range},
        {"", "ConstantOfShape", 9, import_constant_of_shape},
        {"", "EyeLike", 9, import_eye_like},
        {"", "Trilu", 14, import_trilu},
        {"", "AffineGrid", 20, import_affine_grid},
    };
}

}  // namespace kn::onnx
