// Attention in exact arithmetic: f32 and f64, and half types where cuDNN has no engine.
#include <algorithm>
#include <cmath>

#include <fmt/core.h>

#include "lower/special.h"

namespace kn::cuda {

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
    const std::int64_t out = blocks_for(value_width, 16 * vector) * vector;
    std::int64_t value_rows = 16 * cols;
    const std::int64_t stage = 32 * (16 * rows + 16 * cols + 8);
    while (value_rows > 1 && value_rows * 16 * out > stage) value_rows /= 2;
    const std::int64_t tiles = blocks_for(queries, 16 * rows);

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
    kernel.write("store", y);
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
    kernel.add_step(group, "attention", tiles * q.shape[0] * q.shape[1], 256);
}

}  // namespace kn::cuda
