#include "lower/product_pair.h"

#include <algorithm>

#include <fmt/core.h>

#include "codegen/emit.h"
#include "lower/conv.h"
#include "lower/library.h"
#include "lower/lower.h"
#include "lower/product_epilogue.h"
#include "lower/product_tiles.h"
#include "planner/ceil_div.h"

namespace kn::cuda {

namespace {

std::int64_t terms(const Graph& graph, const std::optional<Value>& product) {
    return product ? product_sizes(graph, *product).k : 0;
}

ProductPair pair_of(const Graph& graph, const PairedProduct& first, Value second, bool keep) {
    const ProductSizes sizes = product_sizes(graph, first.product);
    ProductPair pair;
    pair.type = data_type(graph.dtype(first.product)).value();
    pair.m = sizes.m;
    pair.k = pair.row_stride = sizes.k;
    pair.k_also = pair.row_stride_also = terms(graph, first.also);
    pair.n = sizes.n;
    pair.n2 = product_sizes(graph, second).n;
    pair.before = first.residual;
    pair.keep = keep;
    return pair;
}

PairTiles tiles_of(const ProductPair& pair, const DeviceProperties& device) {
    if (forced_pair_tiles()) return *forced_pair_tiles();
    const std::vector<PairTiles> all = sensible_tiles(pair, device);
    return all.empty()
               ? PairTiles{.columns = 64, .y_stages = 2, .streamed = pair.type == DataType::F32}
               : all.front();
}

double clocks_in_best_tiles(TensorProduct product, const DeviceProperties& device) {
    product.tiles = choose_tiles(product, device, true);
    return clocks_of(product, product.tiles, device);
}

// Of m rows in a kernel of their own.
TensorProduct alone(const ProductPair& pair, std::int64_t n, std::int64_t k, bool before) {
    TensorProduct product;
    product.type = pair.type;
    product.m = pair.m;
    product.n = n;
    product.k = product.row_stride = k;
    product.before = before;
    product.y_bytes = static_cast<int>(pair.bytes());
    return product;
}

double clocks_alone(const ProductPair& pair, std::int64_t n, std::int64_t k, bool before,
                    const DeviceProperties& device) {
    return clocks_in_best_tiles(alone(pair, n, k, before), device);
}

double clocks_apart(const ProductPair& pair, const DeviceProperties& device) {
    const bool also = pair.k_also > 0;
    return clocks_alone(pair, pair.n, pair.k, pair.before || also, device) +
           (also ? clocks_alone(pair, pair.n, pair.k_also, pair.before, device) : 0) +
           clocks_alone(pair, pair.n2, pair.n, false, device);
}

// Both in one: memory's rate, or the work of a block's tiles, behind its weights; streamed, the
// weights come for each tile. From measurements on an H200 (tests/bench/products.cpp), in clocks of
// 1650 MHz: 128 images of 56x56 and 64, 256, 64 channels take 236000 with a residual, 106000
// without one and y; 8 of them 16200, one 8100; streamed, 128 of 28x28 and 128, 512, 128 channels
// 125000. In TF32 461000 with a residual, 453000 as a sum of two without; of 28x28 294000.
double clocks_of(const ProductPair& pair, const DeviceProperties& device) {
    constexpr double start = 500, bytes_in_a_clock = 2177, weights_in_a_clock = 20;
    const double streamed_in_a_clock = pair.type == DataType::F32 ? 24 : 29;
    constexpr double tile = 800, sum = 8, product = 1.1;
    const auto rows = static_cast<double>(pair.m), n = static_cast<double>(pair.n),
               k = static_cast<double>(pair.k + pair.k_also), n2 = static_cast<double>(pair.n2);
    const auto bytes = static_cast<double>(pair.bytes());
    const double weights = bytes * n * (k + n2);
    const double row = bytes * (k + n * (pair.before + pair.keep) + n2);
    const double memory = rows * row / bytes_in_a_clock;
    const auto tiles =
        static_cast<double>(ceil_div(pair.row_tiles(), pair.grid(device.sm_count).x));
    if (pair.tiles.streamed) {
        const double tile_bytes = weights + pair.tile_rows() * row;
        return start + std::max(memory, tiles * tile_bytes / streamed_in_a_clock);
    }
    const double of_tile = tile + sum * (n + n2) + product * n * (k + n2) / 32;
    const double work = std::max(1.0, tiles / pair.tiles.groups + 0.5) * of_tile;
    return start + weights / weights_in_a_clock + std::max(memory, work);
}

// What the pair adds, if its first one's own kernel would add up another convolution with it that
// now needs one of its own.
double clocks_of_summand(const Graph& graph, const ProductPair& pair, Value summand,
                         const DeviceProperties& device) {
    const ProductWindows windows = windows_of(graph, *graph.get_if<op::Conv>(summand), summand);
    TensorProduct sum = alone(pair, pair.n, pair.k, false);
    sum.also = windows;
    return clocks_alone(pair, pair.n, windows.channels, false, device) +
           clocks_alone(pair, pair.n, pair.k, pair.before, device) -
           clocks_in_best_tiles(sum, device);
}

class PairLowering {
  public:
    PairLowering(Placement& placement, const Group& group)
        : placement_(placement),
          group_(group),
          graph_(placement.graph()),
          also_(group.roles.count("also") ? std::optional(group.roles.at("also")) : std::nullopt),
          first_group_(part(group.anchor, group.roles.at("y"))),
          second_group_(part(group.roles.at("product2"), group.roles.at("z"))),
          first_(placement, first_group_),
          second_(placement, second_group_),
          keep_(group.outputs.size() == 2) {}

