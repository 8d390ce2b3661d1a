// The kernel of lower/squeeze.h, from the parts that its group names.
#include "lower/squeeze.h"

#include <algorithm>
#include <map>

#include <fmt/core.h>

#include "codegen/emit.h"
#include "codegen/kernel_text.h"
#include "lower/library.h"
#include "lower/lower.h"
#include "lower/squeeze_rows.h"
#include "planner/ceil_div.h"

namespace kn::cuda {

namespace {

class SqueezeKernel {
  public:
    SqueezeKernel(Placement& placement, const Group& group, const Squeeze& problem,
                  const SqueezeTiles& tiles)
        : placement_(placement),
          group_(group),
          problem_(problem),
          tiles_(tiles),
          heads_(heads_of(group)),
          emitter_(placement, code_, draft_.operands),
          lanes_(problem.lanes()),
          own_(problem.channels / tiles.blocks) {}

    KernelDraft make() {
        vectors_ = own_ / lanes_;
        team_ = tiles_.threads / tiles_.images;
        down_ = team_ / vectors_;
        held_ = problem_.held(tiles_);
        exact_ = problem_.positions % down_ == 0 && team_ % vectors_ == 0;
        type_ = c_type(problem_.dtype);
        emitter_.computes(group_.outputs);
        emitter_.set_reader("kn_read");

        declare();
        hold_image();
        SqueezeRows rows(placement_, group_, problem_, code_, draft_.operands, emitter_,
                         {tiles_, own_, math().mul(names_["rank"], own_), names_["set"]});
        rows.hold_first();
        rows.hold_second();
        code_.open("");
        emitter_.push_scope();
        rows.clear_ends();
        squeeze(rows);
        multiply_first(rows);
        rows.multiply_second();
        code_.open("");
        emitter_.push_scope();
        rows.find_heads();
        excite();
        for (int i = 0; i < 2; ++i) {
            emitter_.pop_scope();
            code_.close();
        }
        return finish();
    }

  private:
    const Graph& graph() const { return placement_.graph(); }
    IndexMath& math() { return emitter_.math(); }
    Value role(const std::string& name) const { return group_.roles.at(name); }
    bool in_cluster() const { return tiles_.blocks > 1; }

    std::size_t shared(std::int64_t elements, std::size_t element) {
        const std::size_t at = shared_bytes_;
        shared_bytes_ += (static_cast<std::size_t>(elements) * element + 15) / 16 * 16;
        return at;
    }

    void array(const std::string& type, const std::string& name, std::size_t at) {
        code_.line(fmt::format("{0}* const {1} = ({0}*)(shared + {2});", type, name, at));
    }

    void declare() {
        const auto units = static_cast<std::int64_t>(problem_.shifts.size());
        const std::size_t element = size_of(problem_.dtype);
        const std::size_t rows_a =
            shared(SqueezeRows::first_elements(problem_, tiles_, own_), element);
        const std::size_t rows_b = shared(SqueezeRows::second_elements(problem_, tiles_), element);
        parts_ = shuffles() ? team_ / 32 : down_;
        const std::size_t parts_at = shared(parts_ * tiles_.images * own_, 4);
        const std::size_t hidden_at = shared(tiles_.blocks * tiles_.images * problem_.hidden, 4);
        const std::size_t sums_at = shared(units * tiles_.images * own_, 4);
        const std::size_t heads_at =
            shared(static_cast<std::int64_t>(heads_.size()) * tiles_.images * own_, 4);
        code_.line("KN_DYNAMIC_SHARED(shared);");
        array(type_, "rows_a", rows_a);
        array(type_, "rows_b", rows_b);
        array("float", "parts", parts_at);
        array("float", "hidden", hidden_at);
        array("float", "sums", sums_at);
        array("float", "heads", heads_at);
        code_.line("const int thread = threadIdx.x;");
        code_.line("const int warp = thread / 32, row = thread % 32 / 4, quad = thread % 4;");
        define("rank", in_cluster() ? "kn_block_in_cluster()" : "0", tiles_.blocks);
        define("set", fmt::format("blockIdx.x / {}", tiles_.blocks),
               problem_.images / tiles_.images);
        define("image", fmt::format("thread / {}", team_), tiles_.images);
        define("v", fmt::format("thread % {} % {}", team_, vectors_), vectors_);
        code_.line(fmt::format("const int y = thread % {} / {};", team_, vectors_));
        if (in_cluster()) {
            const std::size_t at = shared(1, 8);
            code_.line(
                fmt::format("const unsigned all_there = kn_shared_address(shared + {});", at));
            code_.open("if (thread == 0)");
            code_.line("kn_init_barrier(all_there, 1);");
            code_.line("kn_publish_barriers();");
            code_.line(fmt::format("kn_expect(all_there, {});",
                                   4 * tiles_.blocks * tiles_.images * problem_.hidden));
            code_.close();
            code_.line("kn_arrive_in_cluster();");
        }
    }

