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

/// One Attention; its arithmetic is in double where `wide`, else in float.
struct Problem {
    Placement& placement;
    const op::Attention& op;
    TensorRef q, k, v;
    bool wide = false;

    std::int64_t heads() const { return q.shape[0] * q.shape[1]; }
    std::int64_t queries() const { return q.shape[2]; }
    std::int64_t keys() const { return k.shape[2]; }
    std::int64_t value_width() const { return v.shape[3]; }
    std::string type() const { return wide ? "double" : "float"; }
};

/// A block's queries and keys are 16 `rows` and 16 `cols`, and a thread has `out` elements of each
/// row of the result.
struct Tiles {
    std::int64_t rows, cols, vector, out, value_rows;
};

Tiles tiles_of(const Problem& problem) {
    const std::int64_t width = problem.value_width();
    Tiles tiles;
    tiles.rows = problem.queries() <= 16 ? 1 : problem.wide || width > 256 ? 2 : 4;
    tiles.cols = problem.wide ? 2 : 4;
    tiles.vector = width >= 64 ? 4 : 1;
    tiles.out = ceil_div(width, 16 * tiles.vector) * tiles.vector;
    tiles.value_rows = 16 * tiles.cols;
    const std::int64_t stage = 32 * (16 * tiles.rows + 16 * tiles.cols + 8);
    while (tiles.value_rows > 1 && tiles.value_rows * 16 * tiles.out > stage) tiles.value_rows /= 2;
    return tiles;
}

/// Of the kernel that multiplies on the tensor cores. Measured on an H200, 8 x 12 heads of 128
/// queries 64 wide: 19.6 us, with 2 warps 23.5, with 64 keys 23.7, by FMA 30.5.
constexpr int product_warps = 4, product_keys = 32;  // a warp has 16 queries

bool by_products(const Problem& problem) {
    constexpr std::int64_t kWidest = 96;  // sums in registers
    const std::int64_t width = problem.q.shape[3], value_width = problem.value_width();
    if (problem.wide || problem.placement.plan().device.compute() < 80 || problem.queries() <= 16 ||
        problem.keys() <= 16 || std::min(width, value_width) < 8 ||
        std::max(width, value_width) > kWidest)
        return false;
    return forced_attention_products().value_or(true);
}

void use_products(HandKernel& kernel, const Problem& problem) {
    kernel.constant("kWarps", product_warps);
    kernel.constant("kKeys", product_keys);
    kernel.line(fmt::format("constexpr bool kExact = {};", is_half(problem.q.dtype)));
    const auto pitch = [](std::int64_t width) { return ceil_div(width, 8) * 8 + 4; };
    const std::int64_t width = pitch(problem.q.shape[3]), values = pitch(problem.value_width());
    // Registers enough for the sums, and warps enough to hide what is loaded.
    const int blocks = std::max(width, values) <= 68 ? 3 : 2;
    kernel.set_block(4 * (16 * product_warps * width + product_keys * std::max(width, values)),
                     blocks);
}

void declare_type(HandKernel& kernel, const Problem& problem) {
    kernel.type("acc_t", problem.type());
    kernel.line("const acc_t infinity = kn_inf(acc_t(0));");
}

/// How many keys a query sees, and its score for one of them.
void declare_scores(HandKernel& kernel, const Problem& problem) {
    const op::Attention& op = problem.op;
    const std::int64_t length = problem.keys();
    if (op.causal == kn::CausalMask::None) {
        kernel.function("visible", "int", std::to_string(length));
    } else {
        const bool top_left = op.causal == kn::CausalMask::TopLeft;
        const std::int64_t shift = top_left ? 1 : 1 + length - problem.queries();
        kernel.line(
            fmt::format("const auto visible = [](int s) {{ const int n = s + ({}); return "
                        "n < 0 ? 0 : n > {} ? {} : n; }};",
                        shift, length, length));
    }
    std::string score = fmt::format("product * ({}){:.17g}", problem.type(), op.scale);
    if (op.mask) {
        TensorRef mask = operand_of(problem.placement, *op.mask);
        for (std::size_t a = 0; a < 4; ++a)
            if (mask.shape[a] == 1) mask.strides[a] = 0;
        mask.shape = {problem.q.shape[0], problem.q.shape[1], problem.queries(), length};
        kernel.read("mask", mask);
        score = mask.dtype == DType::Bool ? "mask(b, h, s, t) ? " + score + " : -infinity"
                                          : score + " + mask(b, h, s, t)";
    }
    kernel.function("score_of", "Int b, Int h, Int s, Int t, acc_t product", score);
}