    void run() {
        const std::optional<Value> before = first_.before();
        const PairedProduct first{first_group_.anchor, first_group_.outputs[0], also_,
                                  before.has_value()};
        ProductPair pair = pair_of(graph_, first, second_group_.anchor, keep_);
        const TensorRef x = rows(first.product), x_also = also_ ? rows(*also_) : x;
        pair.row_stride = row_stride_of(placement_.plan(), x).value();
        pair.row_stride_also = row_stride_of(placement_.plan(), x_also).value();
        const DeviceProperties& device = placement_.plan().device;
        pair.tiles = tiles_of(pair, device);
        if (const auto why = pair.why_not(device)) throw GraphError("pair of products: " + *why);

        KernelDraft draft;
        draft.name = "product_pair";
        draft.arch = "sm_90a";
        draft.helpers = product_pair_helpers(pair);
        draft.grid = pair.grid(device.sm_count);
        draft.block = {static_cast<unsigned>(pair.threads())};
        draft.blocks_per_sm = 1;
        draft.shared_bytes = pair.shared_bytes();
        draft.compile_ms = 300;
        const auto map = [&](const TensorRef& tensor, Access access, const char* role,
                             const TensorMapLayout& layout) {
            return draft.operands.map(draft.operands.pointer(tensor, access, role), layout);
        };
        const auto of_rows = [&](const TensorRef& tensor, Access access, const char* role) {
            return map(
                tensor, access, role,
                pair.rows(tensor.shape[1], row_stride_of(placement_.plan(), tensor).value()));
        };
        const std::string map_x = map(x, Access::Read, "x", pair.map_x());
        const std::string map_w = map(weight(first_group_.anchor), Access::Read, "w", pair.map_w());
        const std::string map_x_also =
            also_ ? map(x_also, Access::Read, "x", pair.map_x_also()) : map_x;
        const std::string map_w_also =
            also_ ? map(weight(*also_), Access::Read, "w", pair.map_w_also()) : map_w;
        const std::string map_w2 =
            map(weight(second_group_.anchor), Access::Read, "w2", pair.map_w2());
        const std::string map_before =
            before ? of_rows(*placement_.view(*before), Access::Read, "before") : map_x;
        const std::string map_y = keep_ ? of_rows(written(first_), Access::Write, "y") : map_x;
        const std::string map_z = of_rows(written(second_), Access::Write, "z");
        Code code;
        first_.write_finish(code, draft.operands, "finish_first", before, also_);
        second_.write_finish(code, draft.operands, "finish_second", {});
        code.line(
            fmt::format("kn_product_pair({{{}, {}, {}, {}, {}}}, {}, {}, {}, finish_first, "
                        "finish_second);",
                        map_x, map_w, map_x_also, map_w_also, map_w2, map_before, map_y, map_z));
        draft.body = code.text();
        add_kernel_step(placement_, group_, draft);
        Step& step = placement_.plan().steps.back();
        step.flops = 2 * pair.m * pair.n * (pair.k + pair.k_also + pair.n2);
        std::get<KernelWork>(step.work).flops_per_clock =
            graph_.dtype(group_.anchor) == DType::F32 ? 2048 : 4096;
        step.reason += ", in " + to_string(pair.tiles);
        copy_results();
    }

  private:
    // One of the products with what lies behind it: the first's values are all older than y.
    Group part(Value product, Value end) const {
        Group part;
        part.anchor = product;
        part.outputs = {end};
        const Value y = group_.roles.at("y");
        for (const Value& value : group_.swallowed)
            if ((value.index < y.index) == (product.index <= y.index) && value != y &&
                value != also_)
                part.swallowed.push_back(value);
        return part;
    }

    TensorRef rows(Value product) {
        const bool conv = graph_.get_if<op::Conv>(product);
        const Value x = inputs_of(graph_[product].operation)[0];
        if (const auto view = placement_.view(x); view && row_stride_of(placement_.plan(), *view))
            return *view;
        return placement_.copy_of(x, conv ? AxisOrder{0, 2, 3, 1} : AxisOrder{0, 1});
    }

