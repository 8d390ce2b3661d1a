#include "lower/tensor_product.h"

#include <algorithm>

#include <fmt/core.h>

#include "codegen/emit.h"
#include "codegen/tensor_product.h"
#include "codegen/winograd.h"
#include "lower/conv.h"
#include "lower/library.h"
#include "lower/lower.h"
#include "lower/matrix.h"
#include "lower/paired_epilogue.h"
#include "lower/product_epilogue.h"
#include "lower/product_tiles.h"
#include "lower/row_moments.h"
#include "lower/squeeze_epilogue.h"
#include "planner/ceil_div.h"
#include "planner/merge_products.h"
#include "planner/normalized_rows.h"

namespace kn::cuda {

namespace {

bool is_plain(const op::Conv& conv, const Ints& w) {
    const auto zero = [](const Dim& pad) { return pad == Dim(0); };
    return w[2] == 1 && w[3] == 1 && std::ranges::all_of(conv.pads_before, zero) &&
           std::ranges::all_of(conv.pads_after, zero) &&
           std::ranges::all_of(conv.strides, [](std::int64_t s) { return s == 1; });
}

std::optional<std::string> why_no_form(const Graph& graph, Value product) {
    const auto operands = inputs_of(graph[product].operation);
    if (!is_weight(graph, operands[1])) return "the second operand is no weight";
    const Ints w = graph.shape(operands[1]).to_ints();
    const auto* conv = graph.get_if<op::Conv>(product);
    if (!conv) {
        if (w.size() != 2) return "it is a batch of products";
        const auto multiple = static_cast<std::int64_t>(16 / size_of(graph.dtype(product)));
        if (w[0] % multiple != 0) return fmt::format("rows of {} elements are not aligned", w[0]);
        return std::nullopt;
    }
    if (w.size() != 4) return "it has not two spatial axes";
    if (conv->groups != 1) return "it has groups";
    const auto bytes = static_cast<std::int64_t>(size_of(graph.dtype(product)));
    if (w[1] % (16 / bytes) != 0)
        return fmt::format("{} channels are no multiple of {}", w[1], 16 / bytes);
    // What tensor maps of windows can say, with room to spare.
    constexpr std::int64_t widest = 100, longest_stride = 8;
    for (std::size_t i = 0; i < 2; ++i)
        if ((w[i + 2] - 1) * conv->dilations[i] > widest || conv->strides[i] > longest_stride ||
            conv->pads_before[i].value() > widest || conv->pads_after[i].value() > widest)
            return "the windows are too large";
    return std::nullopt;
}

// What is behind the product alone, without another one that is added to it, and in front of what
// pairs of columns become.
Group own_part(Group group) {
    if (group.paired) {
        group.outputs = {group.paired->root};
        group.swallowed.clear();
    }
    if (const auto also = group.roles.find("also"); also != group.roles.end())
        std::erase(group.swallowed, also->second);
    return group;
}

// Measured on products of all sizes: epilogues are unrolled over a thread's sums.
int compile_ms_of(const TensorProduct& product) {
    if (product.tiles.winograd) return 650;
    const int sums = product.tiles.group_rows() * product.tiles.columns / 128;
    return 60 + sums * 3 / 2 + (product.exact ? 50 : 0) + (product.norm_rows > 0 ? 40 : 0) +
           (product.squeeze ? 200 : 0);
}

class Lowering {
  public:
    Lowering(Placement& placement, const Group& group)
        : placement_(placement),
          group_(group),
          own_(own_part(group)),
          graph_(placement.graph()),
          conv_(graph_.get_if<op::Conv>(group.anchor)),
          plain_(conv_ && is_plain(*conv_, graph_.shape(conv_->w).to_ints())),
          sizes_(product_sizes(graph_, group.anchor)),
          dtype_(graph_.dtype(group.anchor)),
          epilogue_(placement, own_) {
        if (group.roles.count("also")) also_ = group.roles.at("also");
        if (!group.in_front.empty())
            normalized_ = normalized_rows(graph_, inputs_of(graph_[group.anchor].operation)[0]);
        if (group.roles.count("squeezed")) squeeze_ = squeeze_of(graph_, group);
    }

