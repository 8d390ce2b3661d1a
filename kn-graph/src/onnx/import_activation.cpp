// Activations, softmax and its kin, dropout.
#include "onnx/import_util.h"

namespace kn::onnx {

namespace {

template <UnaryOp op>
std::vector<Var> import_unary(Node& node) {
    return {unary(op, node.input(0))};
}

std::vector<Var> import_relu(Node& node) { return {relu(node.input(0))}; }

std::vector<Var> import_leaky_relu(Node& node) {
    return {leaky_relu(node.input(0), node.attr_float("alpha", 0.01))};
}

std::vector<Var> import_prelu(Node& node) {
    const Var x = node.input(0);
    const Var slope = broadcast_to(node.input(1), x.shape());
    return {select(less(x, zero_like(x)), slope * x, x)};
}

std::vector<Var> import_elu(Node& node) {
    return {elu(node.input(0), node.attr_float("alpha", 1.0))};
}

std::vector<Var> import_selu(Node& node) {
    const double alpha = node.attr_float("alpha", 1.67326319217681884765625);
    const double gamma = node.attr_float("gamma", 1.05070102214813232421875);
    return {elu(node.input(0), alpha) * gamma};
}

std::vector<Var> import_celu(Node& node) {
    const Var x = node.input(0);
    const double alpha = node.attr_float("alpha", 1.0);
    if (alpha == 0) node.broken("alpha is 0");
    // max(0, x) + min(0, alpha * (exp(x / alpha) - 1))
    const Var bent = unary(UnaryOp::Expm1, x / alpha) * alpha;
    return {maximum(x, zero_like(x)) + minimum(bent, zero_like(x))};
}

std::vector<Var> import_thresholded_relu(Node& node) {
    const Var x = node.input(0);
    const Var alpha = scalar_like(x, node.attr_float("alpha", 1.0));
    return {select(less(alpha, x), x, zero_like(x))};
}

std::vector<Var> import_hard_sigmoid(Node& node) {
    const double alpha = node.attr_float("alpha", 0.2);
    const double beta = node.attr_float("beta", 0.5);
    return {hard_sigmoid(node.input(0), alpha, beta)};
}

std::vector<Var> import_hard_swish(Node& node) {
    const Var x = node.input(0);
    return {x * hard_sigmoid(x, 1.0 / 6, 0.5)};
}

std::vector<Var> import_gelu(Node& node) {
    const std::string approximate = node.attr_string("approximate", "none");
    if (approximate != "none" && approximate != "tanh")
        node.broken("approximate is '" + approximate + "'");
    return {approximate == "tanh" ? gelu_tanh(node.input(0)) : gelu(node.input(0))};
}

Var swish(Var x, double alpha) { return alpha == 1 ? silu(x) : x * sigmoid(x * alpha); }

std::vector<Var> import_swish(Node& node) {
    return {swish(node.input(0), node.attr_float("alpha", 1.0))};
}

std::vector<Var> import_swiglu(Node& node) {
    const Var gate = swish(node.input(0), node.attr_float("alpha", 1.0));
    return {gate * broadcast_to(node.input(1), gate.shape())};
}

std::vector<Var> import_shrink(Node& node) {
    const double bias = node.attr_float("bias", 0.0);
    const double lambda = node.attr_float("lambd", 0.5);
    const DType dtype = node.input(0).dtype();
    const Var x = cast(node.input(0), is_float(dtype) ? dtype : DType::F64);
    const Var inner = select(greater(x, scalar_like(x, lambda)), x - bias, zero_like(x));
    return {cast(select(less(x, scalar_like(x, -lambda)), x + bias, inner), dtype)};
}

using AlongAxis = Var (*)(Var x, std::int64_t axis);

template <AlongAxis function>
std::vector<Var> import_along_axis(Node& node) {
    return {function(node.input(0), node.attr_int("axis", -1))};
}

// Before opset 13: over all axes from `axis` on, as if they were one.
template <AlongAxis function>
std::vector<Var> import_flattened(Node& node) {
    const Var x = node.input(0);
    const std::int64_t axis = node.attr_int("axis", 1);
    const auto rank = static_cast<std::int64_t>(x.rank());
    if (axis == rank - 1 || axis == -1) return {function(x, -1)};
    const Shape shape = x.shape();
    return {reshape(function(flatten(x, axis), 1), shape)};
}

Var hardmax(Var x, std::int64_t axis) {
    const std::size_t at = normalize_axis(axis, x.rank());
    const Dim size = x.shape()[at];
    const Var index = arg_max(x, axis, true);
    return cast(equal(iota_along(*x.graph, size, at, x.rank()), index), x.dtype());
}

Var softmax_along(Var x, std::int64_t axis) { return softmax(x, axis); }
Var log_softmax_along(Var x, std::int64_t axis) { return log_softmax(x, axis); }

std::vector<Var> pass_through(Node& node, DType mask_dtype) {
    const Var x = node.input(0);
    if (!node.wants_output(1)) return {x};
    return {x, full(node.graph(), mask_dtype, x.shape(), 1)};
}

std::vector<Var> import_dropout_7(Node& node) {
    node.ignore_attr("ratio");
    // The mask was of the input's dtype before opset 10.
    return pass_through(node, node.opset() < 10 ? node.input(0).dtype() : DType::Bool);
}

std::vector<Var> import_dropout(Node& node) {
    node.ignore_attr("seed");
    const bool has_ratio = node.optional_input(1).has_value();
    if (node.optional_input(2)) {
        const auto training = node.known_tensor(2);
        const bool inference = training && training->size() == 1 && training->at(0) == 0;
        // In training, only a ratio of 0 leaves nothing to chance.
        if (!inference && (!has_ratio || node.input_floats(1) != std::vector<double>{0.0}))
            node.unsupported("training_mode is not constant false");
    }
    return pass_through(node, DType::Bool);
}

}  // namespace

std::vector<ImportRow> activation_rows() {
    return {
        {"", "Relu", 6, import_relu},
        {"", "LeakyRelu", 6, import_leaky_relu},
        {"", "PRelu", 7, import_prelu},
        {"", "Elu", 6, import_elu},
        {"", "Selu", 6, import_selu},
        {"", "Celu", 12, import_celu},
        {"", "ThresholdedRelu", 10, import_thresholded_relu},
        {"", "HardSigmoid", 6, import_hard_sigmoid},
        {"", "HardSwish", 14, import_hard_swish},
        {"", "Sigmoid", 6, import_unary<UnaryOp::Sigmoid>},
        {"", "Tanh", 6, import_unary<UnaryOp::Tanh>},
        {"", "Softplus", 1, import_unary<UnaryOp::Softplus>},
        {"", "Softsign", 1, import_unary<UnaryOp::Softsign>},
        {"", "Mish", 18, import_unary<UnaryOp::Mish>},
        {"", "Gelu", 20, import_gelu},
        {"", "Swish", 24, import_swish},
        {"", "SwiGLU", 28, import_swiglu},
        {"", "Shrink", 9, import_shrink},
        {"", "Softmax", 1, import_flattened<softmax_along>},
        {"", "Softmax", 13, import_along_axis<softmax_along>},
        {"", "LogSoftmax", 1, import_flattened<log_softmax_along>},
        {"", "LogSoftmax", 13, import_along_axis<log_softmax_along>},
        {"", "Hardmax", 1, import_flattened<hardmax>},
        {"", "Hardmax", 13, import_along_axis<hardmax>},
        {"", "Dropout", 7, import_dropout_7},
        {"", "Dropout", 12, import_dropout},
    };
}

}  // namespace kn::onnx
