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
    return static_cast<int>(device.sm_count * filled[size]) / cluster * cluster;
}

}  // namespace

// The constants are fitted to 400 measurements on an H200 (tests/bench/products.cpp), made before
// epilogues read several vectors at once; where they choose, the best of those is 0 to 12 % faster,
// once 22 %.
double clocks_of(const TensorProduct& product, const ProductTiles& tiles,
                 const DeviceProperties& device) {
    const double rows = tiles.rows, columns = tiles.columns;
    const double multiply = 0.97 * rows * columns / 32;
    const double shared = 0.87 * (rows / 64 * 4 * (16 + columns / 4) + rows + columns);
    const double waiting_for_others = tiles.share_w == 1 ? 1 : tiles.share_w == 2 ? 1.08 : 1.11;
    const double slab = std::max({multiply, shared, 136.0}) * waiting_for_others;
    const auto slabs = static_cast<double>(ceil_div(product.slabs(), tiles.splits));
    constexpr double start = 1420;
    const double end =
        (2100 + 25 * rows * columns / (tiles.groups * 64)) * (tiles.splits > 1 ? 1.62 : 1);

    const int cluster = tiles.share_w * tiles.splits;
    const std::int64_t blocks = ceil_div(product.m, tiles.rows * tiles.share_w) * tiles.share_w *
                                ceil_div(product.n, tiles.columns) * tiles.splits;
    const std::int64_t on_one = ceil_div(blocks, blocks_at_once(device, cluster));
    const auto rounds = static_cast<double>(on_one);
    if (tiles.blocks == 1 || on_one == 1) return start + rounds * (slabs * slab + end);
    // Ends are hidden behind the others' products.
    return start + rounds * slabs * slab * 1.23 +
           static_cast<double>(ceil_div(on_one, tiles.blocks)) * end;
}

std::vector<ProductTiles> sensible_tiles(const TensorProduct& product,
                                         const DeviceProperties& device, bool staged) {
    std::vector<ProductTiles> result;
    const auto consider = [&](ProductTiles tiles) {
        tiles.staged = staged;
        // Sums of a slab and of all, and rows, are in registers.
        if (product.exact && (tiles.rows != 64 * tiles.groups || tiles.columns > 128)) return;
        if (tiles.splits > (staged ? 1 : product.slabs())) return;
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
                for (const int share : {1, 2, 4})
                    consider({.rows = rows,
                              .columns = columns,
                              .groups = groups,
                              .blocks = blocks,
                              .share_w = share});
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
    return fmt::format("{}x{}{}{}{}{} {} stages", tiles.rows, tiles.columns,
                       tiles.staged ? " staged" : "",
                       tiles.blocks > 1 ? fmt::format(" {} a multiprocessor", tiles.blocks) : "",
                       tiles.share_w > 1 ? fmt::format(" in {}s", tiles.share_w) : "",
                       tiles.splits > 1 ? fmt::format(" k in {}", tiles.splits) : "", tiles.stages);
}

ProductTiles choose_tiles(const TensorProduct& product, const DeviceProperties& device) {
    if (forced_tiles()) return *forced_tiles();
    ProductTiles best;
    double least = std::numeric_limits<double>::infinity();
    for (const ProductTiles& tiles : sensible_tiles(product, device)) {
        const double clocks = clocks_of(product, tiles, device);
        if (clocks >= least) continue;
        least = clocks;
        best = tiles;
    }
    return best;
}

}  // namespace kn::cuda