    void run() {
        const TensorRef x = conv_ ? image() : rows();
        const bool exact = !uses_tensor_cores(placement_.plan().options, dtype_);
        KernelDraft draft;
        draft.name = squeeze_ ? "tensor_conv_squeeze" : conv_ ? "tensor_conv" : "tensor_product";
        draft.arch = "sm_90a";
        const std::string px = draft.operands.pointer(x, Access::Read, "x");
        std::optional<TensorRef> x_also;
        if (also_) x_also = image_also();
        const TensorProduct product = product_of(exact);
        const TensorRef w = product.tiles.winograd ? placement_.winograd(group_.roles.at("w"))
                                                   : weights(tensor_core_part(dtype_));
        const std::string pw = draft.operands.pointer(w, Access::Read, "w");
        multiply(draft, px, pw, x_also, product);
        add_kernel_step(placement_, group_, draft);
        Step& step = placement_.plan().steps.back();
        // Of six multiplications minimal filtering does four.
        const std::int64_t terms = product.tiles.winograd
                                       ? sizes_.k / 3 * 2
                                       : sizes_.k + (also_ ? windows_also_->channels : 0);
        step.flops = 2 * sizes_.m * sizes_.n * terms + (squeeze_ ? squeeze_->flops() : 0);
        std::get<KernelWork>(step.work).flops_per_clock =
            exact ? 2048 / 3 : (dtype_ == DType::F32 ? 2048 : 4096);
        step.problem = problem_;
        step.tiles = to_string(product.tiles);
        const DeviceProperties& device = placement_.plan().device;
        step.expected_us = (squeeze_ ? clocks_of_squeezing(product, device)
                                     : clocks_of(product, product.tiles, device)) /
                           clocks_in_us;
        if (normalized_)
            step.reason +=
                moments_ ? ", which came with them" : ", which the product takes on the way";
        step.reason += ", in tiles of " + step.tiles;
        if (large_weights_) step.reason += ", as the weights are too large for minimal filtering";
        if (product.norm_rows > 0)
            step.reason += fmt::format(", with statistics of {}x{} elements for a norm",
                                       product.part_rows(), product.part_columns());
        copy_paired();
        if (!elsewhere_) return;
        step.produces.clear();
        lower_copy(placement_, *elsewhere_, placement_.stored(group_.outputs[0]),
                   "the product's layout is another");
        placement_.plan().steps.back().produces = group_.outputs;
        placement_.plan().steps.back().problem = problem_;
    }

  private:
    // What pairs of columns become, where it is to lie otherwise.
    void copy_paired() {
        const std::size_t product = placement_.plan().steps.size() - 1;
        for (const PairedCopy& copy : copies_) {
            lower_copy(placement_, copy.from, placement_.stored(copy.to),
                       "the product's layout is another");
            std::vector<Step>& steps = placement_.plan().steps;
            std::erase(steps[product].produces, copy.to);
            steps.back().produces = {copy.to};
        }
    }

    bool aligned(const TensorRef& tensor) const {
        return alignment_of(placement_.plan(), tensor) >= 16;
    }

    std::int64_t chunk() const { return 16 / static_cast<std::int64_t>(size_of(dtype_)); }

    // x [m, k], or all axes but the last as one, with rows contiguous.
    TensorRef rows() {
        const Value a = group_.roles.at("a");
        if (const auto view = placement_.view(a)) {
            const auto matrix = flat_matrix_view(view->shape, view->strides);
            if (matrix && !matrix->transpose && matrix->leading % chunk() == 0 && aligned(*view)) {
                row_stride_ = matrix->leading;
                return *view;
            }
        }
        row_stride_ = sizes_.k;
        return placement_.copy_of(a, row_major(graph_.shape(a).rank()));
    }

    // x [N, C, H, W] with channels contiguous.
    TensorRef image() {
        const TensorRef x = image(group_.roles.at("x"), plain_);
        if (plain_)
            row_stride_ = x.strides[3];
        else
            windows_ = windows(group_.anchor, x);
        return x;
    }

    TensorRef image_also() {
        const TensorRef x = image(group_.roles.at("x also"), false);
        windows_also_ = windows(*also_, x);
        return x;
    }

    TensorRef image(Value value, bool dense) {
        const auto fits = [&](const TensorRef& x) {
            return x.strides[1] == 1 && x.strides[0] % chunk() == 0 &&
                   x.strides[2] % chunk() == 0 && x.strides[3] % chunk() == 0 &&
                   x.strides[0] >= 0 && x.strides[2] >= 0 && x.strides[3] > 0 && aligned(x) &&
                   (!dense || is_dense_image(x));
        };
        const auto view = placement_.view(value);
        return view && fits(*view) ? *view : placement_.copy_of(value, {0, 2, 3, 1});
    }

