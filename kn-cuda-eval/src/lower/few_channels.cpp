#include "lower/few_channels.h"

#include <algorithm>

#include <fmt/core.h>

#include "codegen/emit.h"
#include "lower/conv.h"
#include "lower/library.h"
#include "lower/product_epilogue.h"
#include "planner/ceil_div.h"
#include "planner/merge_products.h"

namespace kn::cuda {

namespace {

// Whether blocks of these tiles fit a multiprocessor, with registers for a thread's sums.
bool fits(const FewChannels& conv, const DeviceProperties& device) {
    const FewChannelTiles& tiles = conv.tiles;
    if (conv.why_not() || conv.shared_bytes() > device.shared_per_block_optin) return false;
    constexpr std::size_t reserved = 1024;  // a block's, by the driver
    if ((conv.shared_bytes() + reserved) * static_cast<std::size_t>(tiles.blocks) >
        device.shared_per_sm)
        return false;
    constexpr int registers = 65536, most_threads = 2048;
    constexpr int others = 44;
    const int threads = conv.threads() * tiles.blocks;
    return conv.threads() <= 1024 && threads <= most_threads &&
           registers / threads / 8 * 8 >= conv.sums() + others;
}

}  // namespace

FewChannels few_channels_of(const Graph& graph, Value value, const PlanOptions& options) {
    const auto& conv = *graph.get_if<op::Conv>(value);
    const DType dtype = graph.dtype(value);
    FewChannels problem;
    problem.type = data_type(dtype).value();
    problem.exact = !uses_tensor_cores(options, dtype);
    problem.windows = windows_of(graph, conv, value);
    problem.n = graph.shape(conv.w).to_ints()[0];
    return problem;
}

double clocks_of(const FewChannels& conv, const DeviceProperties& device) {
    const FewChannelTiles& tiles = conv.tiles;
    const int patches = tiles.patch_rows * tiles.patch_columns;
    const double products = static_cast<double>(conv.steps()) * (conv.exact ? 3 : 1);
    const double filters = tiles.filters, outputs = 64;
    // The tensor cores, or what they read of shared memory; results go through it too.
    const double multiply =
        products * std::max(filters / 4 + outputs / 4, filters * outputs / 128) +
        2 * filters * outputs / 64;
    // A patch by one group alone: sums are waited for, then handed out.
    const double alone = multiply * 1.1 + 300 + 30 * filters * outputs / 64;
    const double cells = static_cast<double>(conv.line_bytes() * conv.band_rows()) / 16;
    const double pixels = static_cast<double>(conv.taps() * conv.windows.channels);
    const double issue = cells * (0.5 + 0.15 * pixels);
    const double load = 800 + cells / 128 * (40 + 60 * pixels);  // by one group, mostly waiting

    const std::int64_t bands = conv.bands() * conv.filter_tiles();
    const std::int64_t on_one = ceil_div(bands, device.sm_count);
    const auto at_once = static_cast<double>(std::min<std::int64_t>(on_one, tiles.blocks));
    const double rounds = static_cast<double>(ceil_div(on_one, tiles.blocks));
    // With the other blocks; groups that are few meet less well.
    const double shared =
        at_once * (patches * multiply + issue) * (1 + 0.25 / (tiles.groups * tiles.blocks));
    const double own = static_cast<double>(ceil_div(patches, tiles.groups)) * alone;
    constexpr double start = 3000, next_band = 300;
    if (rounds == 1) return start + load + std::max(own, shared);
    // Blocks with one band wait for it together more often than not.
    const double round =
        tiles.stages > 1 ? std::max({shared, own, load}) : 1.08 * std::max(shared, own + load);
    return start + load + rounds * (round + next_band);
}

std::vector<FewChannelTiles> sensible_tiles(FewChannels conv, const DeviceProperties& device) {
    std::vector<std::pair<double, FewChannelTiles>> found;
    const auto consider = [&](const FewChannelTiles& tiles) {
        conv.tiles = tiles;
        if (fits(conv, device)) found.emplace_back(clocks_of(conv, device), tiles);
    };
    const auto each_band = [&](FewChannelTiles tiles) {
        const std::int64_t across = ceil_div(conv.windows.columns, 8);
        const std::int64_t down = ceil_div(conv.windows.rows, 8);
        for (std::int64_t parts = 1; parts <= across; ++parts) {
            tiles.patch_columns = static_cast<int>(ceil_div(across, parts));
            if (parts > 1 && tiles.patch_columns == ceil_div(across, parts - 1)) continue;
            for (const int rows : {1, 2}) {
                if (rows > down) continue;
                tiles.patch_rows = rows;
                for (tiles.groups = 1; tiles.groups <= 4; ++tiles.groups)
                    for (tiles.blocks = 1; tiles.blocks <= 4; ++tiles.blocks)
                        for (tiles.stages = 1; tiles.stages <= 2; ++tiles.stages) consider(tiles);
            }
        }
    };
    const std::int64_t most = conv.exact ? 64 : 128;
    const std::int64_t filters = ceil_div(ceil_div(conv.n, ceil_div(conv.n, most)), 8) * 8;
    each_band({.filters = static_cast<int>(filters)});
    std::ranges::stable_sort(found, {}, [](const auto& each) { return each.first; });
    std::vector<FewChannelTiles> tiles;
    for (const auto& [clocks, each] : found) tiles.push_back(each);
    return tiles;
}

std::string to_string(const FewChannelTiles& tiles) {
    return fmt::format("{} groups, {} blocks, {} bands of {}x{} patches, {} filters", tiles.groups,
                       tiles.blocks, tiles.stages, tiles.patch_rows, tiles.patch_columns,
                       tiles.filters);
}

std::optional<FewChannelTiles>& forced_few_channel_tiles() {
    static thread_local std::optional<FewChannelTiles> tiles;
    return tiles;
}

std::optional<std::string> why_no_few_channels(const Grouping& grouping, Value value) {
    const Graph& graph = grouping.graph();
    const auto* conv = graph.get_if<op::Conv>(value);
    if (!conv) return "it is no convolution";
    if (grouping.device().compute() != 90) return "the device is none of Hopper's";
    const DType dtype = graph.dtype(value);
    if (dtype != DType::F32 && !is_half(dtype)) return "it is of another type";
    if (graph.shape(conv->w).rank() != 4) return "it has not two spatial axes";
    if (conv->groups != 1) return "it has groups";
    if (constant_parts(graph, conv->w).empty()) return "the second operand is no weight";
    const FewChannels problem = few_channels_of(graph, value, grouping.options());
    if (auto why = problem.why_never()) return why;
    if (forced_few_channel_tiles()) return std::nullopt;
    const ProductWindows& windows = problem.windows;
    const std::int64_t outputs = windows.images * windows.rows * windows.columns;
    const std::int64_t padded =
        windows.images * ceil_div(windows.rows, 8) * 8 * ceil_div(windows.columns, 8) * 8;
    if (padded > 2 * outputs) return "the result is so thin that most of each 8x8 patch is empty";
    // Another kernel to compile, for microseconds.
    const std::int64_t taps = windows.kernel_height * windows.kernel_width * windows.channels;
    if (2 * outputs * problem.n * taps < 10'000'000) return "it is small";
    // Measured: 2.5 times the error of multiply-adds for 27 terms, 1.1 times for 147.
    constexpr std::int64_t few = 64;
    if (problem.exact && taps < few)
        return fmt::format("{} terms are summed more exactly by multiply-adds", taps);
    if (sensible_tiles(problem, grouping.device()).empty())
        return "a band of the image does not fit shared memory beside the weights";
    return std::nullopt;
}

void write_pixel(Emitter& emitter, Code& code, const ProductWindows& windows, Value image) {
    code.open(
        fmt::format("const auto pixel = [&](const {0} image, const {0} row, const {0} column, "
                    "float (&channels)[{1}])",
                    emitter.math().type(), windows.channels));
    const Index place = {emitter.math().variable("image", windows.images), "",
                         emitter.math().variable("row", windows.height),
                         emitter.math().variable("column", windows.width)};
    for (std::int64_t channel = 0; channel < windows.channels; ++channel) {
        Index index = place;
        index[1] = std::to_string(channel);
        code.line(fmt::format("channels[{}] = {};", channel, emitter.value(image, index)));
    }
    code.close("};");
}

void count_flops(const Graph& graph, const Group& group, const FewChannels& conv, Step& step) {
    const Ints weights = graph.shape(group.roles.at("w")).to_ints();
    step.flops = 2 * checked_size(graph.shape(group.anchor).to_ints()) * weights[1] * weights[2] *
                 weights[3];
    std::get<KernelWork>(step.work).flops_per_clock =
        conv.exact ? 2048 / 3 : (conv.type == DataType::F32 ? 2048 : 4096);
}

void lower_few_channels(Placement& placement, const Group& group) {
    const Graph& graph = placement.graph();
    const DeviceProperties& device = placement.plan().device;
    ProductEpilogue epilogue(placement, group);
    FewChannels conv = few_channels_of(graph, group.anchor, placement.plan().options);
    conv.lanes = epilogue.lanes();
    if (forced_few_channel_tiles())
        conv.tiles = *forced_few_channel_tiles();
    else
        conv.tiles = sensible_tiles(conv, device).at(0);
    if (const auto why = conv.why_not()) throw GraphError("convolution: " + *why);

    KernelDraft draft;
    draft.name = "tensor_conv_few";
    draft.arch = "sm_90a";
    const TensorRef w =
        placement.constant(group.roles.at("w"), graph.dtype(group.anchor), {2, 3, 1, 0});
    const std::string pw = draft.operands.pointer(w, Access::Read, "w");
    Code code;
    Emitter emitter(placement, code, draft.operands);
    write_pixel(emitter, code, conv.windows, group.roles.at("image"));
    draft.helpers = few_channels_helpers(conv);
    draft.grid = conv.grid(device.sm_count);
    draft.block = {static_cast<unsigned>(conv.threads())};
    draft.blocks_per_sm = conv.tiles.blocks;
    draft.shared_bytes = conv.shared_bytes();
    draft.compile_ms = 350;
    epilogue.write_direct(draft, "pixel, " + pw, std::move(code));
    add_kernel_step(placement, group, draft);
    Step& step = placement.plan().steps.back();
    count_flops(graph, group, conv, step);
    step.reason += ", in " + to_string(conv.tiles);
}

}  // namespace kn::cuda
