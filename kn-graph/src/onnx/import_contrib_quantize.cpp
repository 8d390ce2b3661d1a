// Quantised operators of com.microsoft.
#include <fmt/core.h>

#include "onnx/import_util.h"
#include "onnx/pool.h"
#include "onnx/quantize.h"
#include "onnx/recurrent.h"

namespace kn::onnx {

namespace {

/// The result's scale and zero point at two consecutive inputs; without the latter 0 of `dtype`.
Var requantize(Node& node, Var real, std::size_t first, DType dtype) {
    Var scale = as_scalar(node.input(first));
    const auto zero_point = node.optional_input(first + 1);
    return zero_point ? quantize(real, scale, as_scalar(*zero_point))
                      : saturate(real / scale, {}, dtype);
}

std::vector<Var> import_qlinear_add(Node& node) {
    const Quantised a = read_quantised(node, 0), b = read_quantised(node, 3);
    return {requantize(node, a.real() + b.real(), 6, a.x.dtype())};
}

std::vector<Var> import_qlinear_mul(Node& node) {
    const Quantised a = read_quantised(node, 0), b = read_quantised(node, 3);
    return {requantize(node, a.real() * b.real(), 6, a.x.dtype())};
}

std::vector<Var> import_qlinear_sigmoid(Node& node) {
    const Quantised x = read_quantised(node, 0);
    return {requantize(node, sigmoid(x.real()), 3, x.x.dtype())};
}

std::vector<Var> import_qlinear_leaky_relu(Node& node) {
    const Quantised x = read_quantised(node, 0);
    return {requantize(node, leaky_relu(x.real(), node.attr_float("alpha", 0.01)), 3, x.x.dtype())};
}

/// Inputs: the result's scale and zero point, then value, scale and zero point of each part.
std::vector<Var> import_qlinear_concat(Node& node) {
    Var scale = as_scalar(node.input(0));
    Var zero_point = as_scalar(node.input(1));
    std::vector<Var> parts;
    for (std::size_t i = 2; i + 2 < node.input_count(); i += 3)
        parts.push_back(quantize(read_quantised(node, i).real(), scale, zero_point));
    if (parts.empty()) node.broken("nothing to concatenate");
    return {concat(parts, node.attr_int("axis"))};
}

bool channels_last(Node& node) { return node.attr_int("channels_last", 0) != 0; }

std::vector<Var> import_qlinear_average_pool(Node& node) {
    if (channels_last(node)) node.unsupported("channels_last");
    const Quantised x = read_quantised(node, 0);
    return {requantize(node, pool_average(node, x.real(), true, false), 3, x.x.dtype())};
}

std::vector<Var> import_qlinear_global_average_pool(Node& node) {
    const Quantised x = read_quantised(node, 0);
    const bool last = channels_last(node);
    Ints axes = axes_from(x.x.rank() - (last ? 1 : 0), last ? 1 : 2);
    return {requantize(node, mean(x.real(), axes, true), 3, x.x.dtype())};
}

/// alpha * a_scale * b_scale * (a b + c), requantised where there is a scale for it.
std::vector<Var> import_qgemm(Node& node) {
    Var a = centred(node.input(0), as_scalar(node.input(2)));
    Var b = node.input(3);
    const bool transposed = node.attr_int("transB", 0) != 0;
    if (node.attr_int("transA", 0) != 0) a = transpose(a);
    // One scale and zero point for each column of the product.
    Var b_zero = parameter_along(node, node.input(5), 2, transposed ? 0 : 1);
    b = centred(b, b_zero);
    Var product = matmul(a, transposed ? transpose(b) : b);
    if (const auto c = node.optional_input(6)) product = product + *c;
    Var factor = as_scalar(node.input(1)) * parameter_along(node, node.input(4), 2, 1) *
                 node.attr_float("alpha", 1);
    Var real = cast(product, DType::F32) * factor;
    if (!node.has_input(7)) return {real};
    return {requantize(node, real, 7, node.input(0).dtype())};
}

/// a b * a_scale * b_scale + bias in f32, of quantised a and b.
std::vector<Var> import_matmul_integer_to_float(Node& node) {
    Var product = matmul(centred(node.input(0), node.optional_input(4)),
                         centred(node.input(1), node.optional_input(5)));
    Var y = cast(product, DType::F32) * (node.input(2) * node.input(3));
    if (const auto bias = node.optional_input(6)) y = y + *bias;
    return {y};
}

/// The same with a quantised to u8 here.
std::vector<Var> import_dynamic_quantize_matmul(Node& node) {
    const Quantised a = quantize_dynamically(node.input(0));
    Var product =
        matmul(centred(a.x, a.zero_point), centred(node.input(1), node.optional_input(3)));
    Var y = cast(product, DType::F32) * (a.scale * node.input(2));
    if (const auto bias = node.optional_input(4)) y = y + *bias;
    return {y};
}

/// Unpacks the fields of `bits` bits of u8 [..., n], lowest first, to [..., n * 8 / bits].
Var unpack(Var packed, std::int64_t bits) {
    if (bits == 8) return packed;
    Graph& g = *packed.graph;
    std::vector<Var> fields;
    for (std::int64_t shift = 0; shift < 8; shift += bits) {
        Var shifted =
            binary(BinaryOp::ShiftRight, packed, scalar(g, DType::U8, static_cast<double>(shift)));
        Var field = binary(BinaryOp::BitAnd, shifted,
                           scalar(g, DType::U8, static_cast<double>((1 << bits) - 1)));
        fields.push_back(unsqueeze(field, {-1}));
    }
    Shape shape = packed.shape();
    shape[shape.rank() - 1] = shape[shape.rank() - 1] * (8 / bits);
    return reshape(concat(fields, -1), shape);
}

/// a [..., K] times the transpose of a weight [N, K] in blocks of `block_size` along K, each with a
/// scale and a zero point (without one: the middle of the range).
std::vector<Var> import_matmul_nbits(Node& node) {
    Var a = node.input(0);
    Var packed = node.input(1);
    Var scales = node.input(2);
    const auto zeros = node.optional_input(3);
    const auto k = node.attr_int("K"), n = node.attr_int("N");
    const auto bits = node.attr_int("bits", 4);
    const auto block = node.attr_int("block_size");
    node.ignore_attr("accuracy_level");
    if (node.has_input(4)) node.unsupported("g_idx, an order of the blocks");
    if (bits != 2 && bits != 4 && bits != 8) node.unsupported(fmt::format("{} bits", bits));
    if (k < 1 || n < 1 || block < 1 || k > (1 << 30) || n > (1 << 30) || block > (1 << 20))
        node.broken("K, N or block_size out of range");
    if (packed.dtype() != DType::U8) node.broken("B is not uint8");
    const std::int64_t blocks = (k + block - 1) / block;
    Var values = unpack(reshape(packed, {n, blocks, block * bits / 8}), bits);
    const DType dtype = a.dtype();
    auto per_block = [&](Var x) { return reshape(x, {n, blocks, 1}); };
    Var shift = scalar(node.graph(), DType::F32, static_cast<double>(1 << (bits - 1)));
    if (zeros && zeros->dtype() == DType::U8) {
        const std::int64_t bytes = (blocks * bits + 7) / 8;
        Var unpacked = unpack(reshape(*zeros, {n, bytes}), bits);
        shift = cast(per_block(slice(unpacked, 1, 0, blocks)), DType::F32);
    } else if (zeros) {
        shift = cast(per_block(*zeros), DType::F32);
    }
    Var weight = (cast(values, DType::F32) - shift) * cast(per_block(scales), DType::F32);
    weight = cast(slice(reshape(weight, {n, blocks * block}), 1, 0, k), dtype);
    Var y = matmul(a, transpose(weight));
    if (const auto bias = node.optional_input(5)) y = y + *bias;
    return {y};
}

/// W [directions, I, 4 H] and R [directions, H, 4 H] are quantised, one scale a direction or a
/// column. The products are computed with the real weights.
std::vector<Var> import_dynamic_quantize_lstm(Node& node) {
    RecurrentInputs inputs{node.input(0),          node.input(1),          node.input(2),
                           node.optional_input(3), node.optional_input(4), node.optional_input(5),
                           node.optional_input(6), node.optional_input(7)};
    auto real = [&](Var weight, std::size_t scale_input) {
        auto fit = [&](Var x) { return unsqueeze(x, x.rank() == 2 ? Ints{1} : Ints{1, 2}); };
        Var zero_point = fit(node.input(scale_input + 1));
        return transpose(dequantize(weight, fit(node.input(scale_input)), zero_point));
    };
    inputs.w = real(inputs.w, 8);
    inputs.r = real(inputs.r, 10);
    return build_recurrent(node, read_recurrent(node, CellKind::Lstm), inputs);
}

}  // namespace

std::vector<ImportRow> contrib_quantize_rows() {
    constexpr const char* ms = "com.microsoft";
    return {
        {ms, "QLinearAdd", 1, import_qlinear_add},
        {ms, "QLinearMul", 1, import_qlinear_mul},
        {ms, "QLinearSigmoid", 1, import_qlinear_sigmoid},
        {ms, "QLinearLeakyRelu", 1, import_qlinear_leaky_relu},
        {ms, "QLinearConcat", 1, import_qlinear_concat},
        {ms, "QLinearAveragePool", 1, import_qlinear_average_pool},
        {ms, "QLinearGlobalAveragePool", 1, import_qlinear_global_average_pool},
        {ms, "QGemm", 1, import_qgemm},
        {ms, "MatMulIntegerToFloat", 1, import_matmul_integer_to_float},
        {ms, "DynamicQuantizeMatMul", 1, import_dynamic_quantize_matmul},
        {ms, "MatMulNBits", 1, import_matmul_nbits},
        {ms, "DynamicQuantizeLSTM", 1, import_dynamic_quantize_lstm},
    };
}

}  // namespace kn::onnx