    ProductWindows windows(Value conv, const TensorRef& x) const {
        ProductWindows windows = windows_of(graph_, *graph_.get_if<op::Conv>(conv), conv);
        windows.image_stride = x.strides[0];
        windows.line_stride = x.strides[2];
        windows.pixel_stride = x.strides[3];
        return windows;
    }

    TensorProduct product_of(bool exact) {
        TensorProduct product;
        product.type = data_type(dtype_).value();
        product.exact = exact;
        product.m = sizes_.m;
        product.n = sizes_.n;
        product.k = sizes_.k;
        product.row_stride = row_stride_;
        product.windows = windows_;
        product.also = windows_also_;
        product.halves = epilogue_.halves();
        product.before = epilogue_.before().has_value();
        product.y_bytes = epilogue_.y_bytes();
        if (group_.paired) product.partner = static_cast<int>(group_.paired->distance);
        if (normalized_) {
            product.statistics = statistics_of(*normalized_);
            product.epsilon = normalized_->epsilon;
            if (product.statistics == RowStatistics::Variance)
                moments_ = row_moments(placement_, group_.roles.at("a"), sizes_, row_stride_);
            if (moments_) product.given_parts = static_cast<int>(sizes_.k / moments_->columns);
        }
        const Plan& plan = placement_.plan();
        if (squeeze_) {
            const auto squeezing =
                squeezing_product(product, *squeeze_, heads_of(group_).size(), plan.device);
            KN_CHECK(squeezing);
            return *squeezing;
        }
        const bool staged = product.halves == 2 || group_.paired || epilogue_.can_be_staged();
        if (const auto wanted = placement_.wanted_parts(group_.outputs[0]);
            wanted && !group_.paired) {
            product.norm_rows = wanted->image_rows;
            product.norm_columns = wanted->group_columns;
            product.lanes = epilogue_.lanes();
        }
        product.may_filter = may_filter(plan.options);
        product.tiles = choose_tiles(product, plan.device, staged, plan.options);
        if (product.tiles.winograd && !weights_suit_filtering()) {
            product.may_filter = false;
            product.tiles = choose_tiles(product, plan.device, staged, plan.options);
            large_weights_ = true;
        }
        problem_ = problem_of(product, staged);
        product.lanes = product.tiles.staged ? 2 : epilogue_.lanes();
        if (product.norm_rows > 0 && product.why_no_parts()) product.norm_rows = 0;
        if (const auto why = product.why_not()) throw GraphError("tensor core product: " + *why);
        return product;
    }

    bool weights_suit_filtering() {
        const Value w = group_.roles.at("w");
        const auto* permute = graph_.get_if<op::Permute>(w);
        return placement_.weights().stay_within(constant_parts(graph_, permute ? permute->x : w),
                                                most_filtered_weight);
    }

    void multiply(KernelDraft& draft, const std::string& px, const std::string& pw,
                  const std::optional<TensorRef>& x_also, const TensorProduct& product) {
        draft.helpers = tensor_product_helpers(product);
        draft.grid = product.grid(placement_.plan().device.sm_count);
        draft.cluster = {static_cast<unsigned>(product.cluster())};
        draft.block = {static_cast<unsigned>(product.threads())};
        draft.blocks_per_sm = product.tiles.blocks;
        draft.shared_bytes = product.shared_bytes();
        draft.compile_ms = compile_ms_of(product);
        const std::string x = draft.operands.map(px, product.map_x());
        const std::string w = draft.operands.map(pw, product.map_w());
        const std::string low = product.exact ? map_of_low(draft, product) : w;
        const std::string also =
            x_also ? ", " + maps_of_also(draft, *x_also, product) : std::string();
        const std::string three = fmt::format("{}, {}, {}", x, w, low);
        std::string factors = three + also;
        if (product.statistics == RowStatistics::Variance)
            factors += ", " + draft.operands.pointer(folded_weights(true), Access::Read, "sums");
        if (moments_)
            factors += ", " + draft.operands.pointer(moments_->tensor, Access::Read, "statistics");
        factors = "{" + factors + "}";
        if (group_.paired) {
            copies_ = write_paired(placement_, group_, product, factors, draft);
            return;
        }
        if (product.norm_rows > 0)
            return epilogue_.write_direct_with(draft, factors, parts_of(product), also_);
        if (!product.tiles.staged) return epilogue_.write_direct(draft, factors, {}, also_);
        const TensorRef y = epilogue_.staged_result();
        if (squeeze_)
            write_squeezing(placement_, group_, product, epilogue_.before(), three,
                            epilogue_.staged_maps(draft, product, y), draft);
        else
            epilogue_.write_staged(draft, factors, product, y, also_);
        if (!epilogue_.can_be_staged()) elsewhere_ = y;
    }

