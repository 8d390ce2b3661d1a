// Matrix products.
#include <cmath>

#include "onnx/import_util.h"

namespace kn::onnx {

namespace {

std::vector<Var> import_matmul(Node& node) { return {matmul(node.input(0), node.input(1))}; }

Var scaled(Node& node, Var x, double factor, const char* name) {
    if (factor == 1) return x;
    if (!is_float(x.dtype()) && factor != std::trunc(factor))
        node.unsupported(fmt::format("{} {} of {} matrices", name, factor, name_of(x.dtype())));
    return x * factor;
}

std::vector<Var> import_gemm(Node& node) {
    Var a = node.input(0);
    Var b = node.input(1);
    const std::optional<Var> c = node.opset() < 11 ? node.input(2) : node.optional_input(2);
    const double alpha = node.attr_float("alpha", 1.0);
    const double beta = node.attr_float("beta", 1.0);
    if (a.rank() != 2 || b.rank() != 2)
        node.broken("the operands are " + a.shape().to_string() + " and " + b.shape().to_string() +
                    ", not matrices");
    if (node.attr_int("transA", 0) != 0) a = transpose(a);
    if (node.attr_int("transB", 0) != 0) b = transpose(b);
    const Var product = scaled(node, matmul(a, b), alpha, "alpha");
    if (!c || beta == 0) return {product};
    return {product + broadcast_to(scaled(node, *c, beta, "beta"), product.shape())};
}

// Elimination with row pivots, unrolled over the columns: the largest element of the first column
// is the next factor; its row and the column go.
std::vector<Var> import_det(Node& node) {
    constexpr std::int64_t largest_matrix = 64;
    Var x = node.input(0);
    const DType dtype = x.dtype();
    const std::size_t rank = x.rank();
    if (rank < 2) node.broken("the input is " + x.shape().to_string() + ", not a matrix");
    node.graph().require_equal(x.shape()[rank - 2], x.shape()[rank - 1], "the matrix is square");
    const auto size = x.shape()[rank - 1].constant();
    if (!size || *size > largest_matrix)
        node.unsupported("matrices of " + x.shape()[rank - 1].to_string() + " rows");
    x = cast(x, is_half(dtype) ? DType::F32 : dtype);
    const std::vector<Dim> batch = x.shape().slice(0, rank - 2).dims();
    const auto row_axis = static_cast<std::int64_t>(rank) - 2;
    Var det = full(node.graph(), x.dtype(), Shape(batch), 1);
    for (std::int64_t left = *size; left > 0; --left) {
        const Var column = slice(x, -1, 0, 1);
        const Var at = add(x, op::ArgReduce{true, false, abs(column), row_axis});  // [batch..., 1]
        const Var row = unsqueeze(at, {-1});
        const auto pick = [&](Var index, std::int64_t rows) {
            Shape shape(batch);
            shape.push_back(rows);
            shape.push_back(left);
            return gather_elements(x, broadcast_to(index, shape), row_axis);
        };
        const Var pivot_row = pick(row, 1);
        const Var pivot = slice(pivot_row, -1, 0, 1);
        const Var odd = equal(binary(BinaryOp::Mod, row, scalar_like(row, 2)), scalar_like(row, 1));
        det = det * reshape(select(odd, -pivot, pivot), Shape(batch));
        if (left == 1) break;
        const Var others = iota_along(node.graph(), left - 1, rank - 2, rank);
        const Var skip = cast(less_equal(row, others), DType::I64);
        const Var rest = pick(others + skip, left - 1);
        // A column of zeros makes the determinant 0, whatever follows.
        const Var divisor = select(equal(pivot, zero_like(pivot)), scalar_like(pivot, 1), pivot);
        const Var factor = slice(rest, -1, 0, 1) / divisor;
        x = slice(rest, -1, 1, left) - factor * slice(pivot_row, -1, 1, left);
    }
    return {cast(det, dtype)};
}

}  // namespace

std::vector<ImportRow> linear_rows() {
    std::vector<ImportRow> rows = {
        {"", "MatMul", 1, import_matmul},
        {"", "Gemm", 7, import_gemm},
        {"", "Det", 11, import_det},
    };
    append(rows, einsum_rows());
    return rows;
}

}  // namespace kn::onnx
