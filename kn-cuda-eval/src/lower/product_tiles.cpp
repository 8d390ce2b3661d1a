#include "lower/product_tiles.h"

#include <algorithm>
#include <limits>

#include <fmt/core.h>

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
    for (tiles.chunk = 64; tiles.chunk >= (tiles.staged ? 64 : 16); tiles.chunk /= 2) {
        if (!tiles.staged && tiles.columns % tiles.chunk != 0) continue;
        for (tiles.stages = useful; tiles.stages >= enough; --tiles.stages) {
            trial.tiles = tiles;
            if (trial.shared_bytes() <= room) return tiles;
        }
    }
    tiles.stages = 0;
    return tiles;
}

// Blocks of clusters that fit the device at once: processors come in groups that clusters do not
// fill. How far they do is the fit's, from the rounds that measured times show.
int blocks_at_once(const DeviceProperties& device, int cluster) {
    constexpr double filled[] = {1, 1, 0.91, 0.85};
    const int size = cluster >= 8 ? 3 : cluster >= 4 ? 2 : cluster - 1;
    const int blocks = static_cast<int>(device.sm_count * filled[size]) / cluster * cluster;
    return std::max(blocks, cluster);
}

// What the model says in clocks.
struct ProductCosts {
    double multiply;    ///< of a slab, for each clock at the tensor cores' rate
    double shared;      ///< of a slab, for each clock at shared memory's rate
    double l2_bytes;    ///< that come from L2 in a clock
    double slab;        ///< the least for one
    double pair, four;  ///< factors where two and four blocks wait for each other's w
    double start;       ///< until the first products, and behind the last
    double beside;      ///< factor of products beside another block's
    double bytes;       ///< that the device's memory gives or takes in a clock
};
struct EpilogueCosts {
    double tile;      ///< at least
    double piece;     ///< for each strip of rows behind the first one,
    double sum;       ///< for two bytes of y a thread,
    double before;    ///< and for those of a tensor like y
    double splits;    ///< factor where k is split
    double beside;    ///< factor where other blocks hide it
    double turn;      ///< of a turn's change
    double in_turns;  ///< factor of all where groups take turns
};

// Fitted to 1100 measurements on an H200 (tests/bench/products.cpp), in clocks of 1650 MHz; where
// they choose, the best that was measured is 1 % faster on average, at most 11 %.
constexpr ProductCosts plain = {.multiply = 1.14,
                                .shared = 0.996,
                                .l2_bytes = 254,
                                .slab = 91,
                                .pair = 1.079,
                                .four = 1.119,
                                .start = 2761,
                                .beside = 1.03,
                                .bytes = 2291};
constexpr ProductCosts beside_copies = {.multiply = 1.129,
                                        .shared = 0.902,
                                        .l2_bytes = 68.2,
                                        .slab = 130,
                                        .pair = 1.108,
                                        .four = 1.63,
                                        .start = 3200,
                                        .beside = 1.215,
                                        .bytes = 2572};
constexpr ProductCosts exact = {.multiply = 3.295,
                                .shared = 2.57,
                                .l2_bytes = 23.4,
                                .slab = 583,
                                .pair = 0.999,
                                .four = 1.071,
                                .start = 1749,
                                .beside = 1.138,
                                .bytes = 2572};
constexpr EpilogueCosts direct = {.tile = 482,
                                  .piece = 164,
                                  .sum = 12.3,
                                  .before = 9.8,
                                  .splits = 3.08,
                                  .beside = 2.92,
                                  .turn = 0,
                                  .in_turns = 1};
constexpr EpilogueCosts direct_exact = {.tile = 9,
                                        .piece = 218,
                                        .sum = 18,
                                        .before = 12,
                                        .splits = 2,
                                        .beside = 2.27,
                                        .turn = 0,
                                        .in_turns = 1};
constexpr EpilogueCosts staged = {.tile = 528,
                                  .piece = 530,
                                  .sum = 8.16,
                                  .before = 4.7,
                                  .splits = 1,
                                  .beside = 1.017,
                                  .turn = 917,
                                  .in_turns = 1.281};

