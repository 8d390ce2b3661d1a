#include "lower/squeeze_epilogue.h"

#include <algorithm>

#include <fmt/core.h>

#include "lower/library.h"
#include "lower/product_tiles.h"
#include "lower/squeeze_rows.h"
#include "lower/squeeze_scaling.h"
#include "planner/ceil_div.h"

namespace kn::cuda {

namespace {

constexpr int kBarrier = 1;          // of the threads that multiply
constexpr std::size_t kOutside = 1;  // the scope in front of all that follows the weights

// Where things lie in the shared memory that a block's warps have in common.
struct SharedLayout {
    std::int64_t bytes = 0;
    std::int64_t parts, rows_a, rows_b, hidden, heads;

    SharedLayout(const Squeeze& problem, const SqueezeTiles& tiles, std::int64_t own,
                 std::int64_t head_count) {
        const auto element = static_cast<std::int64_t>(size_of(problem.dtype));
        parts = take(tiles.threads / 32 * own * 4);
        rows_a = take(SqueezeRows::first_elements(problem, tiles, own) * element);
        rows_b = take(SqueezeRows::second_elements(problem, tiles) * element);
        hidden = take(tiles.blocks * tiles.images * problem.hidden * 4);
        heads = take(std::max<std::int64_t>(head_count, 2) * tiles.images * own * 4);
    }

    std::int64_t take(std::int64_t wanted) {
        const std::int64_t at = bytes;
        bytes += ceil_div(wanted, 16) * 16;
        return at;
    }
};

// The first product's parts are those of all blocks' warps.
SqueezeTiles tiles_of(const TensorProduct& product) {
    return {product.tiles.rows / product.squeeze->image_rows,
            product.squeeze->parts * product.squeeze->blocks, product.tiles.groups * 128};
}

// So that each warp has a part of 16 columns.
int parts_of(const Squeeze& problem, std::int64_t own, int warps) {
    const std::int64_t panels = own / 64, columns = ceil_div(problem.hidden, 16);
    int parts = 1;
    while (panels % (2 * parts) == 0 && columns * 2 * parts <= warps) parts *= 2;
    return parts;
}

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
          own_(product.tiles.columns),
          sync_(fmt::format("kn_sync_some({}, {});", kBarrier, tiles_.threads)),
          image_warps_(product.squeeze->image_rows / 16),
          product_(product),
          scaling_(find_scaling(graph(), group, before)) {
        if (scaling_) bias_ = bias_of_image(graph(), group);
    }

    /// The body, around kn_product({factors and weights}, maps, excite).
    std::string write(const std::string& factors, const std::string& maps) {
        write_image();
        const auto [first, second] = write_excite();
        code_.line(
            fmt::format("kn_product({{{}, {}, {}}}, {}, excite);", factors, first, second, maps));
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
        const SharedLayout at(problem_, tiles_, own_, static_cast<std::int64_t>(heads_.size()));
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
                         {tiles_, own_, first_channel(emitter.math()), set, kOutside});
        code_.open("");
        emitter.push_scope();
        rows.clear_ends();
        code_.line("kn_weights::first_operands first;");
        code_.line("kn_weights::second_operands second;");
        squeeze(rows);
        code_.line("weights.hold_first(first);");
        code_.line(sync_);
        if (beside()) {
            code_.line(fmt::format("if (thread == 0) kn_expect(epilogue.all_there, {});",
                                   tiles_.blocks * images_ * problem_.hidden * 4));
            code_.line("kn_wait_for_cluster();");
        }
        code_.open(fmt::format(
            "weights.multiply_first(first, rows_a, {}, [&](int part, int of, int column, "
            "float x)",
            rows.first_pitch()));
        send_hidden();
        code_.close("});");
        code_.line(beside() ? "kn_wait(epilogue.all_there, 0);" : sync_);
        rows.keep_hidden();
        code_.line("weights.hold_second(second);");
        code_.line(sync_);
        code_.line(fmt::format("float shares[kn_shares][{}];", problem_.shifts.size()));
        code_.line(fmt::format("weights.multiply_second(second, rows_b, {}, shares);",
                               rows.second_pitch()));
        const std::int64_t shares =
            ceil_div(own_ / 16, tiles_.threads / 32) * std::max<std::int64_t>(images_ / 2, 1);
        if (scaling_)
            rows.find_scale_of_shares(shares, scaling_->scale, scaling_->shift, bias_);
        else
            rows.find_heads_of_shares(shares);
        code_.line(sync_);
        emitter.pop_scope();
        code_.close();
        emitter.pop_scope();
        const std::int64_t numbers = scaling_ ? 2 : static_cast<std::int64_t>(heads_.size());
        code_.line(fmt::format("const float* const own_heads = heads + thread / {} * {}{};",
                               32 * image_warps_, own_ * numbers,
                               scaling_ ? "" : fmt::format(" - tile.column * {}", numbers)));
        if (scaling_) {
            code_.line(fmt::format("epilogue.write_scaled<{}>(sums_of_tile, tile, own_heads);",
                                   scaling_->relu));
        } else {
            write_finish();
            code_.line("epilogue.write(sums_of_tile, tile, finish);");
        }
        code_.close("};");
        const std::int64_t columns = small_product(graph(), role("productb"))->columns;
        return {draft_.operands.map(rows.weight("producta"),
                                    product_.map_small(problem_.hidden, problem_.channels)),
                draft_.operands.map(rows.weight("productb"),
                                    product_.map_small(columns, problem_.hidden))};
    }

