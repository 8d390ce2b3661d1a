#include "lower/squeeze_epilogue.h"

#include <algorithm>
#include <utility>

#include <fmt/core.h>

#include "lower/library.h"
#include "lower/product_tiles.h"
#include "lower/squeeze_rows.h"
#include "planner/ceil_div.h"

namespace kn::cuda {

namespace {

constexpr int kBarrier = 1;          // of the threads that multiply
constexpr std::size_t kOutside = 1;  // the scope in front of all that follows the weights

// Where things lie in the shared memory that a block's warps have in common.
struct SharedLayout {
    std::int64_t bytes = 0;
    std::int64_t parts, rows_a, rows_b, hidden, heads;

    SharedLayout(const Squeeze& problem, const SqueezeTiles& tiles, std::int64_t head_count) {
        const auto element = static_cast<std::int64_t>(size_of(problem.dtype));
        parts = take(tiles.threads / 32 * problem.channels * 4);
        rows_a = take(SqueezeRows::first_elements(problem, tiles, problem.channels) * element);
        rows_b = take(SqueezeRows::second_elements(problem, tiles) * element);
        hidden = take(tiles.blocks * tiles.images * problem.hidden * 4);
        heads = take(std::max<std::int64_t>(head_count, 2) * tiles.images * problem.channels * 4);
    }

    std::int64_t take(std::int64_t wanted) {
        const std::int64_t at = bytes;
        bytes += ceil_div(wanted, 16) * 16;
        return at;
    }
};

// As for one block; the first product's parts in the place of a cluster's.
SqueezeTiles tiles_of(const TensorProduct& product) {
    return {product.tiles.rows / product.squeeze->image_rows, product.squeeze->parts,
            product.tiles.groups * 128};
}

// So that each warp has a part of 16 columns.
int parts_of(const Squeeze& problem, int warps) {
    const std::int64_t panels = problem.channels / 64, columns = ceil_div(problem.hidden, 16);
    int parts = 1;
    while (panels % (2 * parts) == 0 && columns * 2 * parts <= warps) parts *= 2;
    return parts;
}

/// y = squeezed * scale [+ shift] [+ what lies in its place], or zeros instead of what is less.
struct Scaling {
    Value scale;
    std::optional<Value> shift;
    bool relu = false;
};

class FindScaling {
  public:
    FindScaling(const Graph& graph, const Group& group, std::optional<Value> before)
        : graph_(graph), squeezed_(group.roles.at("squeezed")), before_(before) {}

    std::optional<Scaling> run(Value y) {
        if (const auto* max = binary(y, BinaryOp::Max))
            for (const auto& [x, zero] : {std::pair(max->a, max->b), std::pair(max->b, max->a)})
                if (!scaling_.relu && is_zero(zero)) {
                    scaling_.relu = true;
                    y = x;
                }
        if (!add(y) || !has_scale_ || before_.has_value() != has_before_) return std::nullopt;
        return scaling_;
    }

  private:
    const op::Binary* binary(Value value, BinaryOp op) const {
        const auto* binary = graph_.get_if<op::Binary>(value);
        return binary && binary->op == op ? binary : nullptr;
    }

    bool is_zero(Value value) const {
        while (graph_.get_if<op::Broadcast>(value) || graph_.get_if<op::Reshape>(value))
            value = inputs_of(graph_[value].operation)[0];
        const auto* constant = graph_.get_if<op::Constant>(value);
        return constant && constant->data->tensor.size() == 1 &&
               constant->data->tensor.cast(DType::F32).at(0) == 0;
    }

    bool add(Value term) {
        if (const auto* sum = binary(term, BinaryOp::Add)) return add(sum->a) && add(sum->b);
        if (before_ && term == *before_) return !std::exchange(has_before_, true);
        if (const auto* shift = graph_.get_if<op::Broadcast>(term)) {
            if (scaling_.shift) return false;
            scaling_.shift = shift->x;
            return true;
        }
        const auto* scaled = binary(term, BinaryOp::Mul);
        if (!scaled || has_scale_) return false;
        const auto* scale =
            graph_.get_if<op::Broadcast>(scaled->a == squeezed_ ? scaled->b : scaled->a);
        if (!scale || (scaled->a != squeezed_ && scaled->b != squeezed_)) return false;
        scaling_.scale = scale->x;
        return has_scale_ = true;
    }

