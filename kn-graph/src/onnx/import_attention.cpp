// Attention of ai.onnx.
#include <cmath>

#include <fmt/core.h>

#include "onnx/attention.h"
#include "onnx/import_util.h"

namespace kn::onnx {

namespace {

ScoresOutput read_scores_output(Node& node) {
    const auto mode = node.attr_int("qk_matmul_output_mode", 0);
    if (mode < 0 || mode > 3) node.broken(fmt::format("qk_matmul_output_mode is {}", mode));
    if (!node.wants_output(3)) return ScoresOutput::None;
    constexpr ScoresOutput modes[] = {ScoresOutput::Raw, ScoresOutput::Capped, ScoresOutput::Masked,
                                      ScoresOutput::Softmax};
    return modes[mode];
}

std::int64_t read_heads(Node& node, const char* name) {
    const auto heads = node.attr_int(name, 0);
    if (heads < 1) node.broken(fmt::format("{} is {}", name, heads));
    return heads;
}

/// A mask over fewer keys than there are excludes the others.
Var lengthen_mask(Node& node, Var mask, const Dim& keys, bool may_be_short) {
    if (mask.rank() == 0 || mask.rank() > 4)
        node.broken(fmt::format("the mask has rank {}", mask.rank()));
    const Dim given = mask.shape()[mask.rank() - 1];
    if (given == keys) return mask;
    if (!may_be_short && !(given.is_constant() && keys.is_constant())) {
        node.graph().require_equal(given, keys, "the mask's last dim and the number of keys");
        return mask;
    }
    std::vector<Dim> before(mask.rank(), 0), after(mask.rank(), 0);
    after.back() = keys - given;
    return pad(mask, before, after, mask.dtype() == DType::Bool ? 0 : -INFINITY);
}

/// Which keys a query may see by their positions; query i stands at position i + offset among the
/// keys. `past`: how many keys come from earlier calls; `lengths`: how many are valid, by batch.
void limit_positions(Node& node, AttentionCall& call, const Dim& queries, const Dim& keys,
                     const std::optional<Dim>& past, const std::optional<Var>& lengths) {
    Graph& g = node.graph();
    const bool causal = node.attr_int("is_causal", 0) != 0;
    const auto left = node.opset() >= 25 ? node.attr_int("left_window_size", -1) : -1;
    const auto right = node.opset() >= 25 ? node.attr_int("right_window_size", -1) : -1;
    if (left < -1 || right < -1) node.broken("a window size is below -1");
    Var position = query_positions(g, queries);
    const Var key = key_positions(g, keys);
    if (lengths) {
        const Var valid = reshape(cast(*lengths, DType::I64), {lengths->shape().size(), 1, 1, 1});
        call.allowed = both(call.allowed, less(key, valid));
        position = position + (valid - scalar_dim(g, queries));
    } else if (past) {
        position = position + scalar_dim(g, *past);
    }
    if (causal && !lengths && (!past || keys - *past == queries))
        call.causal = past ? CausalMask::BottomRight : CausalMask::TopLeft;
    else if (causal)
        call.allowed = both(call.allowed, less_equal(key, position));
    const auto at_most = [&](Var distance, std::int64_t most) {
        return less_equal(distance, scalar(g, DType::I64, static_cast<double>(most)));
    };
    if (left >= 0) call.allowed = both(call.allowed, at_most(position - key, left));
    if (right >= 0) call.allowed = both(call.allowed, at_most(key - position, right));
}

std::vector<Var> import_attention(Node& node) {
    Var q = node.input(0);
    Var k = node.input(1);
    Var v = node.input(2);
    const DType dtype = q.dtype();
    const bool rows = q.rank() == 3;
    if (q.rank() != k.rank() || q.rank() != v.rank() || (q.rank() != 3 && q.rank() != 4))
        node.broken("Q, K and V must all have rank 3 or all have rank 4");
    if (rows) {
        const auto heads = read_heads(node, "q_num_heads");
        const auto kv_heads = read_heads(node, "kv_num_heads");
        q = split_heads(q, heads);
        k = split_heads(k, kv_heads);
        v = split_heads(v, kv_heads);
    } else {
        node.ignore_attr("q_num_heads");
        node.ignore_attr("kv_num_heads");
    }

    const auto past_key = node.optional_input(4);
    const auto past_value = node.optional_input(5);
    if (past_key.has_value() != past_value.has_value())
        node.broken("past_key and past_value must be given together");
    if (past_key) {
        k = concat({*past_key, k}, 2);
        v = concat({*past_value, v}, 2);
    }
    std::optional<Dim> past;
    if (past_key) past = past_key->shape()[2];
    const Dim queries = q.shape()[2];
    const Dim keys = k.shape()[2];
    const auto lengths = node.opset() >= 24 ? node.optional_input(6) : std::nullopt;
    if (lengths && past_key) node.broken("nonpad_kv_seqlen and past_key exclude each other");
    std::vector<Var> outputs = {q, k, v};

    const DType common = size_of(v.dtype()) > size_of(dtype) ? v.dtype() : dtype;
    AttentionCall call{cast(q, common), cast(k, common), cast(v, common)};
    call.scale = read_scale(node, q);
    call.softcap = node.attr_float("softcap", 0);
    call.softmax_dtype = node.attr_dtype("softmax_precision");
    call.scores = read_scores_output(node);
    if (auto mask = node.optional_input(3)) {
        mask = lengthen_mask(node, *mask, keys, lengths.has_value());
        if (mask->dtype() == DType::Bool)
            call.allowed = *mask;
        else
            call.bias = cast(*mask, common);
    }
    limit_positions(node, call, queries, keys, past, lengths);

    const AttentionOutput result = build_attention(call);
    outputs[0] = cast(rows ? merge_heads(result.y) : result.y, dtype);
    if (result.scores) outputs.push_back(cast(*result.scores, dtype));
    return outputs;
}

}  // namespace

std::vector<ImportRow> attention_rows() {
    std::vector<ImportRow> rows = {{"", "Attention", 23, import_attention}};
    append(rows, rotary_rows());
    append(rows, linear_attention_rows());
    return rows;
}

}  // namespace kn::onnx
