#include "lower/few_channels_pool.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/core.h>

#include "codegen/emit.h"
#include "lower/channel_chunks.h"
#include "lower/few_channels.h"
#include "lower/library.h"
#include "lower/lower.h"
#include "planner/ceil_div.h"
#include "rules/epilogue.h"

namespace kn::cuda {

namespace {

constexpr int fewest_registers = 40;  // of a thread that loads

bool fits(const FewChannelsPool& conv, const DeviceProperties& device) {
    return conv.shared_bytes() <= device.shared_per_block_optin && conv.threads() <= 1024 &&
           conv.registers().loader >= fewest_registers && !conv.why_not();
}

FewChannelsPool problem_of(const Graph& graph, Value conv, const PlanOptions& options,
                           const PoolWindows& pool, DType y) {
    FewChannelsPool problem;
    problem.conv = few_channels_of(graph, conv, options);
    problem.pool = pool;
    problem.y_type = data_type(y).value();
    return problem;
}

}  // namespace

std::optional<MaxPool> max_pool_of(const Graph& graph, Value end) {
    const auto* reduce = graph.get_if<op::Reduce>(end);
    if (!reduce || reduce->op != ReduceOp::Max || reduce->axes != Ints{4, 5}) return std::nullopt;
    const auto* window = graph.get_if<op::Window>(reduce->x);
    if (!window || window->axes != Ints{2, 3} || window->dilations != Ints{1, 1} ||
        graph.shape(window->x).rank() != 4)
        return std::nullopt;
    MaxPool pool;
    pool.x = window->x;
    pool.between = {reduce->x};
    const Ints y = graph.shape(end).to_ints();
    pool.windows = {.rows = y[2],
                    .columns = y[3],
                    .height = window->sizes[0].value(),
                    .width = window->sizes[1].value(),
                    .stride_y = window->strides[0],
                    .stride_x = window->strides[1]};
    const auto* pad = graph.get_if<op::Pad>(window->x);
    if (!pad) return pool;
    const double lowest = -std::numeric_limits<double>::infinity();
    if (pad->mode != PadMode::Constant || !pad->value ||
        uniform_constant(graph, *pad->value) != lowest)
        return std::nullopt;
    for (const std::size_t axis : {0, 1})
        if (pad->before[axis].value() != 0 || pad->after[axis].value() != 0) return std::nullopt;
    pool.between.push_back(window->x);
    pool.x = pad->x;
    pool.windows.pad_y = pad->before[2].value();
    pool.windows.pad_x = pad->before[3].value();
    return pool;
}

double clocks_of(const FewChannelsPool& conv, const DeviceProperties& device) {
    const FewChannelPoolTiles& tiles = conv.tiles;
    const FewChannels bands = conv.banded();
    const double columns = tiles.columns, groups = tiles.groups;
    const bool half = conv.y_type != DataType::F32;
    // A row of outputs by one group alone: the tensor cores, or what they read of shared memory
    // beside others; then the epilogue, and its part of a row of windows.
    const double multiply =
        static_cast<double>(bands.steps()) * std::max(columns / 2, 1.3 * (16 + columns / 4));
    const double finish = 150 + columns * (half ? 2.2 : 3.0);
    const auto chunks = static_cast<double>(conv.strip_columns()) * (half ? 8 : 16);
    const double windows =
        250 + std::ceil(chunks / 128) * 20 * static_cast<double>(conv.pool.width);
    const double alone = multiply + finish + windows / static_cast<double>(conv.pool.stride_y);

    const double cells = static_cast<double>(bands.line_bytes() * bands.band_rows()) / 16;
    const double loads =
        static_cast<double>(conv.ahead() * bands.taps() * conv.conv.windows.channels);
    const double load = std::ceil(cells / (128 * conv.ahead())) * (700 + 36 * loads);

    const std::int64_t all = conv.segments() * conv.filter_tiles();
    const auto rounds = static_cast<double>(ceil_div(all, device.sm_count * tiles.groups));
    const double together = std::min(groups, static_cast<double>(ceil_div(all, device.sm_count)));
    const auto rows = static_cast<double>(conv.rows_of_segment());
    const double bands_of_segment = std::ceil(rows / tiles.band_rows);
    const double band_rows = rows / bands_of_segment;
    const double shared = band_rows * together * multiply, own = band_rows * alone;
    const double all_bands = rounds * bands_of_segment;
    const double band = tiles.stages > 1 ? std::max({shared, own, load})
                                         : std::max(shared, own + load * (1 - 1 / all_bands));
    // The more threads and memory, the later a block begins.
    const double start = 5000 + 50 * groups + 10 * tiles.stages;
    constexpr double next_band = 700;
    return start + load + all_bands * (band + next_band) + finish + windows;
}

std::vector<FewChannelPoolTiles> sensible_tiles(FewChannelsPool conv,
                                                const DeviceProperties& device) {
    std::vector<std::pair<double, FewChannelPoolTiles>> found;
    const std::int64_t across = ceil_div(conv.conv.windows.columns, 8) * 8;
    FewChannelPoolTiles tiles;
    const auto each_segment = [&] {
        std::int64_t last = 0;
        for (std::int64_t parts = 1; parts <= conv.pool.rows; ++parts) {
            const std::int64_t rows = ceil_div(conv.pool.rows, parts);
            if (rows == last) continue;
            last = rows;
            tiles.segment_rows = static_cast<int>(rows);
            conv.tiles = tiles;
            found.emplace_back(clocks_of(conv, device), tiles);
        }
    };
    std::int64_t last_strip = 0;
    for (std::int64_t columns = std::min<std::int64_t>(across, 256); columns >= 8; columns -= 8) {
        tiles.columns = static_cast<int>(columns);
        conv.tiles = tiles;
        if (conv.strip_columns() < 1) break;
        // Of strips of equal number, the narrowest.
        const std::int64_t strips = ceil_div(conv.pool.columns, conv.strip_columns());
        tiles.columns = static_cast<int>(columns - 8);
        conv.tiles = tiles;
        if (columns > 8 && conv.strip_columns() >= 1 &&
            ceil_div(conv.pool.columns, conv.strip_columns()) == strips)
            continue;
        if (strips == last_strip) continue;
        last_strip = strips;
        tiles.columns = static_cast<int>(columns);
        for (tiles.groups = 1; tiles.groups <= 4; ++tiles.groups)
            for (tiles.stages = 1; tiles.stages <= 2; ++tiles.stages)
                for (const int rows : {1, 2, 3, 4, 5, 6, 8, 12, 16}) {
                    tiles.band_rows = rows;
                    tiles.segment_rows = 1;
                    conv.tiles = tiles;
                    if (fits(conv, device)) each_segment();
                }
    }
    std::ranges::stable_sort(found, {}, [](const auto& each) { return each.first; });
    std::vector<FewChannelPoolTiles> result;
    for (const auto& [clocks, each] : found) result.push_back(each);
    return result;
}

std::string to_string(const FewChannelPoolTiles& tiles) {
    return fmt::format("{} groups, {} bands of {}x{} outputs, segments of {} rows", tiles.groups,
                       tiles.stages, tiles.band_rows, tiles.columns, tiles.segment_rows);
}

std::optional<FewChannelPoolTiles>& forced_few_channel_pool_tiles() {
    static thread_local std::optional<FewChannelPoolTiles> tiles;
    return tiles;
}

std::optional<std::string> why_no_few_channels_pool(const Grouping& grouping, Value value,
                                                    const PoolWindows& pool, DType y) {
    if (y != DType::F32 && !is_half(y)) return "the pool is of another type";
    if (!forced_few_channel_pool_tiles())
        if (auto why = why_no_few_channels(grouping, value)) return why;
    const FewChannelsPool conv = problem_of(grouping.graph(), value, grouping.options(), pool, y);
    if (auto why = conv.why_never()) return why;
    if (forced_few_channel_pool_tiles()) return std::nullopt;
    if (conv.filter_tiles() * 64 * 3 > conv.conv.n * 4)
        return fmt::format("of the 64 filters of a product, {} would be empty",
                           conv.filter_tiles() * 64 - conv.conv.n);
    if (sensible_tiles(conv, grouping.device()).empty())
        return "a strip of the image does not fit shared memory beside the weights";
    return std::nullopt;
}

void lower_few_channels_pool(Placement& placement, const Group& group) {
    const Graph& graph = placement.graph();
    const DeviceProperties& device = placement.plan().device;
    const MaxPool pool = max_pool_of(graph, group.outputs.at(0)).value();
    FewChannelsPool conv = problem_of(graph, group.anchor, placement.plan().options, pool.windows,
                                      graph.dtype(pool.x));
    conv.tiles = forced_few_channel_pool_tiles() ? *forced_few_channel_pool_tiles()
                                                 : sensible_tiles(conv, device).at(0);
    if (const auto why = conv.why_not()) throw GraphError("convolution and max pool: " + *why);

    KernelDraft draft;
    draft.name = "tensor_conv_few_pool";
    draft.arch = "sm_90a";
    const TensorRef w =
        placement.constant(group.roles.at("w"), graph.dtype(group.anchor), {2, 3, 1, 0});
    const std::string pw = draft.operands.pointer(w, Access::Read, "w");
    Code code;
    Emitter emitter(placement, code, draft.operands);
    emitter.computes(group.outputs);
    write_pixel(emitter, code, conv.conv.windows, group.roles.at("image"));
    const TensorRef stored = placement.stored(group.outputs[0]);
    const TensorRef y = channels_innermost(placement, stored, "pooled");
    write_finish_and_give(placement, group, group.roles.at("pooled"), draft.operands, emitter, code,
                          y);
    code.line(fmt::format("kn_product(pixel, {}, finish, give);", pw));
    draft.body = code.text();
    draft.helpers = few_channels_pool_helpers(conv);
    draft.grid = conv.grid(device.sm_count);
    draft.block = {static_cast<unsigned>(conv.threads())};
    draft.blocks_per_sm = 1;
    draft.shared_bytes = conv.shared_bytes();
    draft.compile_ms = 280;
    add_kernel_step(placement, group, draft);
    Step& step = placement.plan().steps.back();
    count_flops(graph, group, conv.conv, step);
    step.reason += ", in " + to_string(conv.tiles);
    if (!(y == stored)) lower_copy(placement, y, stored, "the pool's layout is another");
}

}  // namespace kn::cuda
