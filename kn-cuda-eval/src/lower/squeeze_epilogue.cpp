#include "lower/squeeze_epilogue.h"

#include <algorithm>

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
        const auto units = static_cast<std::int64_t>(problem.shifts.size());
        const auto element = static_cast<std::int64_t>(size_of(problem.dtype));
        // The means' parts, and later the sums of the second product.
        parts = take(std::max<std::int64_t>(tiles.threads / 32, units * tiles.images) *
                     problem.channels * 4);
        rows_a = take(SqueezeRows::first_elements(problem, tiles, problem.channels) * element);
        rows_b = take(SqueezeRows::second_elements(problem, tiles) * element);
        hidden = take(tiles.images * problem.hidden * 4);
        heads = take(head_count * tiles.images * problem.channels * 4);
    }

    std::int64_t take(std::int64_t wanted) {
        const std::int64_t at = bytes;
        bytes += ceil_div(wanted, 16) * 16;
        return at;
    }
};

SqueezeTiles tiles_of(const TensorProduct& product) {
    return {product.tiles.rows / product.image_rows, 1, product.tiles.groups * 128};
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
          sync_(fmt::format("kn_sync_some({}, {});", kBarrier, tiles_.threads)),
          image_warps_(product.image_rows / 16) {}

    std::string write() {
        write_image();
        write_excite();
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

    /// Two neighbours of the image from two of the product.
    void write_image() {
        Emitter emitter = pairs();
        open_pairs("image", emitter, "const float (&products)[1][2], float (&x)[2]");
        emitter.provide(group_.anchor, [](const Index&) { return std::string("products[0][j]"); });
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
                            "2>*)(heads + ({0} * {1} + threadIdx.x / {2}) * {3} + column * "
                            "2);",
                            i, images_, 32 * image_warps_, problem_.channels));
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

    void write_excite() {
        const std::string type = c_type(problem_.dtype);
        code_.open(
            "const auto excite = [&](kn_squeezed& epilogue, float (&sums_of_tile)[kn_sums], "
            "const kn_tile& tile)");
        const SharedLayout at(problem_, tiles_, static_cast<std::int64_t>(heads_.size()));
        array(type, "rows_a", at.rows_a);
        array(type, "rows_b", at.rows_b);
        array("float", "parts", at.parts);
        array("float", "sums", at.parts);
        array("float", "hidden", at.hidden);
        array("float", "heads", at.heads);
        code_.line("const int thread = threadIdx.x;");
        code_.line("const int warp = thread / 32, row = thread % 32 / 4, quad = thread % 4;");
        Emitter emitter(placement_, code_, draft_.operands);
        emitter.computes(group_.outputs);
        emitter.set_reader("kn_read");
        emitter.push_scope();
        code_.line(fmt::format("const {} set = tile.row / {};", emitter.math().type(),
                               images_ * problem_.positions));
        const std::string set = emitter.math().variable("set", problem_.images / images_);
        SqueezeRows rows(placement_, group_, problem_, code_, draft_.operands, emitter,
                         {tiles_, problem_.channels, "", set, kOutside, sync_});
        rows.hold_first();
        code_.open("");
        emitter.push_scope();
        rows.clear_ends();
        squeeze(rows);
        rows.multiply_first(
            fmt::format("hidden[of * {} + tile * 8 + column] = x;", problem_.hidden));
        rows.hold_second();
        code_.line(sync_);
        rows.keep_hidden();
        rows.multiply_second();
        rows.find_heads();
        emitter.pop_scope();
        code_.close();
        emitter.pop_scope();
        write_finish();
        code_.line("epilogue.write(sums_of_tile, tile, finish);");
        code_.close("};");
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
            });
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
    Code code_;
};

}  // namespace

std::optional<TensorProduct> squeezing_product(TensorProduct product, const Squeeze& problem,
                                               std::size_t heads, const DeviceProperties& device) {
    if (problem.positions > 64 || product.n > 256) return std::nullopt;
    product.lanes = 2;
    product.image_rows = static_cast<int>(problem.positions);
    product.tiles = {.rows = 128,
                     .columns = static_cast<int>(product.n),
                     .groups = 2,
                     .blocks = 1,
                     .chunk = 64,
                     .staged = true};
    constexpr int most_stages = 8, least_stages = 3, whole = 128;
    if (product.tiles.rows % product.image_rows != 0) return std::nullopt;
    const SharedLayout layout(problem, tiles_of(product), static_cast<std::int64_t>(heads));
    product.squeeze_bytes = static_cast<int>(ceil_div(layout.bytes, whole) * whole);
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
                     KernelDraft& draft) {
    draft.body = SqueezeEpilogue(placement, group, product, before, draft).write() +
                 fmt::format("    kn_product({}, excite);\n", factors);
}

}  // namespace kn::cuda
