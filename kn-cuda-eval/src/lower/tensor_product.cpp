#include "lower/tensor_product.h"

#include <algorithm>
#include <limits>
#include <span>

#include <fmt/core.h>

#include "codegen/emit.h"
#include "codegen/tensor_product.h"
#include "lower/library.h"
#include "lower/lower.h"
#include "planner/merge_products.h"

namespace kn::cuda {

namespace {

struct Sizes {
    std::int64_t m = 0, n = 0, k = 0;
};

Sizes sizes_of(const Graph& graph, Value product) {
    const Ints y = graph.shape(product).to_ints();
    const auto operands = inputs_of(graph[product].operation);
    const Ints w = graph.shape(operands[1]).to_ints();
    if (graph.get_if<op::MatMul>(product)) return {y[0], y[1], w[0]};
    const std::int64_t columns = y[1];
    return {checked_size(y) / std::max<std::int64_t>(columns, 1), columns,
            checked_size(w) / std::max<std::int64_t>(columns, 1)};
}

struct Tiles {
    int rows, columns, stages, blocks;
    double speed;  ///< of a full multiprocessor, beside the others
};

// Measured on an H200 with large products; two blocks on a multiprocessor hide each other's
// barriers.
constexpr Tiles split_tiles[] = {
    {256, 64, 3, 1, 1.05},
    {128, 64, 3, 2, 1.0},
    {128, 128, 3, 1, 1.0},
};
constexpr Tiles plain_tiles[] = {
    {128, 128, 3, 2, 1.0},
    {128, 64, 3, 2, 0.7},
};

Tiles choose_tiles(std::span<const Tiles> table, const Sizes& sizes, int sm_count) {
    Tiles best = table[0];
    double best_time = std::numeric_limits<double>::infinity();
    for (const Tiles& tiles : table) {
        const std::int64_t count = ((sizes.m + tiles.rows - 1) / tiles.rows) *
                                   ((sizes.n + tiles.columns - 1) / tiles.columns);
        const std::int64_t most = (count + sm_count - 1) / sm_count;  // on one multiprocessor
        // A block alone does not fill a multiprocessor that could hold two (an estimate).
        const double alone = most < tiles.blocks ? 1.6 : 1.0;
        const double time =
            static_cast<double>(most * tiles.rows * tiles.columns) / tiles.speed * alone;
        if (time < best_time) {
            best_time = time;
            best = tiles;
        }
    }
    return best;
}

bool is_plain(const op::Conv& conv, const Ints& w) {
    const auto zero = [](const Dim& pad) { return pad == Dim(0); };
    return w[2] == 1 && w[3] == 1 && std::ranges::all_of(conv.pads_before, zero) &&
           std::ranges::all_of(conv.pads_after, zero) &&
           std::ranges::all_of(conv.strides, [](std::int64_t s) { return s == 1; });
}

TensorProduct::Arithmetic arithmetic_of(const PlanOptions& options, DType dtype) {
    if (dtype == DType::F16) return TensorProduct::Arithmetic::F16;
    if (dtype == DType::BF16) return TensorProduct::Arithmetic::BF16;
    return options.precision == Precision::TF32 ? TensorProduct::Arithmetic::TF32
                                                : TensorProduct::Arithmetic::Split;
}

std::optional<std::string> why_no_form(const Graph& graph, Value product) {
    const auto operands = inputs_of(graph[product].operation);
    if (constant_parts(graph, operands[1]).empty()) return "the second operand is no weight";
    const Ints w = graph.shape(operands[1]).to_ints();
    const auto* conv = graph.get_if<op::Conv>(product);
    if (!conv) {
        if (w.size() != 2) return "it is a batch of products";
        if (w[0] % 4 != 0) return fmt::format("rows of {} elements are not aligned", w[0]);
        return std::nullopt;
    }
    if (w.size() != 4) return "it has not two spatial axes";
    if (conv->groups != 1) return "it has groups";
    const auto bytes = static_cast<std::int64_t>(size_of(graph.dtype(product)));
    const std::int64_t multiple = (is_plain(*conv, w) ? 16 : 128) / bytes;
    if (w[1] % multiple != 0)
        return fmt::format("{} channels are no multiple of {}", w[1], multiple);
    return std::nullopt;
}

class Lowering {
  public:
    Lowering(Placement& placement, const Group& group)
        : placement_(placement),
          group_(group),
          graph_(placement.graph()),
          conv_(graph_.get_if<op::Conv>(group.anchor)),
          plain_(conv_ && is_plain(*conv_, graph_.shape(conv_->w).to_ints())) {}

