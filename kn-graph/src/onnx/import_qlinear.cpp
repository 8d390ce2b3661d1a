// Integer matrix products and convolutions, and their forms that requantise the result.
#include <fmt/core.h>

#include "onnx/import_util.h"
#include "onnx/quantize.h"

namespace kn::onnx {

namespace {

/// A zero point or scale of a matrix's rows: [M] becomes [M, 1].
Var per_row(Var parameter) {
    return parameter.rank() == 1 && !(parameter.shape()[0] == 1) ? unsqueeze(parameter, {1})
                                                                 : parameter;
}

std::optional<Var> per_row(const std::optional<Var>& parameter) {
    return parameter ? std::optional(per_row(*parameter)) : std::nullopt;
}

std::vector<Var> import_matmul_integer(Node& node) {
    Var a = node.input(0);
    Var b = node.input(1);
    return {
        matmul(centred(a, a.rank() > 1 ? per_row(node.optional_input(2)) : node.optional_input(2)),
               centred(b, node.optional_input(3)))};
}

std::vector<Var> import_qlinear_matmul(Node& node) {
    Var a = node.input(0);
    Var b = node.input(3);
    const bool matrix = a.rank() > 1;
    auto of_rows = [&](Var parameter) { return matrix ? per_row(parameter) : parameter; };
    auto real = [](Var scale) { return cast(scale, DType::F32); };
    Var product = matmul(centred(a, of_rows(node.input(2))), centred(b, node.input(5)));
    Var factor = of_rows(real(node.input(1))) * real(node.input(4)) / of_rows(real(node.input(6)));
    Var zero_point = of_rows(node.input(7));
    return {saturate(cast(product, DType::F32) * factor, zero_point, node.input(7).dtype())};
}

struct IntegerConv {
    Var y;  ///< i32
    std::size_t rank;
};

/// Padding stands for the real number 0, which is x's zero point.
IntegerConv integer_conv(Node& node, Var x, Var w, std::optional<Var> x_zero,
                         std::optional<Var> w_zero, std::optional<Var> bias) {
    if (x_zero) x_zero = as_scalar(*x_zero);
    if (w_zero) w_zero = parameter_along(node, *w_zero, w.rank(), 0);
    return {conv(centred(x, x_zero), centred(w, w_zero), bias, read_conv(node, x, w)), x.rank()};
}

std::vector<Var> import_conv_integer(Node& node) {
    return {integer_conv(node, node.input(0), node.input(1), node.optional_input(2),
                         node.optional_input(3), {})
                .y};
}

std::vector<Var> import_qlinear_conv(Node& node) {
    const auto [y, rank] = integer_conv(node, node.input(0), node.input(3), node.input(2),
                                        node.input(5), node.optional_input(8));
    Var factor = as_scalar(node.input(1)) * parameter_along(node, node.input(4), rank, 1) /
                 as_scalar(node.input(6));
    Var zero_point = as_scalar(node.input(7));
    return {saturate(cast(y, DType::F32) * factor, zero_point, zero_point.dtype())};
}

}  // namespace

std::vector<ImportRow> integer_rows() {
    return {
        {"", "MatMulInteger", 10, import_matmul_integer},
        {"", "QLinearMatMul", 10, import_qlinear_matmul},
        {"", "ConvInteger", 10, import_conv_integer},
        {"", "QLinearConv", 10, import_qlinear_conv},
    };
}

}  // namespace kn::onnx
