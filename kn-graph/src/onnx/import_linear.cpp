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

}  // namespace

std::vector<ImportRow> linear_rows() {
    std::vector<ImportRow> rows = {
        {"", "MatMul", 1, import_matmul},
        {"", "Gemm", 7, import_gemm},
    };
    append(rows, einsum_rows());
    return rows;
}

}  // namespace kn::onnx