    TensorRef folded_weights(bool sums) {
        return placement_.folded(group_.roles.at("b"), {normalized_->scale, normalized_->shift, 0,
                                                        sums, graph_.dtype(group_.anchor)});
    }

    // Statistics of y for a norm behind it.
    TensorRef parts_of(const TensorProduct& product) {
        const std::int64_t rows = product.part_rows(), columns = product.part_columns();
        const AxisOrder order = product.gives_rows() ? AxisOrder{1, 0, 2} : AxisOrder{0, 1, 2};
        const MatrixParts parts{
            rows, columns,
            placement_.scratch(DType::F32, {product.m / rows, product.n / columns, 2}, "statistics",
                               order)};
        placement_.give_parts(group_.outputs[0], parts);
        return parts.tensor;
    }

    TensorRef weights(Tf32Part part) {
        if (normalized_) return folded_weights(false);
        return placement_.constant(group_.roles.at(conv_ ? "w" : "b"), dtype_,
                                   conv_ ? AxisOrder{0, 2, 3, 1} : AxisOrder{1, 0}, part);
    }

    std::string map_of_low(KernelDraft& draft, const TensorProduct& product) {
        return draft.operands.map(
            draft.operands.pointer(weights(Tf32Part::Low), Access::Read, "low part of w"),
            product.map_w());
    }

    std::string maps_of_also(KernelDraft& draft, const TensorRef& x, const TensorProduct& product) {
        const Value weights = inputs_of(graph_[*also_].operation)[1];
        const Tf32Part part = dtype_ == DType::F32 ? Tf32Part::High : Tf32Part::None;
        const TensorRef w = placement_.constant(weights, dtype_, {0, 2, 3, 1}, part);
        const std::string map_x =
            draft.operands.map(draft.operands.pointer(x, Access::Read, "x"), product.map_x_also());
        return map_x + ", " +
               draft.operands.map(draft.operands.pointer(w, Access::Read, "w"),
                                  product.map_w_also());
    }

