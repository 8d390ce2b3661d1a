#include "codegen/attention_tensor.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include <fmt/core.h>

#include "codegen/defines.h"
#include "codegen/kernel_text.h"
#include "codegen/wgmma.h"
#include "planner/ceil_div.h"

namespace kn::cuda {

namespace {

constexpr std::int64_t shared_limit = 227 << 10;  // of a block, and nearly that of a multiprocessor
constexpr std::int64_t panel_row = 128;           // bytes
constexpr std::int64_t widest = 200;              // heads whose sums fit into registers
constexpr std::int64_t barrier_bytes = 2 * 8;     // of a stage

std::int64_t panels(std::int64_t width) { return ceil_div(width, 64); }

/// Queries and results of a group, with its barrier.
std::int64_t group_bytes(const TensorAttention& a, const AttentionTiles& tiles) {
    const std::int64_t q = panels(a.width), o = panels(a.value_width);
    return (tiles.rounds > 1 ? q + o : std::max(q, o)) * 64 * panel_row + 8;
}

std::int64_t stage_bytes(const TensorAttention& a, const AttentionTiles& tiles) {
    return (panels(a.width) + panels(a.value_width)) * tiles.keys * panel_row + barrier_bytes;
}

std::string wgmma_functions(const TensorAttention& a) {
    const DataType type = a.dtype == DType::F16 ? DataType::F16 : DataType::BF16;
    return wgmma_function({.name = "kn_wgmma_scores", .type = type, .columns = a.tiles.keys}) +
           wgmma_function({.name = "kn_wgmma_values",
                           .type = type,
                           .columns = static_cast<int>(a.value_width),
                           .rows_in_registers = true,
                           .columns_dense = true,
                           .adds = true});
}

TensorMapLayout map_of(const TensorAttention& a, std::int64_t width, std::int64_t rows,
                       std::int64_t heads, const std::array<std::int64_t, 3>& strides, int box) {
    TensorMapLayout map;
    map.type = a.dtype == DType::F16 ? DataType::F16 : DataType::BF16;
    map.sizes = {width, rows, heads, a.batch};
    // Axes of one element may have any stride, which the engine would not take.
    const auto bytes = [&](std::int64_t size, std::int64_t stride) {
        return size > 1 ? stride * 2 : 16;
    };
    map.strides = {bytes(rows, strides[2]), bytes(heads, strides[1]), bytes(a.batch, strides[0])};
    map.box = {static_cast<int>(panel_row / 2), box, 1, 1};
    return map;
}

}  // namespace

std::size_t TensorAttention::shared_bytes() const {
    return static_cast<std::size_t>(tiles.groups * group_bytes(*this, tiles) +
                                    tiles.stages * stage_bytes(*this, tiles));
}

Dim3 TensorAttention::grid() const {
    const std::int64_t block = std::int64_t{64} * tiles.groups * tiles.rounds;
    return {static_cast<unsigned>(ceil_div(queries, block) * batch * heads), 1, 1};
}

TensorMapLayout TensorAttention::map_q() const {
    return map_of(*this, width, queries, heads, q_strides, 64);
}
TensorMapLayout TensorAttention::map_k() const {
    return map_of(*this, width, keys, key_heads, k_strides, tiles.keys);
}
TensorMapLayout TensorAttention::map_v() const {
    return map_of(*this, value_width, keys, key_heads, v_strides, tiles.keys);
}

std::optional<std::string> TensorAttention::why_not() const {
    if (dtype != DType::F16 && dtype != DType::BF16) return "it is for half types";
    if (batch < 1 || heads < 1 || queries < 1 || keys < 1) return "there is nothing to attend to";
    for (const std::int64_t w : {width, value_width})
        if (w % 8 != 0 || w < 8 || w > widest)
            return fmt::format("heads of {}: the kernel takes multiples of 8, {} at most", w,
                               widest);
    if (!(scale > 0) || !std::isfinite(scale)) return fmt::format("a scale of {}", scale);
    if (ceil_div(queries, 64) * batch * heads > 0x7fffffff || keys > (1 << 30) ||
        queries > (1 << 30))
        return "it is too large";
    return std::nullopt;
}

AttentionRegisters registers(const AttentionTiles& tiles) {
    constexpr int all = 65536, most = 240;
    const int groups = tiles.groups;
    const int launched = std::min(all / (tiles.blocks * (groups + 1) * 128) / 8 * 8, most);
    const int producer = groups <= 2 && launched >= 128 ? 40 : 32;
    const int consumer = std::min((launched * (groups + 1) - producer) / groups / 8 * 8, most);
    return {launched, producer, consumer};
}

int most_stages(const TensorAttention& attention, const AttentionTiles& tiles) {
    const std::int64_t room =
        (shared_limit + 1024) / tiles.blocks - 1024 - tiles.groups * group_bytes(attention, tiles);
    return static_cast<int>(
        std::min(room / stage_bytes(attention, tiles), ceil_div(attention.keys, tiles.keys)));
}

std::string tensor_attention_helpers(const TensorAttention& a) {
    const AttentionRegisters each = registers(a.tiles);
    const bool exchange = each.consumer > each.launched;
    const Defines constants{{"KN_GROUPS", a.tiles.groups},
                            {"KN_PRODUCER_REGISTERS", exchange ? each.producer : 0},
                            {"KN_CONSUMER_REGISTERS", exchange ? each.consumer : 0},
                            {"KN_KEYS", a.tiles.keys},
                            {"KN_STAGES", a.tiles.stages},
                            {"KN_ROUNDS", a.tiles.rounds},
                            {"KN_WIDTH", a.width},
                            {"KN_VALUE_WIDTH", a.value_width},
                            {"KN_CAUSAL", a.causal_shift.has_value()},
                            {"KN_BF16", a.dtype == DType::BF16}};
    std::string text(kernel_text("hopper"));
    text += kernel_text("pipeline");
    const auto constant = [&](const std::string& name, std::int64_t value) {
        const bool wide = value > 0x7fffffff || value < -0x7fffffff;
        text += fmt::format("constexpr {} {} = {};\n", wide ? "long long" : "int", name, value);
    };
    constant("kn_heads", a.heads);
    constant("kn_sharing", a.heads / a.key_heads);
    constant("kn_queries", a.queries);
    constant("kn_length", a.keys);
    if (a.causal_shift) {
        constant("kn_shift", *a.causal_shift);
        constant("kn_batch_heads", a.batch * a.heads);
    }
    constant("kn_o_batch", a.o_strides[0]);
    constant("kn_o_head", a.o_strides[1]);
    constant("kn_o_row", a.o_strides[2]);
    text += fmt::format("constexpr float kn_factor = {:.9e}f;\n", a.scale * std::numbers::log2e);
    text += wgmma_functions(a);
    text += kernel_text("attention_tensor");
    return constants.around(text);
}

}  // namespace kn::cuda
