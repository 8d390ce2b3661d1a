// Operators of com.microsoft that ONNX Runtime's optimiser writes into models: activations,
// normalisation, fused products.
#include <fmt/core.h>

#include "onnx/attention.h"
#include "onnx/import_util.h"
#include "onnx/quantize.h"
#include "onnx/spatial.h"

namespace kn::onnx {

namespace {

std::vector<Var> import_gelu(Node& node) { return {gelu(node.input(0))}; }
std::vector<Var> import_bias_gelu(Node& node) { return {gelu(node.input(0) + node.input(1))}; }

std::vector<Var> import_fast_gelu(Node& node) {
    Var x = node.input(0);
    if (const auto bias = node.optional_input(1)) x = x + *bias;
    return {gelu_tanh(x)};
}

std::vector<Var> import_quick_gelu(Node& node) {
    Var x = node.input(0);
    return {x * sigmoid(x * node.attr_float("alpha", 1.702f))};
}

/// Normalises input + skip (+ bias) over the last axis. Outputs: result, mean, 1 / deviation, the
/// sum.
std::vector<Var> skip_normalization(Node& node, NormKind kind) {
    const bool centred = kind == NormKind::MeanVariance;
    const std::size_t bias_input = centred ? 4 : 3;
    if (node.wants_output(1) || node.wants_output(2)) node.unsupported("outputs for training");
    Var x = node.input(0);
    Var total = x + node.input(1);
    if (const auto bias = node.optional_input(bias_input)) total = total + *bias;
    const auto last = static_cast<std::int64_t>(x.rank()) - 1;
    Var y = normalize(kind, total, {last}, node.attr_float("epsilon", 1e-12)) * node.input(2);
    if (centred)
        if (const auto beta = node.optional_input(3)) y = y + *beta;
    return {y, y, y, total};
}

std::vector<Var> import_skip_layer_normalization(Node& node) {
    return skip_normalization(node, NormKind::MeanVariance);
}
std::vector<Var> import_skip_simplified(Node& node) {
    return skip_normalization(node, NormKind::MeanSquare);
}

/// The sum of word, position and segment embeddings, normalised; and the number of unmasked words.
std::vector<Var> import_embed_layer_normalization(Node& node) {
    Graph& g = node.graph();
    Var ids = node.input(0);
    if (ids.rank() != 2) node.broken("input_ids is not [batch, sequence]");
    const Dim batch = ids.shape()[0], length = ids.shape()[1];
    Var total = gather(node.input(2), ids, 0);
    Var positions = node.input(3);
    const auto position_ids = node.optional_input(8);
    total = total +
            (position_ids ? gather(positions, *position_ids, 0) : slice(positions, 0, 0, length));
    const auto segments = node.optional_input(1);
    const auto segment_table = node.optional_input(4);
    if (segments && segment_table) total = total + gather(*segment_table, *segments, 0);
    Var y = normalize(NormKind::MeanVariance, total, {2}, node.attr_float("epsilon", 1e-12));
    y = y * node.input(5) + node.input(6);
    node.ignore_attr("mask_index_type");
    Var count = full(g, DType::I32, {batch}, 0);
    if (const auto mask = node.optional_input(7)) {
        Var wide = cast(*mask, DType::I32);
        count = sum(cast(equal(wide, scalar_like(wide, 1)), DType::I32), {1});
    }
    return {y, count, total};
}

/// Swaps the last two axes; `batch`: first moves axis 0 behind the other leading ones.
Var transposed(Var x, bool swap, bool batch) {
    const auto rank = static_cast<std::int64_t>(x.rank());
    if (batch && rank > 2) {
        Ints perm;
        for (std::int64_t i = 1; i + 1 < rank; ++i) perm.push_back(i);
        perm.push_back(0);
        perm.push_back(rank - 1);
        x = permute(x, perm);
    }
    return swap && rank > 1 ? transpose(x) : x;
}

std::vector<Var> import_fused_matmul(Node& node) {
    Var a = transposed(node.input(0), node.attr_int("transA", 0) != 0,
                       node.attr_int("transBatchA", 0) != 0);
    Var b = transposed(node.input(1), node.attr_int("transB", 0) != 0,
                       node.attr_int("transBatchB", 0) != 0);
    const double alpha = node.attr_float("alpha", 1);
    Var y = matmul(a, b);
    return {alpha == 1 ? y : y * alpha};
}

Var activate(Node& node, Var x) {
    const std::string name = node.attr_string("activation", "");
    const auto params = node.attr_floats("activation_params").value_or(std::vector<double>{});
    auto param = [&](std::size_t i, double otherwise) {
        return i < params.size() ? params[i] : otherwise;
    };
    if (name.empty()) return x;
    if (name == "Relu") return relu(x);
    if (name == "Tanh") return tanh(x);
    if (name == "Sigmoid") return sigmoid(x);
    if (name == "LeakyRelu") return leaky_relu(x, param(0, 0.01));
    if (name == "Clip" && params.size() == 2) return clamp(x, params[0], params[1]);
    if (name != "HardSigmoid") node.unsupported(fmt::format("activation '{}'", printable(name)));
    return hard_sigmoid(x, param(0, 0.2), param(1, 0.5));
}

/// activation(conv(x, w) + bias + z)
std::vector<Var> import_fused_conv(Node& node) {
    Var x = node.input(0);
    Var w = node.input(1);
    Var y = conv(x, w, node.optional_input(2), read_conv(node, x, w));
    if (const auto z = node.optional_input(3)) y = y + *z;
    return {activate(node, y)};
}

}  // namespace

std::vector<ImportRow> contrib_rows() {
    constexpr const char* ms = "com.microsoft";
    std::vector<ImportRow> rows = {
        {ms, "Gelu", 1, import_gelu},
        {ms, "BiasGelu", 1, import_bias_gelu},
        {ms, "FastGelu", 1, import_fast_gelu},
        {ms, "QuickGelu", 1, import_quick_gelu},
        {ms, "SkipLayerNormalization", 1, import_skip_layer_normalization},
        {ms, "SkipSimplifiedLayerNormalization", 1, import_skip_simplified},
        {ms, "EmbedLayerNormalization", 1, import_embed_layer_normalization},
        {ms, "FusedMatMul", 1, import_fused_matmul},
        {ms, "FusedConv", 1, import_fused_conv},
    };
    append(rows, contrib_attention_rows());
    append(rows, contrib_quantize_rows());
    return rows;
}

}  // namespace kn::onnx
