#include "lower/product_tiles.h"

#include <algorithm>

#include <fmt/core.h>

#include "codegen/winograd.h"
#include "planner/ceil_div.h"

namespace kn::cuda {

namespace {

std::size_t shared_room(const DeviceProperties& device, int blocks) {
    if (blocks == 1) return device.shared_per_block_optin;
    constexpr std::size_t reserved = 1024;  // a block's, by the driver
    return device.shared_per_sm / static_cast<std::size_t>(blocks) - reserved;
}

// With the most slabs in flight that shared memory holds beside wide chunks, as far as there are
// slabs; without stages if there is no room for enough.
ProductTiles with_stages(const TensorProduct& product, ProductTiles tiles,
                         const DeviceProperties& device) {
    constexpr int most = 8;
    const auto useful = static_cast<int>(std::min<std::int64_t>(most, 2 * product.slabs()));
    const int enough = product.slabs() == 1 ? 2 : 3;
    const std::size_t room = shared_room(device, tiles.blocks);
    TensorProduct trial = product;
    const auto fit = [&](int chunk) {
        tiles.chunk = chunk;
        for (tiles.stages = useful; tiles.stages >= enough; --tiles.stages) {
            trial.tiles = tiles;
            if (trial.shared_bytes() <= room) return true;
        }
        return false;
    };
    if (tiles.winograd && fit(tiles.columns)) return tiles;
    for (int chunk = 64; chunk >= (tiles.staged ? 64 : 16) && !tiles.winograd; chunk /= 2)
        if ((tiles.staged || tiles.columns % chunk == 0) && fit(chunk)) return tiles;
    tiles.stages = 0;
    return tiles;
}

// Blocks of clusters that fit the device at once: processors come in groups that clusters do not
// fill. How far they do is an H200's answer to cudaOccupancyMaxActiveClusters.
int blocks_at_once(const DeviceProperties& device, int cluster) {
    constexpr double filled[] = {1, 1, 1, 0.89, 0.91, 0.84, 0.78, 0.8, 0.91};
    const int blocks =
        static_cast<int>(device.sm_count * filled[std::min(cluster, 8)]) / cluster * cluster;
    return std::max(blocks, cluster);
}

// What the model says in clocks.
struct ProductCosts {
    double multiply;    ///< of a slab, for each clock at the tensor cores' rate
    double shared;      ///< of a slab, for each clock at shared memory's rate
    double l2_bytes;    ///< that come from L2 in a clock,
    double l2_split;    ///< and where neighbours, each with its own k, ask for nothing in common
    double slab;        ///< the least for one
    double pair, four;  ///< factors where two and four blocks wait for each other's w
    double start;       ///< until the first products, and behind the last
    double beside;      ///< factor of products beside another block's
    double bytes;       ///< that the device's memory gives or takes in a clock
};
struct EpilogueCosts {
    double tile;       ///< at least
    double piece;      ///< for each strip of rows behind the first one,
    double sum;        ///< for two bytes of y a thread,
    double before;     ///< and for those of a tensor like y
    double exchange;   ///< where k is split: until blocks have each other's sums,
    double sum_bytes;  ///< bytes of them that a block gets in a clock
    double beside;     ///< factor where other blocks hide it
    double turn;       ///< of a turn's change
    double in_turns;   ///< factor of all where groups take turns
};

// Fitted to 1400 measurements on an H200 (tests/bench/products.cpp), in clocks of 1650 MHz; what
// they choose takes 1.4 % longer than the best that was measured, on average, and the best of the
// eight that they expect most of 0.2 % longer. What exact products take longer where k is split is
// an estimate.
constexpr ProductCosts plain = {.multiply = 1.13,
                                .shared = 0.9,
                                .l2_bytes = 188,
                                .l2_split = 47,
                                .slab = 220,
                                .pair = 1.153,
                                .four = 1.087,
                                .start = 2927,
                                .beside = 1.021,
                                .bytes = 2333};
constexpr ProductCosts beside_copies = {.multiply = 1.129,
                                        .shared = 0.902,
                                        .l2_bytes = 68.2,
                                        .l2_split = 0,
                                        .slab = 130,
                                        .pair = 1.108,
                                        .four = 1.63,
                                        .start = 3200,
                                        .beside = 1.215,
                                        .bytes = 2572};
constexpr ProductCosts exact = {.multiply = 3.295,
                                .shared = 2.57,
                                .l2_bytes = 23.4,
                                .l2_split = 23.4,
                                .slab = 583,
                                .pair = 0.999,
                                .four = 1.071,
                                .start = 1749,
                                .beside = 1.138,
                                .bytes = 2572};
constexpr EpilogueCosts direct = {.tile = 1008,
                                  .piece = 56,
                                  .sum = 9.5,
                                  .before = 12.1,
                                  .exchange = 577,
                                  .sum_bytes = 18.9,
                                  .beside = 2.37,
                                  .turn = 0,
                                  .in_turns = 1};
constexpr EpilogueCosts direct_exact = {.tile = 9,
                                        .piece = 218,
                                        .sum = 18,
                                        .before = 12,
                                        .exchange = 1200,
                                        .sum_bytes = 16,
                                        .beside = 2.27,
                                        .turn = 0,
                                        .in_turns = 1};
constexpr EpilogueCosts staged = {.tile = 528,
                                  .piece = 530,
                                  .sum = 8.16,
                                  .before = 4.7,
                                  .exchange = 0,
                                  .sum_bytes = 1,
                                  .beside = 1.017,
                                  .turn = 917,
                                  .in_turns = 1.281};

// What memory has to give and take, without the weights.
double bytes_of(const TensorProduct& product) {
    const auto& windows = product.windows;
    const double x = windows ? static_cast<double>(windows->images * windows->height *
                                                   windows->width * windows->channels)
                             : static_cast<double>(product.m * product.k);
    const double also = product.also ? static_cast<double>(product.m * product.also->channels) : 0;
    const auto y = static_cast<double>(product.m * product.n / product.halves);
    return static_cast<double>(size_of(product.type)) * (x + also) +
           static_cast<double>(product.y_bytes) * y * (product.before ? 2 : 1);
}

std::int64_t tiles_of(const TensorProduct& product, const ProductTiles& tiles) {
    return ceil_div(product.m, tiles.rows * tiles.share_w) * tiles.share_w *
           ceil_div(product.n, tiles.columns);
}

// Of statistics of rows, measured on an H200: their instructions come on top of products, but where
// those of wide tiles take long enough.
struct StatisticsCosts {
    double narrow, wide, turns;  ///< of a slab, for each row
    double staged, direct;       ///< at a tile's end, for each column and 64 rows of a group
};
StatisticsCosts costs_of(RowStatistics statistics) {
    switch (statistics) {
        case RowStatistics::None: break;
        case RowStatistics::MeanSquare: return {0.9, 0.1, 2.3, 0.5, 6};
        case RowStatistics::Variance: return {2.5, 1.7, 4.5, 4, 10};
    }
    return {};
}

double statistics_clocks(const TensorProduct& product, const ProductTiles& tiles) {
    if (product.given_parts > 0) return 0;
    const StatisticsCosts costs = costs_of(product.statistics);
    return tiles.rows * (tiles.turns            ? costs.turns
                         : tiles.columns <= 192 ? costs.narrow
                                                : costs.wide);
}

// Minimal filtering, fitted to 40 measurements: shared memory bounds a step, a line of the window
// and 16 channels, by pixels and by what four positions multiply them by; wide tiles leave the
// epilogue few registers, and blocks that share out k wait longer for each other. What patches cost
// less than other staged results is by eight measurements, of which it is 0 to 9 % above.
constexpr double filtered_step = 128, filtered_column = 3.12;
constexpr double filtered_wide = 2600, filtered_exchange = 4300;
constexpr double filtered_staged = -1300, filtered_staged_before = -100;

double filtered_clocks(const TensorProduct& product, const ProductTiles& tiles) {
    const std::int64_t slabs = ceil_div(ceil_div(product.windows->channels, 64), tiles.splits);
    const double in_patches = product.before ? filtered_staged_before : filtered_staged;
    const double end = tiles.splits > 1     ? filtered_exchange
                       : tiles.staged       ? in_patches
                       : tiles.columns > 64 ? filtered_wide
                                            : 0;
    return end +
           static_cast<double>(slabs) * 12 * (filtered_step + filtered_column * tiles.columns);
}

// Of a slab of the tile.
double slab_clocks(const ProductCosts& costs, const ProductTiles& tiles) {
    const double rows = tiles.rows, columns = tiles.columns;
    const double multiply = costs.multiply * rows * columns / 32;
    const double shared = costs.shared * (rows / 64 * 4 * (16 + columns / 4) + rows + columns);
    const double copied = (rows + columns / tiles.share_w) * 128 /
                          (tiles.splits > 1 ? costs.l2_split : costs.l2_bytes);
    const double waiting_for_others = tiles.share_w == 1   ? 1
                                      : tiles.share_w == 2 ? costs.pair
                                                           : costs.four;
    return std::max({multiply, shared, copied, costs.slab}) * waiting_for_others;
}

// Of a tile's epilogue, by itself.
double epilogue_clocks(const EpilogueCosts& costs, const TensorProduct& product,
                       const ProductTiles& tiles) {
    const double strips = tiles.group_rows() / 64 * (product.y_bytes == 4 ? 2 : 1);
    const double splits = tiles.splits;
    const double sums = tiles.group_rows() / 64 * tiles.columns * product.y_bytes / 2.0 / splits;
    const double exchanged = tiles.rows * tiles.columns * 4 * (splits - 1) / splits;
    const StatisticsCosts statistics = costs_of(product.statistics);
    const double normalizing = (tiles.staged ? statistics.staged : statistics.direct) *
                               tiles.columns * tiles.group_rows() / 64;
    return costs.tile + normalizing + (strips - 1) * costs.piece +
           sums * (costs.sum + (product.before ? costs.before : 0)) +
           (tiles.splits > 1 ? costs.exchange + exchanged / costs.sum_bytes : 0);
}

}  // namespace

double clocks_of(const TensorProduct& product, const ProductTiles& tiles,
                 const DeviceProperties& device) {
    const ProductCosts& costs = product.exact ? exact : tiles.staged ? beside_copies : plain;
    const EpilogueCosts& ends = tiles.staged ? staged : product.exact ? direct_exact : direct;
    const double multiply = tiles.winograd
                                ? filtered_clocks(product, tiles)
                                : (slab_clocks(costs, tiles) + statistics_clocks(product, tiles)) *
                                      static_cast<double>(ceil_div(product.slabs(), tiles.splits));
    const double end = epilogue_clocks(ends, product, tiles);

    const int cluster = tiles.share_w * tiles.splits * product.beside();
    const std::int64_t blocks = tiles_of(product, tiles) * tiles.splits;
    const std::int64_t on_one = ceil_div(blocks, blocks_at_once(device, cluster));
    const auto rounds = static_cast<double>(on_one);
    double work = 0;
    if (tiles.turns)  // of two groups: one's end beside the other's products
        work =
            rounds * std::max(multiply + ends.turn, (multiply + end) / 2 * ends.in_turns) + end / 2;
    else if (tiles.blocks == 1 || on_one == 1)
        work = rounds * (multiply + end);
    else
        work = rounds * multiply * costs.beside +
               static_cast<double>(ceil_div(on_one, tiles.blocks)) * end * ends.beside;
    // Of the tiles that memory bounds, those with the least work meet its rate best.
    constexpr double meeting = 0.05;
    const double memory = bytes_of(product) / costs.bytes;
    return costs.start + std::max(work, memory) + meeting * std::min(work, memory);
}

std::vector<ProductTiles> sensible_tiles(const TensorProduct& product,
                                         const DeviceProperties& device, bool staged) {
    std::vector<ProductTiles> result;
    const auto consider = [&](ProductTiles tiles) {
        tiles.staged = staged;
        // Sums of a slab and of all, and rows, are in registers.
        if (product.exact && (tiles.group_rows() != 64 || tiles.columns > 128 || tiles.turns))
            return;
        if (tiles.splits > (staged ? 1 : product.slabs())) return;
        if (tiles.splits > 1 && product.statistics != RowStatistics::None) return;
        if (staged && tiles.columns % (product.panel() * product.halves) != 0) return;
        if (product.halves == 2 && !staged) return;
        // Turns need tiles to take.
        if (tiles.turns && tiles_of(product, tiles) <= device.sm_count) return;
        if (product.partner > 0 && (!staged || tiles.columns % (2 * product.partner) != 0)) return;
        tiles = with_stages(product, tiles, device);
        if (tiles.stages > 0) result.push_back(tiles);
    };
    // Minimal filtering was measured from 112 channels on.
    constexpr std::int64_t least_slabs = 2;
    TensorProduct trial = product;
    const std::int64_t slabs = product.windows ? ceil_div(product.windows->channels, 64) : 0;
    for (const int columns : {80, 64}) {
        if (slabs < least_slabs) break;
        if (ceil_div(product.n, columns) * columns * 8 > product.n * 9) continue;
        trial.tiles = {
            .rows = 256, .columns = columns, .blocks = 1, .staged = staged, .winograd = true};
        if (why_no_winograd(trial)) continue;
        for (trial.tiles.splits = 1; trial.tiles.splits <= std::min<std::int64_t>(8, slabs);
             ++trial.tiles.splits)
            consider(trial.tiles);
    }
    const int least_columns = product.halves == 2 ? 2 * product.panel() : 32;
    for (const int rows : {64, 128, 256}) {
        const int groups = rows == 64 ? 1 : 2;
        for (const int columns : {256, 192, 160, 128, 96, 80, 64, 48, 32}) {
            // The sums of a thread have to fit its registers; and few columns may be none of y's.
            if (rows * columns > 128 * 256) continue;
            if (ceil_div(product.n, columns) * columns * 8 > product.n * 9 &&
                columns > least_columns)
                continue;
            for (const int blocks : {1, 2, 4}) {
                if (blocks * rows * columns > 2 * 128 * 128 || blocks * groups > 4) continue;
                for (const int share : {1, 2, 4}) {
                    consider({.rows = rows,
                              .columns = columns,
                              .groups = groups,
                              .blocks = blocks,
                              .share_w = share});
                    if (staged && rows <= 128 && blocks == 1 && rows * columns <= 128 * 192)
                        consider({.rows = rows,
                                  .columns = columns,
                                  .groups = 2,
                                  .blocks = 1,
                                  .share_w = share,
                                  .turns = true});
                }
            }
            for (int splits = 2; splits <= std::min(8, columns / 8); ++splits)
                consider({.rows = rows,
                          .columns = columns,
                          .groups = groups,
                          .blocks = 1,
                          .splits = splits});
        }
    }
    return result;
}

std::optional<ProductTiles>& forced_tiles() {
    static thread_local std::optional<ProductTiles> tiles;
    return tiles;
}

std::string to_string(const ProductTiles& tiles) {
    return fmt::format("{}x{}{}{}{}{}{}{} {} stages", tiles.rows, tiles.columns,
                       tiles.winograd ? " by F(2,3)" : "", tiles.turns ? " in turns" : "",
                       tiles.staged ? " staged" : "",
                       tiles.blocks > 1 ? fmt::format(" {} a multiprocessor", tiles.blocks) : "",
                       tiles.share_w > 1 ? fmt::format(" in {}s", tiles.share_w) : "",
                       tiles.splits > 1 ? fmt::format(" k in {}", tiles.splits) : "", tiles.stages);
}

std::string problem_of(const TensorProduct& product, bool can_be_staged) {
    std::string text = fmt::format("{}{} {} x {} x {}", to_string(product.type),
                                   product.exact ? " exact" : "", product.m, product.n, product.k);
    if (product.windows) {
        const ProductWindows& w = *product.windows;
        text += fmt::format(", windows {}x{}x{}x{} {}x{} /{},{} :{},{}", w.images, w.channels,
                            w.height, w.width, w.kernel_height, w.kernel_width, w.stride_y,
                            w.stride_x, w.dilation_y, w.dilation_x);
    }
    if (product.statistics != RowStatistics::None)
        text += product.statistics == RowStatistics::Variance ? ", rows by mean and variance"
                                                              : ", rows by mean square";
    if (product.given_parts > 0) text += fmt::format(" of {} parts", product.given_parts);
    if (product.gives_rows()) text += ", statistics of rows";
    if (product.also)
        text += fmt::format(", also {}x{}x{} /{},{}", product.also->channels, product.also->height,
                            product.also->width, product.also->stride_y, product.also->stride_x);
    if (product.partner > 0) text += fmt::format(", columns {} apart meet", product.partner);
    return text + fmt::format(", {} bytes{}{}{}", product.y_bytes,
                              product.halves == 2 ? " of halves" : "",
                              product.before ? " added" : "", can_be_staged ? ", staged" : "");
}

ProductTiles choose_tiles(const TensorProduct& product, const DeviceProperties& device,
                          bool can_be_staged, const PlanOptions& options) {
    if (forced_tiles()) {
        ProductTiles tiles = *forced_tiles();
        tiles.staged = tiles.staged && can_be_staged;
        return tiles;
    }
    // What a norm loses that is not given statistics.
    constexpr double missed = 1.5 * clocks_in_us;
    TensorProduct trial = product;
    std::vector<std::pair<double, ProductTiles>> all;
    for (const bool staged : {false, true}) {
        if (staged && !can_be_staged) continue;
        for (const ProductTiles& tiles : sensible_tiles(product, device, staged)) {
            trial.tiles = tiles;
            const bool wanted = product.norm_rows > 0 && (product.gives_rows() || tiles.winograd);
            const bool misses = wanted && trial.why_no_parts();
            all.emplace_back(clocks_of(product, tiles, device) + (misses ? missed : 0), tiles);
        }
    }
    if (all.empty()) return {};
    std::ranges::stable_sort(all, {}, [](const auto& entry) { return entry.first; });
    if (const auto said = options.tiles_of.find(problem_of(product, can_be_staged));
        said != options.tiles_of.end())
        for (const auto& [clocks, tiles] : all)
            if (to_string(tiles) == said->second) return tiles;
    return all[std::min(options.tiles, all.size() - 1)].second;
}

}  // namespace kn::cuda