    const Graph& graph_;
    Value squeezed_;
    std::optional<Value> before_;
    Scaling scaling_ = {};
    bool has_scale_ = false, has_before_ = false;
};

class SqueezeEpilogue {
  public:
    SqueezeEpilogue(Placement& placement, const Group& group, const TensorProduct& product,
                    const std::optional<Value>& before, KernelDraft& draft)
        : placement_(placement),
          group_(group),
          before_(before),
          draft_(draft),
          problem_(squeeze_of(graph(), group)),
          heads_(heads_of(group)),
          tiles_(tiles_of(product)),
          images_(tiles_.images),
          sync_(fmt::format("kn_sync_some({}, {});", kBarrier, tiles_.threads)),
          image_warps_(product.squeeze->image_rows / 16),
          product_(product),
          scaling_(FindScaling(graph(), group, before).run(group.outputs[0])) {
        if (scaling_) bias_ = find_bias();
    }

    /// The body, around kn_product({factors and weights}, maps, excite).
    std::string write(const std::string& factors, const std::string& maps) {
        write_image();
        const auto [first, second] = write_excite();
        code_.line(fmt::format("kn_product({{{}, {}, {}}}, {}, excite);", factors, first,
                               second, maps));
        return code_.text();
    }

  private:
    const Graph& graph() const { return placement_.graph(); }
    Value role(const std::string& name) const { return group_.roles.at(name); }

    /// The element of a value like the image at (row, column).
    Index place(Emitter& emitter) const {
        IndexMath& math = emitter.math();
        const Ints y = graph().shape(role("squeezed")).to_ints();
        const std::string row = math.variable("row", problem_.images * problem_.positions);
        const std::string column = math.variable("column", problem_.channels / 2);
        Ints axes = {y[0]};
        axes.insert(axes.end(), y.begin() + 2, y.end());
        Index index = math.split(row, axes);
        index.insert(index.begin() + 1, math.add(math.mul(column, 2), "j"));
        return index;
    }

    Emitter pairs() {
        Emitter emitter(placement_, code_, draft_.operands);
        emitter.set_lanes(2);
        emitter.computes(group_.outputs);
        emitter.set_reader("kn_read");
        return emitter;
    }

    void open_pairs(const std::string& name, Emitter& emitter, const std::string& rest) {
        code_.open(fmt::format("const auto {} = [&](const {} row, const int column, {})", name,
                               emitter.math().type(), rest));
    }

    /// What each channel of the image adds to the product's, which goes into the mean and the shift
    /// in the sums' stead.
    std::optional<Value> find_bias() const {
        const auto* sum = graph().get_if<op::Binary>(role("squeezed"));
        const auto& mean = std::get<op::Reduce>(graph()[role("mean")].operation);
        if (!sum || sum->op != BinaryOp::Add || mean.op != ReduceOp::Mean) return std::nullopt;
        if (sum->a != group_.anchor && sum->b != group_.anchor) return std::nullopt;
        const Value other = sum->a == group_.anchor ? sum->b : sum->a;
        const auto* wide = graph().get_if<op::Broadcast>(other);
        if (!wide) return std::nullopt;
        const Ints row = graph().shape(wide->x).to_ints();
        const bool one_a_channel = row.size() == graph().shape(other).rank() &&
                                   std::all_of(row.begin() + 2, row.end(),
                                               [](std::int64_t size) { return size == 1; });
        return one_a_channel ? std::optional(other) : std::nullopt;
    }

    /// Two neighbours of the image from two sums.
    void write_image() {
        Emitter emitter = pairs();
        open_pairs("image", emitter, "float (&x)[2]");
        emitter.provide(bias_ ? role("squeezed") : group_.anchor,
                        [](const Index&) { return std::string("x[j]"); });
        const std::string value = emitter.value(role("squeezed"), place(emitter));
        code_.line(fmt::format("KN_UNROLL for (int j = 0; j < 2; ++j) x[j] = {};", value));
        code_.close("};");
    }