    Placement& placement_;
    const Group& group_;
    const Group own_;
    const Graph& graph_;
    const op::Conv* conv_;
    bool plain_;
    ProductSizes sizes_;
    DType dtype_;
    ProductEpilogue epilogue_;
    std::optional<NormalizedRows> normalized_;  // what is in front of it
    std::optional<MatrixParts> moments_;        // that came with these rows
    std::optional<Squeeze> squeeze_;            // what is behind a convolution besides
    std::string problem_;
    bool large_weights_ = false;
    std::int64_t row_stride_ = 0;
    std::optional<ProductWindows> windows_;
    std::optional<Value> also_;  // another product that is added
    std::optional<ProductWindows> windows_also_;
    std::vector<PairedCopy> copies_;
    std::optional<TensorRef> elsewhere_;  // where the result has to be copied from
};

// So few tiles that k has to be shared out, and so many k that a residual is little beside them.
bool has_long_sums(const ProductSizes& sizes, const DeviceProperties& device) {
    const std::int64_t tiles = ceil_div(sizes.m, 128) * ceil_div(sizes.n, 128);
    return sizes.k >= 3072 && sizes.k >= 2 * sizes.n && 3 * tiles <= 2 * device.sm_count;
}

}  // namespace

// The figures are measured on an H200 (tests/bench/products.cpp).
std::optional<std::string> why_library_product(const Grouping& grouping, Value product,
                                               const ProductTail& tail) {
    if (forced_tiles()) return std::nullopt;
    const Graph& graph = grouping.graph();
    const bool exact = !uses_tensor_cores(grouping.options(), graph.dtype(product));
    const auto* conv = graph.get_if<op::Conv>(product);
    const ProductSizes sizes = product_sizes(graph, product);
    if (!exact && !tail.own) {
        // A residual costs cuBLASLt more: 17.8 us for 8192x320x1280, ours 12.7.
        if (!conv && !(tail.residual && is_half(graph.dtype(product))))
            return "cuBLASLt does this type well";
        // But long sums of few tiles less: 27.3 us for 512x2048x8192, ours 30.5 (31.7 and 35.7 where
        // power limits the clock); 15.9 for 512x1280x5120, ours 18.5.
        if (!conv && has_long_sums(sizes, grouping.device()))
            return "cuBLASLt shares long sums out well";
        // Many 1x1 products without a residual: cuDNN 19.1 us for 2048 to 512 channels at 7x7 of
        // 128 images, ours 24.2.
        const bool large = sizes.m * sizes.n >= std::int64_t{64} * 128 * 128;
        if (conv && is_plain(*conv, graph.shape(conv->w).to_ints()) && sizes.k >= 1024 && large &&
            !tail.residual)
            return "cuDNN does 1x1 convolutions of many channels well";
    }
    // Few filters of many channels, where a wave of tiles has all rows: 15.0 us for 320 to 4 at 64x64
    // of 2 images, cuDNN 18.9 to 22.1; 103 us for 128 to 3 at 512x512, cuDNN 94.
    const bool few_filters = conv && is_half(graph.dtype(product)) && sizes.k >= 1024 &&
                             sizes.m <= std::int64_t{64} * grouping.device().sm_count;
    if (sizes.k < 64 || (sizes.n < 32 && !few_filters)) return "it moves more than it computes";
    // Another kernel to compile, for microseconds.
    if (2 * sizes.m * sizes.n * sizes.k < 10'000'000) return "it is small";
    return std::nullopt;
}

std::optional<std::string> why_two_kernels(const Grouping& grouping, Value product) {
    // 1x16384x2048: 20.0 us by cuBLASLt with a kernel behind it, 21.3 by ours.
    if (product_sizes(grouping.graph(), product).m <= 64 && !forced_tiles())
        return "of few rows the libraries read the weights as fast";
    return why_library_product(grouping, product, {.own = true});
}

std::optional<std::string> why_no_tensor_product(const Grouping& grouping, Value product) {
    const Graph& graph = grouping.graph();
    if (grouping.device().compute() != 90) return "the device is none of Hopper's";
    const DType dtype = graph.dtype(product);
    if (dtype != DType::F32 && !is_half(dtype)) return "it is of another type";
    return why_no_form(graph, product);
}

TensorProduct expected_product(const Grouping& grouping, Value product, Value end,
                               const ProductTail& tail) {
    const Graph& graph = grouping.graph();
    const ProductSizes sizes = product_sizes(graph, product);
    TensorProduct expected;
    expected.type = data_type(graph.dtype(product)).value();
    expected.exact = !uses_tensor_cores(grouping.options(), graph.dtype(product));
    expected.m = sizes.m;
    expected.n = sizes.n;
    expected.k = expected.row_stride = sizes.k;
    const auto* conv = graph.get_if<op::Conv>(product);
    if (conv && !is_plain(*conv, graph.shape(conv->w).to_ints()))
        expected.windows = windows_of(graph, *conv, product);
    expected.halves = graph.shape(end)[1].value() == sizes.n ? 1 : 2;
    expected.before = tail.residual;
    expected.y_bytes = static_cast<int>(size_of(graph.dtype(end)));
    expected.lanes = sizes.n % 8 == 0 ? 8 : 1;
    expected.may_filter = may_filter(grouping.options());
    return expected;
}

bool may_filter(const PlanOptions& options) {
    return options.disabled_rules.count(std::string(minimal_filtering_rule.name)) == 0;
}

RowStatistics statistics_of(const NormalizedRows& rows) {
    return rows.kind == NormKind::MeanSquare ? RowStatistics::MeanSquare : RowStatistics::Variance;
}

std::optional<std::string> why_no_sum(const Grouping& grouping, Value product, Value also) {
    const Graph& graph = grouping.graph();
    const auto* main = graph.get_if<op::Conv>(product);
    const auto* other = graph.get_if<op::Conv>(also);
    if (!main || !other) return "they are not two convolutions";
    if (!uses_tensor_cores(grouping.options(), graph.dtype(product)) ||
        graph.dtype(also) != graph.dtype(product))
        return "they are not of one type that tensor cores multiply as it is";
    if (!(graph.shape(also) == graph.shape(product))) return "their results differ in shape";
    const ProductWindows w = windows_of(graph, *other, also);
    if (w.kernel_height * w.kernel_width != 1 || w.pad_y != 0 || w.pad_x != 0)
        return "the other one has windows";
    return std::nullopt;
}

void lower_tensor_product(Placement& placement, const Group& group) {
    Lowering(placement, group).run();
}

}  // namespace kn::cuda
