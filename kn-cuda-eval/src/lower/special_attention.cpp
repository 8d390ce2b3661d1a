// Attention in exact arithmetic: f32 and f64, and half types where cuDNN has no engine.
#include <algorithm>
#include <cmath>

#include <fmt/core.h>

#include "lower/special.h"

namespace kn::cuda {

namespace {

/// The keys of one tile of queries by several blocks, `span` each.
struct Split {
    std::int64_t count = 1, span = 0;
};

/// Where the tiles leave most of the GPU idle, and keys are many.
Split split_keys(std::int64_t tiles, std::int64_t length, std::int64_t sms) {
    constexpr std::int64_t kShortest = 128;  // keys worth a block of their own
    const std::int64_t wanted = tiles == 0 ? 1 : 2 * sms / tiles;
    const std::int64_t most = length / kShortest;
    const std::int64_t count = std::max<std::int64_t>(1, std::min(wanted, most));
    const std::int64_t span = ceil_div(ceil_div(length, count), 64) * 64;
    if (count == 1) return {1, std::max<std::int64_t>(length, 1)};
    return {ceil_div(length, span), span};
}

}  // namespace

void lower_direct_attention(Placement& placement, const Group& group) {
    const Graph& graph = placement.graph();
    const auto& op = *graph.get_if<op::Attention>(group.anchor);
    const TensorRef q = operand_of(placement, op.q);
    const TensorRef k = operand_of(placement, op.k);
    const TensorRef v = operand_of(placement, op.v);
    const TensorRef& y = placement.stored(group.anchor);
    const bool wide = q.dtype == DType::F64;
    const std::int64_t queries = q.shape[2];
    const std::int64_t length = k.shape[2];
    const std::int64_t value_width = v.shape[3];

    // The result's row of a thread is in registers, so only so wide.
    constexpr std::int64_t kWidest = 512;
    if (value_width > kWidest)
        throw GraphError(fmt::format("attention with values {} wide: the kernel takes at most {}",
                                     value_width, kWidest));
    const std::int64_t rows = queries <= 16 ? 1 : wide || value_width > 256 ? 2 : 4;
    const std::int64_t cols = wide ? 2 : 4;
    const std::int64_t vector = value_width >= 64 ? 4 : 1;
    const std::int64_t out = ceil_div(value_width, 16 * vector) * vector;
    std::int64_t value_rows = 16 * cols;
    const std::int64_t stage = 32 * (16 * rows + 16 * cols + 8);
    while (value_rows > 1 && value_rows * 16 * out > stage) value_rows /= 2;
    const std::int64_t tiles = ceil_div(queries, 16 * rows);
    const std::int64_t heads = q.shape[0] * q.shape[1];
    const Split split = split_keys(tiles * heads, length, placement.plan().device.sm_count);

    HandKernel kernel(placement, "attention_rows");
    const std::string type = wide ? "double" : "float";
    kernel.type("acc_t", type);
    kernel.line("const acc_t infinity = kn_inf(acc_t(0));");
    kernel.constant("kRows", rows);
    kernel.constant("kCols", cols);
    kernel.constant("kOut", out);
    kernel.constant("kOutVector", vector);
    kernel.constant("kValueRows", value_rows);
    kernel.constant("kValueWidth", value_width);
    kernel.constant("kWidth", q.shape[3]);
    kernel.constant("kQueries", queries);
    kernel.constant("kTiles", tiles);
    kernel.constant("kHeads", q.shape[1]);
    kernel.constant("kGroups", k.shape[1]);
    kernel.read("q", q);
    kernel.read("k", k);
    kernel.read("v", v);
    kernel.constant("kSplits", split.count);
    kernel.constant("kSpan", split.span);
    const DType sums = wide ? DType::F64 : DType::F32;
    TensorRef parts, limits;
    if (split.count > 1) {
        parts = placement.scratch(sums, {q.shape[0], q.shape[1], queries, value_width, split.count},
                                  "parts of attention", {0, 1, 2, 4, 3});
        limits = placement.scratch(sums, {q.shape[0], q.shape[1], queries, split.count, 2},
                                   "limits of attention");
        kernel.write("store", parts);
        kernel.write("limits", limits);
    } else {
        kernel.write("store", y, {{0}, {1}, {2}, {3}, {}});
        kernel.line("const auto limits = [](Int, Int, Int, int, int, acc_t) {};");
    }
    const std::string length_text = std::to_string(length);
    if (op.causal == kn::CausalMask::None) {
        kernel.function("visible", "int", length_text);
    } else {
        const std::int64_t shift = op.causal == kn::CausalMask::TopLeft ? 1 : 1 + length - queries;
        kernel.line(
            fmt::format("const auto visible = [](int s) {{ const int n = s + ({}); return "
                        "n < 0 ? 0 : n > {} ? {} : n; }};",
                        shift, length, length));
    }
    std::string score = fmt::format("product * ({}){:.17g}", type, op.scale);
    if (op.mask) {
        TensorRef mask = operand_of(placement, *op.mask);
        for (std::size_t a = 0; a < 4; ++a)
            if (mask.shape[a] == 1) mask.strides[a] = 0;
        const Ints full = {q.shape[0], q.shape[1], queries, length};
        mask.shape = full;
        kernel.read("mask", mask);
        score = mask.dtype == DType::Bool ? "mask(b, h, s, t) ? " + score + " : -infinity"
                                          : score + " + mask(b, h, s, t)";
    }
    kernel.function("score_of", "Int b, Int h, Int s, Int t, acc_t product", score);
    kernel.add_step(group, "attention", tiles * split.count * heads, 256, split.count == 1);
    if (split.count == 1) return;

    HandKernel merge(placement, "attention_merge");
    merge.type("acc_t", type);
    merge.line("const acc_t infinity = kn_inf(acc_t(0));");
    merge.constant("kBatch", q.shape[0]);
    merge.constant("kHeads", q.shape[1]);
    merge.constant("kQueries", queries);
    merge.constant("kValueWidth", value_width);
    merge.constant("kSplits", split.count);
    merge.read("part", parts);
    merge.read("limits", limits);
    merge.write("store", y);
    merge.add_step(group, "attention_merge", ceil_div(heads * queries * value_width, 128), 128);
}

}  // namespace kn::cuda