    void run() {
        const Sizes sizes = sizes_of(graph_, group_.anchor);
        const DType dtype = graph_.dtype(group_.anchor);
        product_.arithmetic = arithmetic_of(placement_.plan().options, dtype);
        const bool split = product_.arithmetic == TensorProduct::Arithmetic::Split;
        const Tiles tiles = choose_tiles(split ? std::span<const Tiles>(split_tiles) : plain_tiles,
                                         sizes, placement_.plan().device.sm_count);
        product_.m = sizes.m;
        product_.n = sizes.n;
        product_.k = sizes.k;
        product_.column_stride = sizes.k;
        product_.tile_rows = tiles.rows;
        product_.tile_columns = tiles.columns;
        product_.stages = tiles.stages;
        product_.blocks = tiles.blocks;
        const TensorRef x = conv_ ? image() : rows();
        const AxisOrder order = conv_ ? AxisOrder{0, 2, 3, 1} : AxisOrder{1, 0};
        const TensorRef w = placement_.constant(group_.roles.at(conv_ ? "w" : "b"), dtype, order);
        if (const auto why = product_.why_not()) throw GraphError("tensor core product: " + *why);
        emit(x, w);
    }

  private:
    bool aligned(const TensorRef& tensor) const {
        return alignment_of(placement_.plan(), tensor) >= 16;
    }

    int flops_per_clock() const {
        switch (product_.arithmetic) {
            case TensorProduct::Arithmetic::Split:
                return 2048 / 3;
            case TensorProduct::Arithmetic::TF32:
                return 2048;
            default:
                return 4096;
        }
    }

    std::int64_t chunk() const { return 16 / product_.element_bytes(); }

    // x [m, k] with rows contiguous.
    TensorRef rows() {
        const Value a = group_.roles.at("a");
        if (const auto view = placement_.view(a); view && view->strides[1] == 1 &&
                                                  view->strides[0] % chunk() == 0 &&
                                                  view->strides[0] > 0 && aligned(*view)) {
            product_.row_stride = view->strides[0];
            return *view;
        }
        product_.row_stride = product_.k;
        return placement_.copy_of(a, {0, 1});
    }

    // Whether all pixels are one step apart, so that they are rows.
    static bool is_dense(const TensorRef& x) {
        return x.strides[2] == x.shape[3] * x.strides[3] &&
               (x.shape[0] == 1 || x.strides[0] == x.shape[2] * x.strides[2]);
    }

    // x [N, C, H, W] with channels contiguous.
    TensorRef image() {
        const Value value = group_.roles.at("x");
        const auto fits = [&](const TensorRef& x) {
            return x.strides[1] == 1 && x.strides[0] % chunk() == 0 &&
                   x.strides[2] % chunk() == 0 && x.strides[3] % chunk() == 0 && x.strides[3] > 0 &&
                   aligned(x) && (!plain_ || is_dense(x));
        };
        auto view = placement_.view(value);
        const TensorRef x = view && fits(*view) ? *view : placement_.copy_of(value, {0, 2, 3, 1});
        set_windows(x);
        return x;
    }

    void set_windows(const TensorRef& x) {
        const Ints w = graph_.shape(group_.roles.at("w")).to_ints();
        const Ints y = graph_.shape(group_.anchor).to_ints();
        if (plain_) {
            product_.row_stride = x.strides[3];
            return;
        }
        ProductWindows windows;
        windows.channels = x.shape[1];
        windows.height = x.shape[2];
        windows.width = x.shape[3];
        windows.rows = y[2];
        windows.columns = y[3];
        windows.kernel_width = w[3];
        windows.stride_y = conv_->strides[0];
        windows.stride_x = conv_->strides[1];
        windows.pad_y = conv_->pads_before[0].value();
        windows.pad_x = conv_->pads_before[1].value();
        windows.dilation_y = conv_->dilations[0];
        windows.dilation_x = conv_->dilations[1];
        windows.image_stride = x.strides[0];
        windows.line_stride = x.strides[2];
        windows.pixel_stride = x.strides[3];
        product_.windows = windows;
    }

    void emit(const TensorRef& x, const TensorRef& w) {
        const Value end = group_.outputs.at(0);
        const int wanted =
            static_cast<int>(16 / std::max<std::size_t>(size_of(graph_.dtype(end)), 2));
        const int lanes = product_.n % wanted == 0 ? wanted : 1;
        add_kernel_step(placement_, group_, kernel(x, w, end, lanes));
        Step& step = placement_.plan().steps.back();
        step.flops = 2 * product_.m * product_.n * product_.k;
        std::get<KernelWork>(step.work).flops_per_clock = flops_per_clock();
    }

