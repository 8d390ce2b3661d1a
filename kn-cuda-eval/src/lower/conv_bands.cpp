#include "lower/conv_bands.h"

#include <algorithm>

#include <fmt/core.h>

#include "lower/channel_chunks.h"
#include "lower/conv.h"
#include "lower/library.h"
#include "lower/lower.h"
#include "lower/product_epilogue.h"
#include "lower/product_tiles.h"
#include "lower/tensor_product.h"
#include "planner/ceil_div.h"
#include "planner/merge_products.h"

namespace kn::cuda {

namespace {

// In clocks of 1650 MHz, fitted to 15 measurements of bands by the copy engine and 4 by threads on
// an H200, 1.5 % off on average.
struct BandCosts {
    double start = 2870;        ///< until the first copies
    double weight_bytes = 889;  ///< that all blocks together get in a clock: they want the same
    double load = 24, load_bytes = 12.6;  ///< of a band, and bytes of it that come in a clock
    double multiply = 1.07;               ///< of a step, for each clock at the tensor cores' rate
    double turn = 37;                     ///< of a turn's change
    double finish = 3.9;                  ///< of a pixel's sums
};
constexpr BandCosts filled_by_engine;
constexpr BandCosts filled_by_threads = {.load = 300, .load_bytes = 8.3};

// What memory has to give and take, without the weights.
double bytes_of(const ConvBands& conv) {
    const ProductWindows& w = conv.windows;
    return static_cast<double>(size_of(conv.type)) * static_cast<double>(w.images) *
           static_cast<double>(w.height * w.width * w.channels + w.rows * w.columns * conv.n);
}

// The same on the kernel that copies windows one by one, in its best tiles.
double clocks_of_windows(const ConvBands& conv, const DeviceProperties& device) {
    TensorProduct product;
    product.type = conv.type;
    product.y_bytes = static_cast<int>(conv.bytes());
    product.windows = conv.windows;
    product.m = conv.windows.images * conv.windows.rows * conv.windows.columns;
    product.n = conv.n;
    product.k = conv.windows.kernel_height * conv.windows.kernel_width * conv.windows.channels;
    product.tiles = choose_tiles(product, device, true);
    return clocks_of(product, product.tiles, device);
}

bool fits(const ConvBands& conv, const DeviceProperties& device) {
    if (conv.why_not() || conv.shared_bytes() > device.shared_per_block_optin) return false;
    constexpr int registers = 65536, most_of_one = 255, others = 44, eight = 8;
    const int each = std::min(most_of_one, registers / conv.threads()) / eight * eight;
    return conv.threads() <= 1024 && conv.sums() + others <= each;
}

ConvBands problem_of(const Graph& graph, Value value) {
    const auto& conv = *graph.get_if<op::Conv>(value);
    ConvBands problem;
    problem.type = data_type(graph.dtype(value)).value();
    problem.windows = windows_of(graph, conv, value);
    problem.n = graph.shape(conv.w).to_ints()[0];
    return problem;
}

// x [N, C, H, W] where the kernel can read it: 16 bytes of channels at once.
TensorRef image_of(Placement& placement, Value value) {
    const auto suits = [&](const TensorRef& x) {
        const auto chunk = static_cast<std::int64_t>(16 / size_of(x.dtype));
        return x.strides[1] == 1 && x.strides[0] % chunk == 0 && x.strides[2] % chunk == 0 &&
               x.strides[3] % chunk == 0 && x.strides[0] >= 0 && x.strides[2] >= 0 &&
               x.strides[3] > 0 && alignment_of(placement.plan(), x) >= 16;
    };
    const auto view = placement.view(value);
    return view && suits(*view) ? *view : placement.copy_of(value, channels_last_order(4));
}

// The figures are measured on an H200 (tests/bench/products.cpp).
std::optional<std::string> why_slower(const ConvBands& conv, const DeviceProperties& device) {
    ConvBands best = conv;
    const auto tiles = sensible_tiles(conv, device);
    if (tiles.empty()) return "bands do not fit shared memory beside the weights";
    best.tiles = tiles[0];
    // So that models may err.
    constexpr double margin = 1.1;
    const double windows = clocks_of_windows(conv, device), bands = clocks_of(best, device);
    if (windows < margin * bands)
        return fmt::format("{:.0f} clocks by bands are no less than {:.0f} by windows", bands,
                           windows);
    return std::nullopt;
}

}  // namespace

double clocks_of(const ConvBands& conv, const DeviceProperties& device) {
    const BandCosts& costs = conv.by_engine() ? filled_by_engine : filled_by_threads;
    const auto pixels = static_cast<double>(conv.pixels());
    const double multiply = costs.multiply * static_cast<double>(conv.steps()) * pixels / 2;
    const double finish = costs.finish * pixels;
    const auto band_bytes = static_cast<double>(conv.lines() * conv.line() * conv.windows.channels *
                                                static_cast<std::int64_t>(size_of(conv.type)));
    const double load = costs.load + band_bytes / costs.load_bytes;

    const Dim3 grid = conv.grid(device.sm_count);
    const std::int64_t rounds = ceil_div(conv.bands(), std::int64_t{grid.x});
    const auto groups = static_cast<double>(std::min<std::int64_t>(rounds, conv.tiles.groups));
    const double round = std::max({multiply + costs.turn, (multiply + finish) / groups, load});
    const double weights =
        static_cast<double>(conv.weight_bytes()) * grid.x * grid.y / costs.weight_bytes;
    const double work = load + static_cast<double>(rounds - 1) * round + multiply + finish;
    // As for other products, more of what overlaps takes a little longer.
    constexpr double memory_bytes = 2400, meeting = 0.05;
    const double memory = bytes_of(conv) / memory_bytes;
    return costs.start + weights + std::max(work, memory) + meeting * std::min(work, memory);
}

std::vector<BandTiles> sensible_tiles(ConvBands conv, const DeviceProperties& device) {
    struct Found {
        BandTiles tiles;
        std::pair<bool, double> rank;
    };
    std::vector<Found> found;
    const auto consider = [&](const BandTiles& tiles) {
        conv.tiles = tiles;
        if (!fits(conv, device)) return;
        // Many products of fewer columns were not measured; of float32 more do not fit.
        const std::int64_t few = conv.type == DataType::F32 ? 56 : 112;
        found.push_back({tiles, {conv.pixels() < few, clocks_of(conv, device)}});
    };
    // Of bands that threads fill, small ones, and many of them, were measured as the best.
    const bool engine = conv.by_engine();
    const int most_pixels = engine ? 256 : 128, most_groups = engine ? 3 : 2;
    const int fewest_stages = engine ? 2 : 4;
    const std::int64_t most_rows = std::min<std::int64_t>(engine ? 256 : 2, conv.windows.rows);
    BandTiles tiles;
    for (std::int64_t parts = 1; parts <= conv.windows.columns; ++parts) {
        tiles.columns = static_cast<int>(ceil_div(conv.windows.columns, parts));
        if (parts > 1 && tiles.columns == ceil_div(conv.windows.columns, parts - 1)) continue;
        if (parts > 1 && tiles.columns < 8) break;
        for (tiles.rows = 1; tiles.rows <= most_rows; ++tiles.rows) {
            conv.tiles = tiles;
            if (conv.pixels() > most_pixels) break;
            for (tiles.groups = 1; tiles.groups <= most_groups; ++tiles.groups)
                // The fewer bands there are, the more often a group waits for its next one.
                for (tiles.stages = 4; tiles.stages >= std::max(fewest_stages, tiles.groups);
                     --tiles.stages)
                    consider(tiles);
        }
    }
    std::ranges::stable_sort(found, {}, &Found::rank);
    std::vector<BandTiles> result;
    for (const Found& each : found) result.push_back(each.tiles);
    return result;
}

std::string to_string(const BandTiles& tiles) {
    return fmt::format("{} groups, {} bands of {}x{} outputs", tiles.groups, tiles.stages,
                       tiles.rows, tiles.columns);
}

std::optional<BandTiles>& forced_band_tiles() {
    static thread_local std::optional<BandTiles> tiles;
    return tiles;
}

std::optional<std::string> why_no_conv_bands(const Grouping& grouping, Value value, DType y) {
    const Graph& graph = grouping.graph();
    if (grouping.device().compute() != 90) return "the device is none of Hopper's";
    const DType dtype = graph.dtype(value);
    if (!uses_tensor_cores(grouping.options(), dtype) || y != dtype)
        return "it is not of one type that tensor cores multiply as it is";
    if (constant_parts(graph, graph.get_if<op::Conv>(value)->w).empty())
        return "the second operand is no weight";
    const ConvBands problem = problem_of(graph, value);
    if (auto why = problem.why_never()) return why;
    if (forced_band_tiles()) return std::nullopt;
    if (forced_tiles()) return "tiles of another kernel are asked for";
    if (auto why = why_library_product(grouping, value, {})) return why;
    return why_slower(problem, grouping.device());
}

void lower_conv_bands(Placement& placement, const Group& group) {
    const Graph& graph = placement.graph();
    const DeviceProperties& device = placement.plan().device;
    ConvBands conv = problem_of(graph, group.anchor);
    conv.tiles = forced_band_tiles() ? *forced_band_tiles() : sensible_tiles(conv, device).at(0);
    if (const auto why = conv.why_not()) throw GraphError("convolution: " + *why);

    const TensorRef x = image_of(placement, group.roles.at("x"));
    conv.windows.image_stride = x.strides[0];
    conv.windows.line_stride = x.strides[2];
    conv.windows.pixel_stride = x.strides[3];
    const TensorRef w =
        placement.constant(group.roles.at("w"), graph.dtype(group.anchor), {0, 2, 3, 1},
                           tensor_core_part(graph.dtype(group.anchor)));
    KernelDraft draft;
    draft.name = "tensor_conv_bands";
    draft.arch = "sm_90a";
    const std::string px = draft.operands.pointer(x, Access::Read, "x");
    const std::string pw = draft.operands.pointer(w, Access::Read, "w");
    Code code;
    Emitter emitter(placement, code, draft.operands);
    emitter.computes(group.outputs);
    const TensorRef stored = placement.stored(group.outputs[0]);
    const TensorRef y = channels_innermost(placement, stored, "convolution");
    write_finish_and_give(placement, group, group.outputs[0], draft.operands, emitter, code, y);
    const std::string image = conv.by_engine() ? draft.operands.map(px, conv.map_x()) : px;
    code.line(fmt::format("kn_product({}, {}, finish, give);", image, pw));
    draft.body = code.text();
    draft.helpers = conv_bands_helpers(conv);
    draft.grid = conv.grid(device.sm_count);
    draft.block = {static_cast<unsigned>(conv.threads())};
    draft.blocks_per_sm = 1;
    draft.shared_bytes = conv.shared_bytes();
    draft.compile_ms = 280;
    add_kernel_step(placement, group, draft);
    Step& step = placement.plan().steps.back();
    const ProductSizes sizes = product_sizes(graph, group.anchor);
    step.flops = 2 * sizes.m * sizes.n * sizes.k;
    std::get<KernelWork>(step.work).flops_per_clock = conv.type == DataType::F32 ? 2048 : 4096;
    step.expected_us = clocks_of(conv, device) / clocks_in_us;
    step.reason += ", in " + to_string(conv.tiles);
    if (!(y == stored)) lower_copy(placement, y, stored, "the convolution's layout is another");
}

}  // namespace kn::cuda
