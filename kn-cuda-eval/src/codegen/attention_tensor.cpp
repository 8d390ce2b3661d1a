#include "codegen/attention_tensor.h"

#include <algorithm>
#include <cmath>
#include <limits>
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
constexpr std::int64_t most_stages = 8;
constexpr std::int64_t barrier_bytes = 2 * 8;  // of a stage

std::int64_t group_bytes(const TensorAttention& a) {
    return std::max(ceil_div(a.width, 64), ceil_div(a.value_width, 64)) * 64 * panel_row;
}

std::int64_t stage_bytes(const TensorAttention& a) {
    return (ceil_div(a.width, 64) + ceil_div(a.value_width, 64)) * a.tile_keys * panel_row;
}

std::string wgmma_functions(const TensorAttention& a) {
    const DataType type = a.dtype == DType::F16 ? DataType::F16 : DataType::BF16;
    return wgmma_function({.name = "kn_wgmma_scores", .type = type, .columns = a.tile_keys}) +
           wgmma_function({.name = "kn_wgmma_values",
                           .type = type,
                           .columns = static_cast<int>(a.value_width),
                           .rows_in_registers = true,
                           .columns_dense = true,
                           .adds = true});
}

/// Registers of a thread: at launch, and when the copying group has given away what it can do
/// without.
struct Registers {
    int launched, producer, consumer;
};
Registers registers(int groups, int blocks) {
    constexpr int all = 65536;
    const int launched = std::min(all / (blocks * (groups + 1) * 128) / 8 * 8, 240);
    const int producer = groups <= 2 && launched >= 128 ? 40 : 32;
    const int consumer = std::min((launched * (groups + 1) - producer) / groups / 8 * 8, 240);
    return {launched, producer, consumer};
}

/// What a consumer needs: scores, weights, sums, addresses.
int wanted_registers(const TensorAttention& a, int tile_keys) {
    const int width = static_cast<int>(a.value_width);
    return tile_keys / 2 + tile_keys / 4 + width / 2 + 24 + width / 64 * 8;
}

}  // namespace

std::size_t TensorAttention::shared_bytes() const {
    return static_cast<std::size_t>(groups * group_bytes(*this) +
                                    stages * (stage_bytes(*this) + barrier_bytes));
}

Dim3 TensorAttention::grid() const {
    return {static_cast<unsigned>(ceil_div(queries, 64 * groups) * batch * heads), 1, 1};
}

std::optional<std::string> TensorAttention::why_not() const {
    if (dtype != DType::F16 && dtype != DType::BF16) return "it is for half types";
    if (batch < 1 || heads < 1 || queries < 1 || keys < 1) return "there is nothing to attend to";
    for (const std::int64_t w : {width, value_width})
        if (w % 8 != 0 || w < 8 || w > widest)
            return fmt::format("heads of {}: the kernel takes multiples of 8, {} at most", w,
                               widest);
    if (!(scale > 0) || !std::isfinite(scale)) return fmt::format("a scale of {}", scale);
    if (ceil_div(queries, 64) * batch * heads > 0x7fffffff || keys > (1 << 30))
        return "it is too large";
    return std::nullopt;
}

void TensorAttention::choose_tiles(int sm_count) {
    const std::int64_t shortest = std::min<std::int64_t>(64, ceil_div(keys, 16) * 16);
    const auto best_stages = [&](const TensorAttention& trial) {
        const std::int64_t room =
            (shared_limit + 1024) / trial.blocks - 1024 - trial.groups * group_bytes(trial);
        return std::min({room / (stage_bytes(trial) + barrier_bytes),
                         ceil_div(keys, trial.tile_keys), most_stages});
    };
    double best = std::numeric_limits<double>::infinity();
    TensorAttention chosen = *this;
    chosen.groups = chosen.blocks = 1;
    chosen.tile_keys = static_cast<int>(shortest);
    chosen.stages = static_cast<int>(best_stages(chosen));
    for (int count = 4; count >= 1; count--)
        for (std::int64_t columns = shortest; columns <= 128; columns += 16)
            for (int at_once = 1; at_once * count <= 4; at_once++) {
                TensorAttention trial = *this;
                trial.groups = count;
                trial.tile_keys = static_cast<int>(columns);
                trial.blocks = at_once;
                const std::int64_t key_tiles = ceil_div(keys, columns);
                const std::int64_t fitting = best_stages(trial);
                if (fitting < std::min<std::int64_t>(key_tiles, 3) ||
                    registers(count, at_once).consumer < wanted_registers(*this, trial.tile_keys))
                    continue;
                trial.stages = static_cast<int>(fitting);
                const double cost = trial.cost(sm_count);
                if (cost >= best) continue;
                best = cost;
                chosen = trial;
            }
    *this = chosen;
}

double TensorAttention::cost(int sm_count) const {
    // Clocks measured on an H200: groups on a multiprocessor wait for its tensor cores most of the
    // time, blocks side by side copy the same keys, and what comes before and after the tiles
    // overlaps only between blocks.
    constexpr double alone = 200, each_group = 410, each_kilobyte = 12, around = 2500;
    const auto all = static_cast<double>(grid().x);
    const double slots = static_cast<double>(sm_count) * blocks;
    double side_by_side = std::min<double>(blocks, std::ceil(all / sm_count));
    const double waves = std::ceil(all / slots);
    // Under a causal mask, long and short blocks meet.
    const double full_waves = causal_shift ? std::max(1.0, all / slots / 2) : waves;
    if (causal_shift && waves == 1) side_by_side = 1 + 0.3 * (side_by_side - 1);
    const double kilobytes = static_cast<double>(tile_keys * (width + value_width)) / 512;
    const double tile = tile_keys / 64.0 * (alone + each_group * groups * side_by_side) +
                        each_kilobyte * kilobytes * (side_by_side - 1);
    return full_waves * static_cast<double>(ceil_div(keys, tile_keys)) * tile +
           waves * around / std::min<double>(blocks, std::ceil(all / sm_count));
}

std::string tensor_attention_helpers(const TensorAttention& a) {
    const Registers each = registers(a.groups, a.blocks);
    const bool exchange = each.consumer > each.launched;
    const Defines constants{{"KN_GROUPS", a.groups},
                            {"KN_PRODUCER_REGISTERS", exchange ? each.producer : 0},
                            {"KN_CONSUMER_REGISTERS", exchange ? each.consumer : 0},
                            {"KN_KEYS", a.tile_keys},
                            {"KN_STAGES", a.stages},
                            {"KN_WIDTH", a.width},
                            {"KN_VALUE_WIDTH", a.value_width},
                            {"KN_CAUSAL", a.causal_shift.has_value()},
                            {"KN_BF16", a.dtype == DType::BF16}};
    std::string text(kernel_text("hopper"));
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
    const std::pair<const char*, const std::array<std::int64_t, 3>*> tensors[] = {
        {"q", &a.q_strides}, {"k", &a.k_strides}, {"v", &a.v_strides}, {"o", &a.o_strides}};
    for (const auto& [name, strides] : tensors) {
        constant(fmt::format("kn_{}_batch", name), (*strides)[0]);
        constant(fmt::format("kn_{}_head", name), (*strides)[1]);
        constant(fmt::format("kn_{}_row", name), (*strides)[2]);
    }
    text += fmt::format("constexpr float kn_factor = {:.9e}f;\n", a.scale * std::numbers::log2e);
    text += wgmma_functions(a);
    text += kernel_text("attention_tensor");
    return constants.around(text);
}

}  // namespace kn::cuda