    bool beside() const { return product_.beside() > 1; }

    /// Of the tile; empty: none but 0.
    std::string first_channel(IndexMath& math) {
        if (!beside()) return "";
        code_.line(fmt::format("const int rank = tile.column / {};", own_));
        return math.mul(math.variable("rank", product_.beside()), own_);
    }

    /// The sum x of the row "of" and the column "column" of one of the first product's parts, to
    /// all that need it.
    void send_hidden() {
        const std::string place =
            fmt::format("hidden[(({}part) * {} + of) * {} + column]",
                        beside() ? fmt::format("rank * {} + ", product_.squeeze->parts) : "",
                        images_, problem_.hidden);
        if (!beside()) return code_.line(place + " = x;");
        code_.line(
            fmt::format("KN_UNROLL for (int b = 0; b < {}; ++b) "
                        "kn_send(kn_in_block(kn_shared_address(&{}), b), x, "
                        "kn_in_block(epilogue.all_there, b));",
                        product_.beside(), place));
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
                                       image_warps_ * own_, channel));
                code_.line("float total = part[0];");
                code_.line(
                    fmt::format("KN_UNROLL for (int i = 1; i < {}; ++i) total = {}::join(total, "
                                "part[i * {}]);",
                                image_warps_, op, own_));
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
    int images_;        // of a block
    std::int64_t own_;  // channels of a block
    std::string sync_;
    int image_warps_;  // that hold an image
    const TensorProduct& product_;
    std::optional<SqueezeScaling> scaling_;
    std::optional<Value> bias_;
    Code code_;
};

std::optional<TensorProduct> squeezing_in(const SqueezedConvTiles& form, TensorProduct product,
                                          const Squeeze& problem, std::size_t heads,
                                          const DeviceProperties& device) {
    if (problem.positions > 64 || product.n > 256 * form.blocks || product.n % form.blocks != 0)
        return std::nullopt;
    product.lanes = 2;
    product.tiles = {.rows = form.rows,
                     .columns = static_cast<int>(product.n) / form.blocks,
                     .groups = form.rows / 64,
                     .blocks = 1,
                     .chunk = 64,
                     .staged = true};
    constexpr int most_stages = 8, least_stages = 3, whole = 128;
    ProductSqueeze squeeze;
    squeeze.image_rows = static_cast<int>(problem.positions);
    squeeze.blocks = form.blocks;
    squeeze.hidden = static_cast<int>(problem.hidden);
    squeeze.parts = parts_of(problem, product.tiles.columns, product.tiles.groups * 4);
    squeeze.shifts = problem.shifts;
    if (product.tiles.rows % squeeze.image_rows != 0) return std::nullopt;
    product.squeeze = squeeze;
    const SharedLayout layout(problem, tiles_of(product), product.tiles.columns,
                              static_cast<std::int64_t>(heads));
    product.squeeze->bytes = static_cast<int>(ceil_div(layout.bytes, whole) * whole);
    for (product.tiles.stages = most_stages; product.tiles.stages >= least_stages;
         --product.tiles.stages)
        if (!product.why_not() && product.shared_bytes() <= device.shared_per_block_optin)
            return product;
    return std::nullopt;
}

}  // namespace

std::optional<TensorProduct> squeezing_product(const TensorProduct& product, const Squeeze& problem,
                                               std::size_t heads, const DeviceProperties& device) {
    const auto forced = forced_squeezed_conv();
    std::optional<TensorProduct> best;
    double least = 0;
    constexpr SqueezedConvTiles forms[] = {{128, 1}, {128, 2}, {64, 2}, {64, 4}};
    for (const SqueezedConvTiles& form : forms) {
        // Of clusters that do not fit the device at once the least measured is 32 us for 256 images
        // of 256x8x8, without them 30. Those of four do not fill it.
        const int at_once = form.blocks == 4 ? device.sm_count * 9 / 10 : device.sm_count;
        const bool waits = form.blocks > 1 && product.m / form.rows * form.blocks > at_once;
        if (forced ? form != *forced : waits) continue;
        auto found = squeezing_in(form, product, problem, heads, device);
        if (!found) continue;
        const double clocks = clocks_of_squeezing(*found, device);
        if (best && clocks >= least) continue;
        least = clocks;
        best = std::move(found);
    }
    return best;
}

double clocks_of_squeezing(const TensorProduct& product, const DeviceProperties& device) {
    // 256x8x8 and 64 columns on an H200, in us: 256 images 29.9, 512 59.5; 64 images in pairs of
    // blocks of 64 rows 11.8, 16 in fours 9.0.
    constexpr double alone = 1500, in_pairs = 1000, in_fours = 1700;
    const std::int64_t rounds =
        ceil_div(product.m / product.tiles.rows * product.beside(), device.sm_count);
    const double one = product.beside() == 4 ? in_fours : product.beside() == 2 ? in_pairs : alone;
    return clocks_of(product, product.tiles, device) + static_cast<double>(rounds) * one;
}

std::optional<SqueezedConvTiles>& forced_squeezed_conv() {
    static thread_local std::optional<SqueezedConvTiles> tiles;
    return tiles;
}

void write_squeezing(Placement& placement, const Group& group, const TensorProduct& product,
                     const std::optional<Value>& before, const std::string& factors,
                     const std::string& maps, KernelDraft& draft) {
    draft.body = SqueezeEpilogue(placement, group, product, before, draft).write(factors, maps);
}

}  // namespace kn::cuda