/// What blocks computed of the same queries, put together.
void add_merge(const Problem& problem, const Group& group, const Split& split,
               const TensorRef& parts, const TensorRef& limits) {
    HandKernel merge(problem.placement, "attention_merge");
    declare_type(merge, problem);
    merge.constant("kBatch", problem.q.shape[0]);
    merge.constant("kHeads", problem.q.shape[1]);
    merge.constant("kQueries", problem.queries());
    merge.constant("kValueWidth", problem.value_width());
    merge.constant("kSplits", split.count);
    merge.read("part", parts);
    merge.read("limits", limits);
    merge.write("store", problem.placement.stored(group.anchor));
    const std::int64_t elements = problem.heads() * problem.queries() * problem.value_width();
    merge.add_step(group, "attention_merge", ceil_div(elements, 128), 128);
}

}  // namespace

std::optional<bool>& forced_attention_products() {
    static thread_local std::optional<bool> forced;
    return forced;
}

void lower_direct_attention(Placement& placement, const Group& group) {
    const auto& op = *placement.graph().get_if<op::Attention>(group.anchor);
    Problem problem{placement, op, operand_of(placement, op.q), operand_of(placement, op.k),
                    operand_of(placement, op.v)};
    const TensorRef &q = problem.q, &k = problem.k;
    problem.wide = q.dtype == DType::F64;
    // The result's row of a thread is in registers, so only so wide.
    constexpr std::int64_t kWidest = 512;
    if (problem.value_width() > kWidest)
        throw GraphError(fmt::format("attention with values {} wide: the kernel takes at most {}",
                                     problem.value_width(), kWidest));
    const bool products = by_products(problem);
    const Tiles tiles = tiles_of(problem);
    const std::int64_t rows = products ? 16 * product_warps : 16 * tiles.rows;
    const std::int64_t blocks = ceil_div(problem.queries(), rows);
    const Split split =
        split_keys(blocks * problem.heads(), problem.keys(), placement.plan().device.sm_count);

    HandKernel kernel(placement, products ? "attention_products" : "attention_rows");
    declare_type(kernel, problem);
    if (products) {
        use_products(kernel, problem);
    } else {
        kernel.constant("kRows", tiles.rows);
        kernel.constant("kCols", tiles.cols);
        kernel.constant("kOut", tiles.out);
        kernel.constant("kOutVector", tiles.vector);
        kernel.constant("kValueRows", tiles.value_rows);
    }
    kernel.constant("kValueWidth", problem.value_width());
    kernel.constant("kWidth", q.shape[3]);
    kernel.constant("kQueries", problem.queries());
    kernel.constant("kTiles", blocks);
    kernel.constant("kHeads", q.shape[1]);
    kernel.constant("kGroups", k.shape[1]);
    kernel.read("q", q);
    kernel.read("k", k);
    kernel.read("v", problem.v);
    kernel.constant("kSplits", split.count);
    kernel.constant("kSpan", split.span);
    TensorRef parts, limits;
    if (split.count > 1) {
        const DType sums = problem.wide ? DType::F64 : DType::F32;
        parts = placement.scratch(
            sums, {q.shape[0], q.shape[1], problem.queries(), problem.value_width(), split.count},
            "parts of attention", {0, 1, 2, 4, 3});
        limits =
            placement.scratch(sums, {q.shape[0], q.shape[1], problem.queries(), split.count, 2},
                              "limits of attention");
        kernel.write("store", parts);
        kernel.write("limits", limits);
    } else {
        kernel.write("store", placement.stored(group.anchor), {{0}, {1}, {2}, {3}, {}});
        kernel.line("const auto limits = [](Int, Int, Int, int, int, acc_t) {};");
    }
    declare_scores(kernel, problem);
    kernel.add_step(group, "attention", blocks * split.count * problem.heads(),
                    products ? 32 * product_warps : 256, split.count == 1);
    if (split.count > 1) add_merge(problem, group, split, parts, limits);
}

}  // namespace kn::cuda