    /// Two neighbours of the result from two of the image.
    void write_finish() {
        Emitter emitter = pairs();
        open_pairs("finish", emitter, "const float (&products)[1][2], const kn_pair pair");
        const std::string type = c_type(problem_.dtype);
        const Index index = place(emitter);
        emitter.provide(role("squeezed"),
                        [](const Index&) { return std::string("products[0][j]"); });
        for (std::size_t i = 0; i < heads_.size(); ++i) {
            code_.line(
                fmt::format("const kn_vector<float, 2> head{0} = *(const kn_vector<float, "
                            "2>*)(own_heads + (column * {1} + {0}) * 2);",
                            i, heads_.size()));
            emitter.provide(heads_[i],
                            [i](const Index&) { return fmt::format("head{}.lane[j]", i); });
        }
        if (before_) {
            code_.line(fmt::format(
                "const kn_vector<{0}, 2> before = kn_bit_cast<kn_vector<{0}, 2>>(pair);", type));
            emitter.provide(*before_, [&](const Index& at) -> std::string {
                return at == index ? "kn_widen(before.lane[j])"
                                   : emitter.compute_inline(*before_, at);
            });
        }
        const std::string value = emitter.value(group_.outputs[0], index);
        code_.line(fmt::format("kn_vector<{}, 2> result;", type));
        code_.line(fmt::format("KN_UNROLL for (int j = 0; j < 2; ++j) result.lane[j] = {};",
                               as_stored(placement_.stored(group_.outputs[0]), value)));
        code_.line("return kn_bit_cast<kn_pair>(result);");
        code_.close("};");
    }

    void array(const std::string& type, const std::string& name, std::int64_t at) {
        code_.line(fmt::format("{0}* const {1} = ({0}*)(epilogue.shared + {2});", type, name, at));
    }

    /// Gives the maps of both products' weights.
    std::pair<std::string, std::string> write_excite() {
        const std::string type = c_type(problem_.dtype);
        code_.open(
            "const auto excite = [&](kn_squeezed& epilogue, float (&sums_of_tile)[kn_sums], "
            "const kn_tile& tile, const kn_weights& weights)");
        const SharedLayout at(problem_, tiles_, static_cast<std::int64_t>(heads_.size()));
        array(type, "rows_a", at.rows_a);
        array(type, "rows_b", at.rows_b);
        array("float", "parts", at.parts);
        array("float", "hidden", at.hidden);
        array("float", "heads", at.heads);
        code_.line("const int thread = threadIdx.x;");
        Emitter emitter(placement_, code_, draft_.operands);
        emitter.computes(group_.outputs);
        emitter.set_reader("kn_read");
        emitter.push_scope();
        code_.line(fmt::format("const {} set = tile.row / {};", emitter.math().type(),
                               images_ * problem_.positions));
        const std::string set = emitter.math().variable("set", problem_.images / images_);
        SqueezeRows rows(placement_, group_, problem_, code_, draft_.operands, emitter,
                         {tiles_, problem_.channels, "", set, kOutside});
        code_.open("");
        emitter.push_scope();
        rows.clear_ends();
        code_.line("kn_weights::first_operands first;");
        code_.line("kn_weights::second_operands second;");
        squeeze(rows);
        code_.line("weights.hold_first(first);");
        code_.line(sync_);
        code_.open(
            fmt::format("weights.multiply_first(first, rows_a, {}, [&](int part, int of, int column, "
                        "float x)",
                        rows.first_pitch()));
        code_.line(fmt::format("hidden[(part * {} + of) * {} + column] = x;", images_,
                               problem_.hidden));
        code_.close("});");
        code_.line(sync_);
        rows.keep_hidden();
        code_.line("weights.hold_second(second);");
        code_.line(sync_);
        code_.line(fmt::format("float shares[kn_shares][{}];", problem_.shifts.size()));
        code_.line(fmt::format("weights.multiply_second(second, rows_b, {}, shares);", rows.second_pitch()));
        const std::int64_t shares =
            ceil_div(problem_.channels / 16, tiles_.threads / 32) * images_ / 2;
        if (scaling_)
            rows.find_scale_of_shares(shares, scaling_->scale, scaling_->shift, bias_);
        else
            rows.find_heads_of_shares(shares);
        code_.line(sync_);
        emitter.pop_scope();
        code_.close();
        emitter.pop_scope();
        code_.line(fmt::format("const float* const own_heads = heads + thread / {} * {};",
                               32 * image_warps_,
                               problem_.channels * (scaling_ ? 2 : heads_.size())));
        if (scaling_) {
            code_.line(fmt::format("epilogue.write_scaled<{}>(sums_of_tile, tile, own_heads);",
                                   scaling_->relu));
        } else {
            write_finish();
            code_.line("epilogue.write(sums_of_tile, tile, finish);");
        }
        code_.close("};");
        const std::int64_t columns =
            small_product(graph(), role("productb"))->columns;
        return {draft_.operands.map(rows.weight("producta"),
                                    product_.map_small(problem_.hidden, problem_.channels)),
                draft_.operands.map(rows.weight("productb"),
                                    product_.map_small(columns, problem_.hidden))};
    }