    void define(const std::string& name, const std::string& text, std::int64_t extent) {
        code_.line(fmt::format("const {} {} = {};", math().type(), name, text));
        names_[name] = math().variable(name, extent);
    }

    /// Of the image that the thread is at work on, from channel text and position variable "p".
    Index index_at(const std::string& channel, const std::string& position) {
        const Ints shape = graph().shape(role("squeezed")).to_ints();
        const Index places = math().split(position, Ints(shape.begin() + 2, shape.end()));
        Index index = {math().add(math().mul(names_["set"], tiles_.images), names_["image"]),
                       channel};
        index.insert(index.end(), places.begin(), places.end());
        return index;
    }

    std::string channel() {
        const std::string first =
            math().add(math().mul(names_["rank"], own_), math().mul(names_["v"], lanes_));
        return math().add(first, "j");
    }

    /// The thread's position number s; those without one have another's again.
    std::string position() const {
        return exact_ ? fmt::format("const int p = s * {} + y;", down_)
                      : fmt::format("const int p = min(s * {} + y, {});", down_,
                                    problem_.positions - 1);
    }

    std::string open_positions() {
        code_.open(fmt::format("KN_UNROLL for (int s = 0; s < {}; ++s)", held_));
        emitter_.push_scope();
        code_.line(position());
        return math().variable("p", problem_.positions);
    }

    void close_positions() {
        emitter_.pop_scope();
        code_.close();
    }

    /// Behind which only threads with a position of their own go on.
    std::string if_own() const {
        return exact_ ? ""
                      : fmt::format("if (y < {} && s * {} + y < {}) ", down_, down_,
                                    problem_.positions);
    }

    /// Whether threads of a warp that have the same channels are regularly apart.
    bool shuffles() const { return 32 % vectors_ == 0 && team_ % 32 == 0; }

    void hold_image() {
        const Value image = role("squeezed");
        const auto channels_last = channels_last_order(graph().shape(image).rank());
        auto view = placement_.view(image);
        const auto fits = [&](const TensorRef& x) {
            bool whole = x.strides[1] == 1 && x.offset % lanes_ == 0;
            for (std::size_t i = 0; i < x.strides.size(); ++i)
                whole &= i == 1 || x.strides[i] % lanes_ == 0;
            return whole;
        };
        if (!view || !fits(*view)) view = placement_.copy_of(image, channels_last);
        const std::string pointer = draft_.operands.pointer(*view, Access::Read, "x");
        emitter_.set_lanes(lanes_);
        const std::string vector = fmt::format("kn_vector<{}, {}>", type_, lanes_);
        code_.line(fmt::format("{} held[{}];", vector, held_));
        const std::string p = open_positions();
        const std::string offset = math().dot(index_at(channel(), p), view->strides);
        code_.line(fmt::format("held[s] = kn_read((const {}*)({} + ({})));", vector, pointer,
                               math().part(offset, "j")->rest));
        close_positions();
        emitter_.provide(image, [this](const Index&) {
            return emitter_.define("float", "kn_widen(held[s].lane[j])");
        });
    }

    void squeeze(SqueezeRows& rows) {
        const Value mean = role("mean");
        const auto& reduce = std::get<op::Reduce>(graph()[mean].operation);
        const std::string op = reduce_type(reduce.op);
        code_.line(fmt::format("float sum[{}];", lanes_));
        code_.line(
            fmt::format("KN_UNROLL for (int j = 0; j < {}; ++j) sum[j] = "
                        "{}::start<float>();",
                        lanes_, op));
        const std::string p = open_positions();
        const std::string x = emitter_.value(reduce.x, index_at(channel(), p));
        code_.line(
            fmt::format("{}KN_UNROLL for (int j = 0; j < {}; ++j) sum[j] = "
                        "{}::join(sum[j], {});",
                        if_own(), lanes_, op, x));
        close_positions();
        emitter_.set_lanes(1);
        std::string writes = exact_ ? "" : fmt::format("if (y < {}) ", down_);
        std::string part = "y";
        if (shuffles()) {
            code_.line(
                fmt::format("KN_UNROLL for (int mask = {}; mask < 32; mask *= 2) "
                            "KN_UNROLL for (int j = 0; j < {}; ++j) sum[j] = "
                            "{}::join(sum[j], kn_shuffle_xor(sum[j], mask));",
                            vectors_, lanes_, op));
            writes = fmt::format("if (thread % 32 < {}) ", vectors_);
            part = fmt::format("thread % {} / 32", team_);
        }
        code_.line(
            fmt::format("{}KN_UNROLL for (int j = 0; j < {}; ++j) parts[(({}) * {} + "
                        "thread / {}) * {} + v * {} + j] = sum[j];",
                        writes, lanes_, part, tiles_.images, team_, own_, lanes_));
        code_.line("kn_sync();");
        rows.keep_means([&](const std::string& number, const std::string&, const std::string&) {
            code_.line(fmt::format("float total = parts[{}];", number));
            code_.line(
                fmt::format("KN_UNROLL for (int i = 1; i < {}; ++i) total = "
                            "{}::join(total, parts[i * {} + {}]);",
                            parts_, op, tiles_.images * own_, number));
        });
    }

