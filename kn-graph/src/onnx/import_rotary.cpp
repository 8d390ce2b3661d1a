// Rotary position embedding, and CausalConvWithState: the token mixers beside Attention.
#include <fmt/core.h>

#include "onnx/attention.h"

namespace kn::onnx {

namespace {

/// Rows of a cache [positions, half] at position_ids [B, S] -> [B, S, half].
Var rows_at(Var cache, const std::optional<Var>& positions) {
    return positions ? gather(cache, *positions, 0) : cache;
}

std::vector<Var> import_rotary_embedding(Node& node) {
    Var x = node.input(0);
    const auto positions = node.optional_input(3);
    Var cos = rows_at(node.input(1), positions);
    Var sin = rows_at(node.input(2), positions);
    const auto heads = node.attr_int("num_heads", 0);
    const auto rotated = node.attr_int("rotary_embedding_dim", 0);
    const bool interleaved = node.attr_int("interleaved", 0) != 0;
    if (cos.rank() != 3 || sin.rank() != 3)
        node.broken("the caches do not give [batch, sequence, half]");
    const Shape shape = x.shape();
    if (x.rank() == 3) {
        if (heads < 1) node.broken("num_heads is needed for an input of rank 3");
        x = reshape(x, {shape[0], shape[1], heads, floor_div(shape[2], heads)});
    } else if (x.rank() != 4) {
        node.broken(fmt::format("the input has rank {}, expected 3 or 4", x.rank()));
    }
    const Dim head = x.shape()[3];
    node.graph().require_equal(cos.shape()[2] * 2, rotated == 0 ? head : Dim(rotated),
                               "rotated elements and the caches");
    const std::int64_t head_axis = shape.rank() == 3 ? 2 : 1;
    Var y = rotate(x, unsqueeze(cos, {head_axis}), unsqueeze(sin, {head_axis}), interleaved);
    return {shape.rank() == 3 ? reshape(y, shape) : y};
}

/// A depthwise convolution over the last axis that sees only what came before; the state is its
/// last inputs.
std::vector<Var> import_causal_conv(Node& node) {
    Var x = node.input(0);
    Var weight = node.input(1);
    const auto past = node.optional_input(3);
    const std::string activation = node.attr_string("activation", "none");
    if (x.rank() != 3 || weight.rank() != 3) node.broken("input and weight must have rank 3");
    const Dim channels = x.shape()[1];
    if (!channels.is_constant())
        node.unsupported(fmt::format("{} channels, which must be fixed", channels.to_string()));
    const Dim before = weight.shape()[2] - 1;
    Var padded = past ? concat({*past, x}, 2) : pad(x, {0, 0, before}, {0, 0, 0}, 0.0);
    Var y = conv(padded, weight, node.optional_input(2), {.groups = channels.value()});
    if (activation == "silu" || activation == "swish")
        y = silu(y);
    else if (activation != "none")
        node.broken(fmt::format("activation is '{}'", printable(activation)));
    const Dim length = padded.shape()[2];
    return {y, slice(padded, 2, length - before, length)};
}

}  // namespace

std::vector<ImportRow> rotary_rows() {
    return {
        {"", "RotaryEmbedding", 23, import_rotary_embedding},
        {"", "CausalConvWithState", 27, import_causal_conv},
    };
}

}  // namespace kn::onnx
