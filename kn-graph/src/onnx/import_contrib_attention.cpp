// Attention operators of com.microsoft.
#include <fmt/core.h>

#include "onnx/attention.h"
#include "onnx/import_util.h"

namespace kn::onnx {

namespace {

std::int64_t read_heads(Node& node, const char* name) {
    const auto heads = node.attr_int(name);
    if (heads < 1) node.broken(fmt::format("{} is {}", name, heads));
    return heads;
}

/// x [B, N, S, D] rotated at positions [B, S] of the caches [positions, half].
Var rotate_at(Var x, Var cos, Var sin, Var positions, bool interleaved) {
    return rotate(x, unsqueeze(gather(cos, positions, 0), {1}),
                  unsqueeze(gather(sin, positions, 0), {1}), interleaved);
}

std::vector<Var> import_rotary_embedding(Node& node) {
    Graph& g = node.graph();
    Var x = node.input(0);
    Var positions = cast(node.input(1), DType::I64);
    Var cos = node.input(2), sin = node.input(3);
    auto heads = node.attr_int("num_heads", 0);
    const bool interleaved = node.attr_int("interleaved", 0) != 0;
    node.ignore_attr("rotary_embedding_dim");  // the caches' width says it
    if (node.attr_int("is_packed_batching", 0) != 0 || node.attr_float("scale", 1) != 1)
        node.unsupported("packed batches or a scale");
    if (cos.rank() != 2 || sin.rank() != 2) node.broken("the caches do not have rank 2");
    const Shape shape = x.shape();
    if (x.rank() == 3) {
        const Dim head = cos.shape()[1] * 2;
        const Dim count = heads > 0 ? Dim(heads) : floor_div(shape[2], head);
        x = permute(reshape(x, {shape[0], shape[1], count, floor_div(shape[2], count)}),
                    {0, 2, 1, 3});
    } else if (x.rank() != 4) {
        node.broken(fmt::format("the input has rank {}, expected 3 or 4", x.rank()));
    }
    const Dim batch = x.shape()[0], length = x.shape()[2];
    if (positions.rank() == 1)  // where the sequence starts
        positions = positions + iota(g, length);
    positions = broadcast_to(positions, {batch, length});
    Var y = rotate_at(x, cos, sin, positions, interleaved);
    return {shape.rank() == 3 ? merge_heads(y) : y};
}

/// Keys of the past [B, G, P, D] and new ones [B, G, S, D] where `start` [B, 1] of the past are in
/// use: [B, G, T, D], 0 behind them.
Var append_keys(const std::optional<Var>& past, Var added, Var start, const Dim& total) {
    Graph& g = *added.graph;
    const Dim old = past ? past->shape()[2] : Dim(0);
    Var all = past ? concat({*past, added}, 2) : added;
    Var position = key_positions(g, total);
    Var last = scalar_dim(g, old + added.shape()[2] - 1);
    Var index = select(less(position, start), position,
                       minimum(position - start + scalar_dim(g, old), last));
    const Shape shape = all.shape();
    index = reshape(broadcast_to(index, {shape[0], total}), {shape[0], 1, total, 1});
    Var keys = gather_elements(all, broadcast_to(index, {shape[0], shape[1], total, shape[3]}), 2);
    Var filled = less(position, start + scalar_dim(g, added.shape()[2]));
    return select(reshape(filled, {shape[0], 1, total, 1}), keys, scalar_like(keys, 0));
}

std::vector<Var> import_group_query_attention(Node& node) {
    Graph& g = node.graph();
    const auto heads = read_heads(node, "num_heads");
    const auto kv_heads = read_heads(node, "kv_num_heads");
    Var q = node.input(0);
    if (q.rank() != 3) node.broken("query does not have rank 3");
    Var k = q, v = q;
    if (node.has_input(1) && node.has_input(2)) {
        q = split_heads(q, heads);
        k = split_heads(node.input(1), kv_heads);
        v = split_heads(node.input(2), kv_heads);
    } else {
        Var packed = split_heads(q, heads + 2 * kv_heads);
        const auto parts = split(packed, 1, {heads, kv_heads, kv_heads});
        q = parts[0];
        k = parts[1];
        v = parts[2];
    }
    const auto past_key = node.optional_input(3);
    const auto past_value = node.optional_input(4);
    if ((past_key && past_key->rank() != 4) || (past_value && past_value->rank() != 4))
        node.broken("past_key or past_value does not have rank 4");
    const Dim length = q.shape()[2];
    const Dim old = past_key ? past_key->shape()[2] : Dim(0);
    // seqlens_k: keys in use for each sample, less one.
    Var used = reshape(cast(node.input(5), DType::I64), {q.shape()[0], 1});
    const auto totals = node.input_dims(6);
    if (totals.size() != 1) node.broken("total_sequence_length is not a scalar");
    const Dim total = old == 0 ? max(totals[0], length) : max(totals[0], old);
    Var start = used + scalar_dim(g, Dim(1) - length);
    start = maximum(start, scalar_like(start, 0));
    Var positions = start + key_positions(g, length);

    const auto cos = node.optional_input(7), sin = node.optional_input(8),
               given = node.optional_input(9);
    const bool interleaved = node.attr_int("rotary_interleaved", 0) != 0;
    if (node.attr_int("do_rotary", 0) != 0) {
        if (!cos || !sin) node.broken("do_rotary without caches");
        Var at = given ? cast(*given, DType::I64) : positions;
        at = broadcast_to(at, {q.shape()[0], length});
        q = rotate_at(q, *cos, *sin, at, interleaved);
        k = rotate_at(k, *cos, *sin, at, interleaved);
    }
    k = append_keys(past_key, k, start, total);
    v = append_keys(past_value, v, start, total);

    AttentionCall call{q, k, v};
    call.scale = read_scale(node, q);
    call.softcap = node.attr_float("softcap", 0);
    if (node.attr_int("smooth_softmax", 0) > 0) node.unsupported("smooth_softmax");
    Var key = unsqueeze(key_positions(g, total), {0, 1});
    Var query = unsqueeze(positions, {1, 3});
    call.allowed = both(less_equal(key, query), less_equal(key, unsqueeze(used, {2, 3})));
    const auto local = node.attr_int("local_window_size", -1);
    if (local > 0)
        call.allowed = both(call.allowed,
                            less(query - key, scalar(g, DType::I64, static_cast<double>(local))));
    if (const auto bias = node.optional_input(10)) call.bias = cast(*bias, q.dtype());
    return {merge_heads(build_attention(call).y), k, v};
}

/// A mask over keys as ONNX Runtime takes it: per-sample lengths [B], or 0/1 over [B, T] or [B, S,
/// T]; what it excludes gets `filter` added.
Var padding_bias(Node& node, Var mask, DType dtype, const Dim& batch, const Dim& keys,
                 double filter) {
    Graph& g = node.graph();
    Var valid = mask;
    if (mask.rank() == 1) {
        if (mask.shape()[0] == batch * 2 || mask.shape()[0] == batch * 3 + 2)
            node.unsupported("a mask of start and end positions");
        g.require_equal(mask.shape()[0], batch, "lengths in the mask and samples");
        valid = reshape(less(key_positions(g, keys), unsqueeze(cast(mask, DType::I64), {1})),
                        {batch, 1, 1, keys});
    } else if (mask.rank() <= 3) {
        valid = cast(unsqueeze(mask, mask.rank() == 2 ? Ints{1, 2} : Ints{1}), DType::Bool);
    } else {
        node.unsupported(fmt::format("a mask of rank {}", mask.rank()));
    }
    return select(valid, scalar(g, dtype, 0), scalar(g, dtype, filter));
}

double read_filter(Node& node) { return node.attr_float("mask_filter_value", -10000); }

/// What MultiHeadAttention and Attention have in common once q, k and v are [B, N, S, D].
Var masked_attention(Node& node, Var q, Var k, Var v, const std::optional<Var>& mask,
                     const std::optional<Var>& bias) {
    AttentionCall call{q, k, v};
    call.scale = read_scale(node, q);
    const double filter = read_filter(node);
    if (mask) call.bias = padding_bias(node, *mask, q.dtype(), q.shape()[0], k.shape()[2], filter);
    if (bias) call.bias = call.bias ? *call.bias + *bias : *bias;
    if (node.attr_int("unidirectional", 0) != 0) call.causal = CausalMask::BottomRight;
    return merge_heads(build_attention(call).y);
}

/// Part i of packed values [B, S, N, parts, D] as [B, S, N D].
Var unpacked(Var packed, std::int64_t i) {
    const Shape shape = packed.shape();
    return reshape(slice(packed, 3, i, i + 1), {shape[0], shape[1], shape[2] * shape[4]});
}

std::vector<Var> import_multi_head_attention(Node& node) {
    const auto heads = read_heads(node, "num_heads");
    const Var query = node.input(0);
    const auto key = node.optional_input(1), value = node.optional_input(2);
    const bool one = query.rank() == 5, two = key && key->rank() == 5;
    if (one != !key || (one || two) != !value || (query.rank() != 3 && !one))
        node.broken("query, key and value fit no known layout");
    Var q = one ? unpacked(query, 0) : query;
    Var k = one ? unpacked(query, 1) : two ? unpacked(*key, 0) : *key;
    Var v = one ? unpacked(query, 2) : two ? unpacked(*key, 1) : *value;
    if (const auto bias = node.optional_input(3)) {
        if (bias->rank() != 1 || q.rank() != 3) node.broken("bias or query has a wrong rank");
        const Dim hidden = q.shape()[2];
        q = q + slice(*bias, 0, 0, hidden);
        if (k.rank() == 3) {
            k = k + slice(*bias, 0, hidden, hidden * 2);
            v = v + slice(*bias, 0, hidden * 2, bias->shape()[0]);
        }
    }
    q = split_heads(q, heads);
    if (k.rank() == 3) k = split_heads(k, heads);
    if (v.rank() == 3) v = split_heads(v, heads);
    if (k.rank() != 4 || v.rank() != 4) node.broken("key or value has a wrong rank");
    const auto past_key = node.optional_input(6), past_value = node.optional_input(7);
    if (past_key && past_value) {
        k = concat({*past_key, k}, 2);
        v = concat({*past_value, v}, 2);
    }
    return {masked_attention(node, q, k, v, node.optional_input(4), node.optional_input(5)), k, v};
}

/// Projects the input to q, k and v first: input [B, S, I], weights [I, 3 hidden].
std::vector<Var> import_attention(Node& node) {
    const auto heads = read_heads(node, "num_heads");
    if (node.attr_int("do_rotary", 0) != 0 || node.attr_int("past_present_share_buffer", 0) != 0)
        node.unsupported("do_rotary or past_present_share_buffer");
    Var weights = node.input(1);
    if (weights.rank() != 2) node.broken("weights do not have rank 2");
    Var projected = matmul(node.input(0), weights);
    if (const auto bias = node.optional_input(2)) projected = projected + *bias;
    const Dim third = floor_div(weights.shape()[1], 3);
    std::vector<Dim> sizes = {third, third, third};
    if (const auto given = node.attr_ints("qkv_hidden_sizes"); given && !given->empty()) {
        if (given->size() != 3) node.broken("qkv_hidden_sizes does not have 3 entries");
        sizes.assign(given->begin(), given->end());
    }
    const auto parts = split(projected, 2, sizes);
    Var q = split_heads(parts[0], heads), k = split_heads(parts[1], heads),
        v = split_heads(parts[2], heads);
    if (const auto past = node.optional_input(4)) {
        k = concat({squeeze(slice(*past, 0, 0, 1), {0}), k}, 2);
        v = concat({squeeze(slice(*past, 0, 1, 2), {0}), v}, 2);
    }
    Var y = masked_attention(node, q, k, v, node.optional_input(3), node.optional_input(5));
    if (!node.wants_output(1)) return {y};
    return {y, concat({unsqueeze(k, {0}), unsqueeze(v, {0})}, 0)};
}

}  // namespace

std::vector<ImportRow> contrib_attention_rows() {
    constexpr const char* ms = "com.microsoft";
    return {
        {ms, "RotaryEmbedding", 1, import_rotary_embedding},
        {ms, "GroupQueryAttention", 1, import_group_query_attention},
        {ms, "MultiHeadAttention", 1, import_multi_head_attention},
        {ms, "Attention", 1, import_attention},
    };
}

}  // namespace kn::onnx