    void multiply_first(SqueezeRows& rows) {
        const std::string place = fmt::format("hidden[(rank * {} + of) * {} + tile * 8 + column]",
                                              tiles_.images, problem_.hidden);
        std::string store = place + " = x;";
        if (in_cluster()) {
            code_.line("kn_wait_for_cluster();");
            store = fmt::format(
                "KN_UNROLL for (int b = 0; b < {}; ++b) "
                "kn_send(kn_in_block(kn_shared_address(&{}), b), x, "
                "kn_in_block(all_there, b));",
                tiles_.blocks, place);
        }
        rows.multiply_first(store);
        code_.line(in_cluster() ? "kn_wait(all_there, 0);" : "kn_sync();");
        rows.keep_hidden();
    }

    void excite() {
        emitter_.set_lanes(lanes_);
        const std::string vector = fmt::format("kn_vector<float, {}>", lanes_);
        for (std::size_t i = 0; i < heads_.size(); ++i) {
            code_.line(
                fmt::format("const {} head{} = *(const {}*)(heads + ({} + thread / {}) * "
                            "{} + v * {});",
                            vector, i, vector, static_cast<std::int64_t>(i) * tiles_.images, team_,
                            own_, lanes_));
            emitter_.provide(heads_[i], [this, i](const Index&) {
                return emitter_.define("float", fmt::format("head{}.lane[j]", i));
            });
        }
        const Value result = group_.outputs[0];
        const std::string p = open_positions();
        const Index index = index_at(channel(), p);
        // What is read beside the image is on its way as early as registers allow.
        emitter_.set_ahead(
            Emitter::Ahead{held_ <= kMostBeside ? 0u : 1u, "p", "s", held_, position()});
        const std::string y = emitter_.value(result, index);
        emitter_.set_ahead(std::nullopt);
        code_.open(if_own());
        emitter_.store(result, index, y);
        code_.close();
        close_positions();
    }

    KernelDraft finish() {
        draft_.name = "squeeze";
        draft_.body = code_.text();
        draft_.helpers = std::string(kernel_text("hopper")) + std::string(kernel_text("squeeze"));
        draft_.arch = "sm_90a";
        draft_.grid = {static_cast<unsigned>(problem_.images / tiles_.images * tiles_.blocks)};
        draft_.block = {static_cast<unsigned>(tiles_.threads)};
        draft_.cluster = {static_cast<unsigned>(tiles_.blocks)};
        draft_.shared_bytes = shared_bytes_;
        draft_.blocks_per_sm = 512 / tiles_.threads;
        return std::move(draft_);
    }

    static constexpr std::int64_t kMostBeside = 8;  // vectors of the image

    Placement& placement_;
    const Group& group_;
    const Squeeze& problem_;
    const SqueezeTiles& tiles_;
    std::vector<Value> heads_;
    KernelDraft draft_;
    Code code_;
    Emitter emitter_;
    std::map<std::string, std::string> names_;
    int lanes_;
    std::int64_t own_;          // channels of a block
    std::int64_t vectors_ = 0;  // of its channels
    std::int64_t team_ = 0;     // threads on an image, positions that they take at once, and
    std::int64_t down_ = 0;     // how often
    std::int64_t held_ = 0;
    std::int64_t parts_ = 0;  // of a mean, in shared memory
    bool exact_ = false;
    std::string type_;
    std::size_t shared_bytes_ = 0;
};

}  // namespace

void lower_squeeze(Placement& placement, const Group& group) {
    const Squeeze problem = squeeze_of(placement.graph(), group);
    const SqueezeTiles tiles = forced_squeeze_tiles()
                                   ? *forced_squeeze_tiles()
                                   : problem.sensible_tiles(placement.plan().device.sm_count).at(0);
    if (const auto why = problem.why_not(tiles)) throw GraphError("squeeze and excite: " + *why);
    add_kernel_step(placement, group, SqueezeKernel(placement, group, problem, tiles).make());
    Step& step = placement.plan().steps.back();
    step.flops = problem.flops();
    step.reason += ", " + to_string(tiles);
}

}  // namespace kn::cuda