    TensorRef weight(Value product) {
        const bool conv = graph_.get_if<op::Conv>(product);
        const DType dtype = graph_.dtype(product);
        return placement_.constant(inputs_of(graph_[product].operation)[1], dtype,
                                   conv ? AxisOrder{0, 2, 3, 1} : AxisOrder{1, 0},
                                   tensor_core_part(dtype));
    }

    // Where a result goes; noted, if it has to be copied from there.
    TensorRef written(ProductEpilogue& epilogue) {
        const Value end = &epilogue == &first_ ? group_.roles.at("y") : group_.roles.at("z");
        const TensorRef result = epilogue.staged_result();
        if (!epilogue.can_be_staged()) elsewhere_.emplace_back(end, result);
        return result;
    }

    void copy_results() {
        for (const auto& [value, from] : elsewhere_) {
            std::erase(placement_.plan().steps.back().produces, value);
        }
        for (const auto& [value, from] : elsewhere_) {
            lower_copy(placement_, from, placement_.stored(value),
                       "the product's layout is another");
            placement_.plan().steps.back().produces = {value};
        }
    }

    Placement& placement_;
    const Group& group_;
    const Graph& graph_;
    std::optional<Value> also_;
    Group first_group_, second_group_;
    ProductEpilogue first_, second_;
    bool keep_;
    std::vector<std::pair<Value, TensorRef>> elsewhere_;
};

}  // namespace

std::optional<PairTiles>& forced_pair_tiles() {
    static thread_local std::optional<PairTiles> tiles;
    return tiles;
}

std::vector<PairTiles> sensible_tiles(const ProductPair& pair, const DeviceProperties& device) {
    std::vector<PairTiles> result;
    // With as many stages as there is room for.
    const auto consider = [&](PairTiles tiles, int least_stages) {
        ProductPair trial = pair;
        for (trial.tiles = tiles; trial.tiles.y_stages >= least_stages; --trial.tiles.y_stages) {
            if (trial.why_not(device)) continue;
            result.push_back(trial.tiles);
            return;
        }
    };
    if (pair.type == DataType::F32) {
        for (const int z_stages : {2, 1})
            consider({.groups = 2,
                      .columns = 32,
                      .x_stages = 1,
                      .y_stages = 6,
                      .streamed = true,
                      .z_stages = z_stages},
                     3);
        consider({.groups = 2, .columns = 32, .y_stages = 6, .streamed = true}, 4);
        consider({.groups = 2, .columns = 32, .x_stages = 1, .y_stages = 6, .streamed = true}, 3);
        return result;
    }
    const int columns = pair.n % 128 == 0 ? 128 : 64;
    consider({.groups = 2, .columns = columns, .y_stages = 4}, 2);
    consider({.groups = 1, .columns = columns, .y_stages = 4}, 2);
    consider({.groups = 2, .columns = 64, .y_stages = 4, .streamed = true}, 3);
    return result;
}

bool keeps_rows(const Graph& graph, Value product) {
    const auto* conv = graph.get_if<op::Conv>(product);
    if (!conv) return graph.shape(product).rank() == 2;
    if (graph.shape(product).rank() != 4) return false;
    const ProductWindows w = windows_of(graph, *conv, product);
    return w.kernel_height == 1 && w.kernel_width == 1 && w.stride_y == 1 && w.stride_x == 1 &&
           w.pad_y == 0 && w.pad_x == 0 && w.rows == w.height && w.columns == w.width;
}

std::optional<std::string> why_no_pair(const Grouping& grouping, const PairedProduct& first,
                                       const PairedProduct& second, bool keep) {
    const Graph& graph = grouping.graph();
    const DType dtype = graph.dtype(first.product);
    for (const Value& value : {first.end, second.product, second.end})
        if (graph.dtype(value) != dtype || !uses_tensor_cores(grouping.options(), dtype))
            return "they are not of one type that tensor cores multiply as it is";
    ProductPair pair = pair_of(graph, first, second.product, keep);
    pair.tiles = tiles_of(pair, grouping.device());
    if (auto why = pair.why_not(grouping.device())) return why;
    if (forced_pair_tiles()) return std::nullopt;
    // With fewer it has not been measured, or was slower.
    const bool small_sum = pair.type == DataType::F32 && pair.k_also > 0;
    const std::int64_t least_rows = small_sum ? 25000 : pair.tiles.streamed ? 50000 : 3000;
    if (pair.m < least_rows) return "of few rows one kernel is not known to be faster";
    const double apart = clocks_apart(pair, grouping.device());
    double together = clocks_of(pair, grouping.device());
    if (first.summand)
        together += clocks_of_summand(graph, pair, *first.summand, grouping.device());
    if (together < apart) return std::nullopt;
    return fmt::format("kernels of their own would take {:.0f} clocks, one {:.0f}", apart,
                       together);
}

void lower_product_pair(Placement& placement, const Group& group) {
    PairLowering(placement, group).run();
}

}  // namespace kn::cuda