    /// The image's values, and the means of a block's images.
    void squeeze(SqueezeRows& rows) {
        const auto& reduce = std::get<op::Reduce>(graph()[role("mean")].operation);
        const std::string op = reduce_type(reduce.op);
        code_.line(fmt::format("epilogue.squeeze<{}>(sums_of_tile, tile, parts, image);", op));
        code_.line(sync_);
        rows.keep_means(
            [&](const std::string&, const std::string& image, const std::string& channel) {
                code_.line(fmt::format("const float* const part = parts + ({}) * {} + {};", image,
                                       image_warps_ * problem_.channels, channel));
                code_.line("float total = part[0];");
                code_.line(
                    fmt::format("KN_UNROLL for (int i = 1; i < {}; ++i) total = {}::join(total, "
                                "part[i * {}]);",
                                image_warps_, op, problem_.channels));
            },
            bias_);
    }

    Placement& placement_;
    const Group& group_;
    std::optional<Value> before_;
    KernelDraft& draft_;
    Squeeze problem_;
    std::vector<Value> heads_;
    SqueezeTiles tiles_;
    int images_;  // of a block
    std::string sync_;
    int image_warps_;  // that hold an image
    const TensorProduct& product_;
    std::optional<Scaling> scaling_;
    std::optional<Value> bias_;
    Code code_;
};

}  // namespace

std::optional<TensorProduct> squeezing_product(TensorProduct product, const Squeeze& problem,
                                               std::size_t heads, const DeviceProperties& device) {
    if (problem.positions > 64 || product.n > 256) return std::nullopt;
    product.lanes = 2;
    product.tiles = {.rows = 128,
                     .columns = static_cast<int>(product.n),
                     .groups = 2,
                     .blocks = 1,
                     .chunk = 64,
                     .staged = true};
    constexpr int most_stages = 8, least_stages = 3, whole = 128;
    ProductSqueeze squeeze;
    squeeze.image_rows = static_cast<int>(problem.positions);
    squeeze.hidden = static_cast<int>(problem.hidden);
    squeeze.parts = parts_of(problem, product.tiles.groups * 4);
    squeeze.shifts = problem.shifts;
    if (product.tiles.rows % squeeze.image_rows != 0) return std::nullopt;
    product.squeeze = squeeze;
    const SharedLayout layout(problem, tiles_of(product), static_cast<std::int64_t>(heads));
    product.squeeze->bytes = static_cast<int>(ceil_div(layout.bytes, whole) * whole);
    for (product.tiles.stages = most_stages; product.tiles.stages >= least_stages;
         --product.tiles.stages)
        if (!product.why_not() && product.shared_bytes() <= device.shared_per_block_optin)
            return product;
    return std::nullopt;
}

double clocks_of_squeezing(const TensorProduct& product, const DeviceProperties& device) {
    // 256 images of 256x8x8 and 64 columns on an H200: 31.3 us, the convolution alone 26.2.
    constexpr double means_and_products = 8000;
    const std::int64_t rounds = ceil_div(product.m / product.tiles.rows, device.sm_count);
    return clocks_of(product, product.tiles, device) +
           static_cast<double>(rounds) * means_and_products;
}

bool& forced_squeezed_conv() {
    static thread_local bool forced = false;
    return forced;
}

void write_squeezing(Placement& placement, const Group& group, const TensorProduct& product,
                     const std::optional<Value>& before, const std::string& factors,
                     const std::string& maps, KernelDraft& draft) {
    draft.body = SqueezeEpilogue(placement, group, product, before, draft).write(factors, maps);
}

}  // namespace kn::cuda
