#include "lower/attention_tiles.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/core.h>

#include "planner/ceil_div.h"

namespace kn::cuda {

namespace {

/// What a thread needs: scores, weights, sums, addresses. With less, ptxas spills.
int wanted_registers(const TensorAttention& a, const AttentionTiles& tiles) {
    return tiles.keys / 2 + tiles.keys / 4 + static_cast<int>(a.value_width) / 2 + 36;
}

TensorAttention with_tiles(const TensorAttention& attention, const AttentionTiles& tiles) {
    TensorAttention trial = attention;
    trial.tiles = tiles;
    return trial;
}

/// With their stages; none where memory or registers do not suffice.
std::optional<AttentionTiles> with_stages(const TensorAttention& attention, AttentionTiles tiles) {
    constexpr int most = 8;
    const auto key_tiles = static_cast<int>(ceil_div(attention.keys, tiles.keys));
    const bool resident = tiles.rounds > 1;
    tiles.stages = std::min(most_stages(attention, tiles), resident ? key_tiles : most);
    if (tiles.stages < (resident ? key_tiles : std::min(key_tiles, 2)) ||
        registers(tiles).consumer < wanted_registers(attention, tiles))
        return std::nullopt;
    return tiles;
}

/// Tiles of queries that blocks take one after the other, so that one wave of them does all.
int rounds_of(const TensorAttention& attention, const AttentionTiles& tiles, int sm_count) {
    const std::int64_t heads = attention.batch * attention.heads;
    const std::int64_t blocks_a_head =
        std::max<std::int64_t>(std::int64_t{tiles.blocks} * sm_count / heads, 1);
    return static_cast<int>(
        ceil_div(ceil_div(attention.queries, 64 * tiles.groups), blocks_a_head));
}

}  // namespace

std::vector<AttentionTiles> sensible_tiles(const TensorAttention& attention, int sm_count) {
    const int shortest =
        static_cast<int>(std::min<std::int64_t>(64, ceil_div(attention.keys, 16) * 16));
    std::vector<AttentionTiles> result;
    for (int groups = 4; groups >= 1; --groups)
        for (int blocks = 1; blocks <= 2 && blocks * groups <= 4; ++blocks)
            for (int keys = shortest; keys <= 128 && keys < attention.keys + 16; keys += 16) {
                const AttentionTiles tiles{.groups = groups, .keys = keys, .blocks = blocks};
                AttentionTiles in_rounds = tiles;
                in_rounds.rounds = rounds_of(attention, tiles, sm_count);
                std::optional<AttentionTiles> fitting;
                if (in_rounds.rounds > 1 && !attention.causal_shift)
                    fitting = with_stages(attention, in_rounds);
                if (!fitting) fitting = with_stages(attention, tiles);
                if (fitting) result.push_back(*fitting);
            }
    if (result.empty()) {
        AttentionTiles tiles{.groups = 1, .keys = shortest};
        tiles.stages = std::min(most_stages(attention, tiles), 8);
        result.push_back(tiles);
    }
    return result;
}

double clocks_of(const TensorAttention& attention, const AttentionTiles& tiles, int sm_count) {
    // Fitted to 150 measurements of 10 shapes on an H200, which it meets within 15 %, most of the
    // best among them: groups on a multiprocessor take turns at exponentials and products, and
    // blocks side by side copy the same keys.
    constexpr double launch = 3600, each_group = 1100, group_tile = 56, group_key = 3.6,
                     copied_row = 3.7;
    const auto all = static_cast<double>(with_tiles(attention, tiles).grid().x);
    const double waves = std::ceil(all / sm_count / tiles.blocks);
    double side_by_side = std::min<double>(tiles.blocks, std::ceil(all / sm_count));
    const double rounds = waves * tiles.rounds;
    double full_rounds = rounds;
    if (attention.causal_shift) {  // long and short blocks meet
        if (waves == 1) side_by_side = 1;
        full_rounds = std::max(1.0, all / sm_count / tiles.blocks / 2);
    }
    const auto panels =
        static_cast<double>(ceil_div(attention.width, 64) + ceil_div(attention.value_width, 64));
    const double tile =
        (group_tile + group_key * tiles.keys) * tiles.groups + copied_row * tiles.keys * panels;
    const auto key_tiles = static_cast<double>(ceil_div(attention.keys, tiles.keys));
    return full_rounds * key_tiles * tile * side_by_side + rounds * each_group * tiles.groups +
           launch;
}

std::optional<AttentionTiles>& forced_attention_tiles() {
    static thread_local std::optional<AttentionTiles> tiles;
    return tiles;
}

AttentionTiles choose_tiles(const TensorAttention& attention, int sm_count) {
    if (forced_attention_tiles()) return *forced_attention_tiles();
    AttentionTiles best;
    double least = std::numeric_limits<double>::infinity();
    for (const AttentionTiles& tiles : sensible_tiles(attention, sm_count)) {
        const double clocks = clocks_of(attention, tiles, sm_count);
        if (clocks >= least) continue;
        least = clocks;
        best = tiles;
    }
    return best;
}

std::string to_string(const AttentionTiles& t) {
    std::string text =
        fmt::format("{} x 64 queries, {} keys, {} stages", t.groups, t.keys, t.stages);
    if (t.blocks > 1) text += fmt::format(", {} a multiprocessor", t.blocks);
    if (t.rounds > 1) text += fmt::format(", {} rounds", t.rounds);
    return text;
}

}  // namespace kn::cuda