    KernelDraft kernel(const TensorRef& x, const TensorRef& w, Value end, int lanes) {
        KernelDraft draft;
        Code code;
        Emitter emitter(placement_, code, draft.operands);
        emitter.set_lanes(lanes);
        emitter.computes(group_.outputs);
        const std::string px = draft.operands.pointer(x, Access::Read, "x");
        const std::string pw = draft.operands.pointer(w, Access::Read, "w");
        const char* const element = product_.element_bytes() == 2 ? "unsigned short" : "float";
        const int width = product_.tile_columns / lanes;
        code.line(
            fmt::format("const long long row0 = (long long)blockIdx.x * {};", product_.tile_rows));
        code.line(fmt::format(
            "const float* const tile = kn_product_tile((const {0}*){1}, (const {0}*){2}, row0, "
            "blockIdx.y * {3});",
            element, px, pw, product_.tile_columns));
        code.open(fmt::format("for (int i = threadIdx.x; i < {}; i += {})",
                              product_.tile_rows * width, product_.threads()));
        code.line(fmt::format("const float* const from = tile + i / {0} * {1} + i % {0} * {2};",
                              width, product_.pitch(), lanes));
        code.line(fmt::format("const {} row = row0 + i / {};", emitter.math().type(), width));
        code.line(fmt::format("const int column = blockIdx.y * {0} + i % {0};", width));
        code.line(fmt::format("if (row >= {} || column >= {}) continue;", product_.m,
                              product_.n / lanes));
        if (lanes == 1) {
            code.line("const float product = *from;");
        } else {
            code.line(fmt::format("__align__(16) float product[{}];", lanes));
            code.line(
                fmt::format("KN_UNROLL for (int j = 0; j < {}; j += 4) *(float4*)(product + j) = "
                            "*(const float4*)(from + j);",
                            lanes));
        }
        emitter.provide(group_.anchor, [&](const Index&) -> std::string {
            return lanes == 1 ? "product" : "product[j]";
        });
        const Index index = index_of(emitter, lanes);
        emitter.store(end, index, emitter.value(end, index));
        code.close();
        draft.name = conv_ ? "tensor_conv" : "tensor_product";
        draft.body = code.text();
        draft.helpers = tensor_product_helpers(product_);
        draft.grid = product_.grid();
        draft.block = {static_cast<unsigned>(product_.threads())};
        draft.blocks_per_sm = product_.blocks;
        draft.shared_bytes = product_.shared_bytes();
        draft.arch = "sm_90a";
        return draft;
    }

    // The element of the result at (row, column).
    Index index_of(Emitter& emitter, int lanes) {
        IndexMath& math = emitter.math();
        const std::string row = math.variable("row", product_.m);
        std::string column = math.variable("column", product_.n / lanes);
        if (lanes > 1) column = math.add(math.mul(column, lanes), "j");
        if (!conv_) return {row, column};
        const Ints y = graph_.shape(group_.anchor).to_ints();
        const Index position = math.split(row, {y[0], y[2], y[3]});
        return {position[0], column, position[1], position[2]};
    }

    Placement& placement_;
    const Group& group_;
    const Graph& graph_;
    const op::Conv* conv_;
    bool plain_;
    TensorProduct product_;
};

}  // namespace

std::optional<std::string> why_no_tensor_product(const Grouping& grouping, Value product) {
    const Graph& graph = grouping.graph();
    if (grouping.device().compute() != 90) return "the device is none of Hopper's";
    const DType dtype = graph.dtype(product);
    const bool matmul = graph.get_if<op::MatMul>(product) != nullptr;
    const bool exact = dtype == DType::F32 && grouping.options().precision == Precision::F32;
    if (matmul && !exact) return "cuBLASLt does this type well";
    if (dtype != DType::F32 && !is_half(dtype)) return "it is of another type";
    // Measured on an H200 with ResNet-50: up to twice as fast as ours from 128 channels on, and
    // many times slower below.
    const auto* conv = graph.get_if<op::Conv>(product);
    if (conv && is_half(dtype)) {
        const Ints w = graph.shape(conv->w).to_ints();
        if (w.size() == 4 && w[1] >= 128 && is_plain(*conv, w))
            return "cuDNN does 1x1 convolutions of many channels well";
    }
    if (const auto why = why_no_form(graph, product)) return why;
    const Sizes sizes = sizes_of(graph, product);
    const std::int64_t tiles = ((sizes.m + 127) / 128) * ((sizes.n + 63) / 64);
    if (tiles * 2 < grouping.device().sm_count)
        return fmt::format("{} tiles leave most of the device idle", tiles);
    if (sizes.k < 64 || sizes.n < 32) return "it moves more than it computes";
    return std::nullopt;
}

void lower_tensor_product(Placement& placement, const Group& group) {
    Lowering(placement, group).run();
}

}  // namespace kn::cuda