// What memory has to give and take, without the weights.
double bytes_of(const TensorProduct& product) {
    const auto& windows = product.windows;
    const double x = windows ? static_cast<double>(windows->images * windows->height *
                                                   windows->width * windows->channels)
                             : static_cast<double>(product.m * product.k);
    const auto y = static_cast<double>(product.m * product.n / product.halves);
    return static_cast<double>(size_of(product.type)) * x +
           static_cast<double>(product.y_bytes) * y * (product.before ? 2 : 1);
}

// Of a slab of the tile.
double slab_clocks(const ProductCosts& costs, const ProductTiles& tiles) {
    const double rows = tiles.rows, columns = tiles.columns;
    const double multiply = costs.multiply * rows * columns / 32;
    const double shared = costs.shared * (rows / 64 * 4 * (16 + columns / 4) + rows + columns);
    const double copied = (rows + columns / tiles.share_w) * 128 / costs.l2_bytes;
    const double waiting_for_others = tiles.share_w == 1   ? 1
                                      : tiles.share_w == 2 ? costs.pair
                                                           : costs.four;
    return std::max({multiply, shared, copied, costs.slab}) * waiting_for_others;
}

// Of a tile's epilogue, by itself.
double epilogue_clocks(const EpilogueCosts& costs, const TensorProduct& product,
                       const ProductTiles& tiles) {
    const double strips = tiles.group_rows() / 64 * (product.y_bytes == 4 ? 2 : 1);
    const double sums = tiles.group_rows() / 64 * tiles.columns * product.y_bytes / 2.0;
    return (costs.tile + (strips - 1) * costs.piece +
            sums * (costs.sum + (product.before ? costs.before : 0))) *
           (tiles.splits > 1 ? costs.splits : 1);
}

}  // namespace

double clocks_of(const TensorProduct& product, const ProductTiles& tiles,
                 const DeviceProperties& device) {
    const ProductCosts& costs = product.exact ? exact : tiles.staged ? beside_copies : plain;
    const EpilogueCosts& ends = tiles.staged ? staged : product.exact ? direct_exact : direct;
    const double multiply =
        slab_clocks(costs, tiles) * static_cast<double>(ceil_div(product.slabs(), tiles.splits));
    const double end = epilogue_clocks(ends, product, tiles);

    const int cluster = tiles.share_w * tiles.splits;
    const std::int64_t blocks = ceil_div(product.m, tiles.rows * tiles.share_w) * tiles.share_w *
                                ceil_div(product.n, tiles.columns) * tiles.splits;
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
        if (staged && tiles.columns % (product.panel() * product.halves) != 0) return;
        if (product.halves == 2 && !staged) return;
        tiles = with_stages(product, tiles, device);
        if (tiles.stages > 0) result.push_back(tiles);
    };
    for (const int rows : {64, 128, 256}) {
        const int groups = rows == 64 ? 1 : 2;
        for (const int columns : {256, 192, 160, 128, 96, 80, 64, 48, 32}) {
            // The sums of a thread have to fit its registers; and few columns may be none of y's.
            if (rows * columns > 128 * 256) continue;
            if (ceil_div(product.n, columns) * columns * 8 > product.n * 9 && columns > 32)
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
            for (const int splits : {2, 4, 8})
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
    return fmt::format("{}x{}{}{}{}{}{} {} stages", tiles.rows, tiles.columns,
                       tiles.turns ? " in turns" : "", tiles.staged ? " staged" : "",
                       tiles.blocks > 1 ? fmt::format(" {} a multiprocessor", tiles.blocks) : "",
                       tiles.share_w > 1 ? fmt::format(" in {}s", tiles.share_w) : "",
                       tiles.splits > 1 ? fmt::format(" k in {}", tiles.splits) : "", tiles.stages);
}

ProductTiles choose_tiles(const TensorProduct& product, const DeviceProperties& device,
                          bool can_be_staged) {
    if (forced_tiles()) {
        ProductTiles tiles = *forced_tiles();
        tiles.staged = tiles.staged && can_be_staged;
        return tiles;
    }
    ProductTiles best;
    double least = std::numeric_limits<double>::infinity();
    for (const bool staged : {false, true}) {
        if (staged && !can_be_staged) continue;
        for (const ProductTiles& tiles : sensible_tiles(product, device, staged)) {
            const double clocks = clocks_of(product, tiles, device);
            if (clocks >= least) continue;
            least = clocks;
            best = tiles;
        }
    }
    return best;
}

}  // namespace kn::cuda
