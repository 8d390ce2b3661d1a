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
        if (tiles.columns % tiles.chunk != 0) continue;
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

// What the model says in clocks, of products with one kind of epilogue.
struct Costs {
    double multiply;      ///< of a slab, for each clock at the tensor cores' rate
    double shared;        ///< of a slab, for each clock at shared memory's rate
    double slab;          ///< the least for one
    double pair, four;    ///< factors where two and four blocks wait for each other's w
    double start;         ///< until the first products, and behind the last
    double end;           ///< of a tile: what its epilogue takes at least,
    double piece;         ///< for each 64 rows of a group behind the first ones,
    double sum;           ///< for each sum of a thread
    double before_piece;  ///< and what comes to these where it reads a tensor like y
    double before_sum;
    double splits;           ///< factor of the end where k is split
    double beside;           ///< factor of products beside another block's
    double end_beside;       ///< factor of ends that are hidden behind those
    double bytes_per_clock;  ///< of the device's memory
};

// Fitted to 900 measurements on an H200 (tests/bench/products.cpp); where they choose, the best
// that was measured is 1 % faster on average, at most 10 %.
constexpr Costs direct = {.multiply = 1.014,
                          .shared = 0.9,
                          .slab = 67,
                          .pair = 1.121,
                          .four = 1.021,
                          .start = 3453,
                          .end = 1140,
                          .piece = 369,
                          .sum = 14.6,
                          .before_piece = 305,
                          .before_sum = 7.0,
                          .splits = 4.77,
                          .beside = 0.966,
                          .end_beside = 2.11,
                          .bytes_per_clock = 2420};
constexpr Costs staged = {.multiply = 1.081,
                          .shared = 0.88,
                          .slab = 89,
                          .pair = 1.118,
                          .four = 1.224,
                          .start = 2615,
                          .end = 519,
                          .piece = 1033,
                          .sum = 10.4,
                          .before_piece = 383,
                          .before_sum = 7.2,
                          .splits = 1,
                          .beside = 1.171,
                          .end_beside = 1.446,
                          .bytes_per_clock = 2920};
constexpr Costs exact = {.multiply = 3.35,
                         .shared = 2.59,
                         .slab = 572,
                         .pair = 0.995,
                         .four = 1.055,
                         .start = 1592,
                         .end = 848,
                         .piece = 0,
                         .sum = 27.9,
                         .before_piece = 0,
                         .before_sum = 22.9,
                         .splits = 1.8,
                         .beside = 1.131,
                         .end_beside = 2.09,
                         .bytes_per_clock = 1744};

// What memory has to give and take, without the weights.
double bytes_of(const TensorProduct& product) {
    const auto element = static_cast<double>(size_of(product.type));
    const auto& windows = product.windows;
    const double x = windows ? static_cast<double>(windows->images * windows->height *
                                                   windows->width * windows->channels)
                             : static_cast<double>(product.m * product.k);
    const auto y = static_cast<double>(product.m * product.n);
    return element * (x + y * (product.before ? 2 : 1));
}

}  // namespace

double clocks_of(const TensorProduct& product, const ProductTiles& tiles,
                 const DeviceProperties& device) {
    const Costs& costs = product.exact ? exact : tiles.staged ? staged : direct;
    const double rows = tiles.rows, columns = tiles.columns;
    const double multiply = costs.multiply * rows * columns / 32;
    const double shared = costs.shared * (rows / 64 * 4 * (16 + columns / 4) + rows + columns);
    const double waiting_for_others = tiles.share_w == 1   ? 1
                                      : tiles.share_w == 2 ? costs.pair
                                                           : costs.four;
    const double slab = std::max({multiply, shared, costs.slab}) * waiting_for_others;
    const auto slabs = static_cast<double>(ceil_div(product.slabs(), tiles.splits));
    const double pieces = tiles.rows / 64 / tiles.groups;
    const double sums = pieces * columns;
    const double end =
        (costs.end + (pieces - 1) * costs.piece + sums * costs.sum +
         (product.before ? (pieces - 1) * costs.before_piece + sums * costs.before_sum : 0)) *
        (tiles.splits > 1 ? costs.splits : 1);

    const int cluster = tiles.share_w * tiles.splits;
    const std::int64_t blocks = ceil_div(product.m, tiles.rows * tiles.share_w) * tiles.share_w *
                                ceil_div(product.n, tiles.columns) * tiles.splits;
    const std::int64_t on_one = ceil_div(blocks, blocks_at_once(device, cluster));
    const auto rounds = static_cast<double>(on_one);
    const double work =
        tiles.blocks == 1 || on_one == 1
            ? rounds * (slabs * slab + end)
            : rounds * slabs * slab * costs.beside +
                  static_cast<double>(ceil_div(on_one, tiles.blocks)) * end * costs.end_beside;
    return costs.start + std::max(work, bytes_of(product) / costs.bytes_per_clock);
}

std::vector<ProductTiles> sensible_tiles(const TensorProduct& product,
                                         const DeviceProperties& device, bool staged) {
    std::vector<ProductTiles> result;
    const auto consider = [&](ProductTiles tiles) {
        tiles.staged = staged;
        // Sums of a slab and of all, and rows, are in registers.
        if (product.exact && (tiles.rows != 64 * tiles.groups || tiles.columns > 128)) return;
        if (tiles.splits > (staged ? 1 : product.slabs())) return;
        if (staged && tiles.columns % (64 * product.halves) != 0) return;
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
            if (tiles.turns) continue;
            const double clocks = clocks_of(product, tiles, device);
            if (clocks >= least) continue;
            least = clocks;
            best = tiles;
        }
    }
    return best;
}

}  // namespace kn::cuda
