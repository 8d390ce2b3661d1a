#include "lower/squeeze_rows.h"

#include <algorithm>

#include <fmt/core.h>

namespace kn::cuda {

namespace {

std::int64_t units(const Squeeze& problem) {
    return static_cast<std::int64_t>(problem.shifts.size());
}

}  // namespace

SqueezeRows::SqueezeRows(Placement& placement, const Group& group, const Squeeze& problem,
                         Code& code, KernelOperands& operands, Emitter& emitter, Place place)
    : placement_(placement),
      group_(group),
      problem_(problem),
      code_(code),
      operands_(operands),
      emitter_(emitter),
      place_(std::move(place)),
      heads_(heads_of(group)),
      first_(code, problem, place_.tiles, 'a', place_.own, problem.hidden),
      second_(code, problem, place_.tiles, 'b', problem.hidden, units(problem) * place_.own) {}

std::int64_t SqueezeRows::first_elements(const Squeeze& problem, const SqueezeTiles& tiles,
                                         std::int64_t own) {
    Code none;
    return SqueezeProduct(none, problem, tiles, 'a', own, problem.hidden).row_elements();
}

std::int64_t SqueezeRows::second_elements(const Squeeze& problem, const SqueezeTiles& tiles) {
    Code none;
    return SqueezeProduct(none, problem, tiles, 'b', problem.hidden, 8).row_elements();
}

std::string SqueezeRows::weight(const char* product) {
    const Value value = small_product(graph(), role(product))->weight;
    const std::size_t rank = graph().shape(value).rank();
    const AxisOrder order = rank == 2 ? AxisOrder{1, 0} : row_major(rank);
    return operands_.pointer(placement_.constant(value, problem_.dtype, order), Access::Read,
                             "weight");
}

void SqueezeRows::hold_first() {
    first_.hold(weight("producta"), "tile * 8 + row", problem_.channels,
                place_.first.empty() ? "0" : place_.first);
}

void SqueezeRows::hold_second() {
    const std::int64_t own = place_.own;
    // The block's channels, as often as the result reads them.
    std::string shift = std::to_string(problem_.shifts.back());
    for (std::size_t u = problem_.shifts.size() - 1; u-- > 0;)
        shift = fmt::format("tile < {} ? {} : {}", static_cast<std::int64_t>(u + 1) * (own / 8),
                            problem_.shifts[u], shift);
    second_.hold(weight("productb"),
                 fmt::format("({}) + {}tile % {} * 8 + row", shift,
                             place_.first.empty() ? "" : place_.first + " + ", own / 8),
                 problem_.hidden, "0");
}

void SqueezeRows::clear_ends() {
    first_.clear_ends();
    second_.clear_ends();
}

void SqueezeRows::ahead(const std::string& inside, const std::function<void()>& body) {
    code_.open(inside.empty() ? "" : fmt::format("if ({})", inside));
    emitter_.push_scope();
    emitter_.set_ahead(Emitter::Ahead{place_.outside, "none", "none", 1, ""});
    body();
    emitter_.set_ahead(std::nullopt);
    emitter_.pop_scope();
    code_.close();
}

/// body(number) for numbers below `count`, shared by the block's threads.
void SqueezeRows::each(const std::string& name, std::int64_t count,
                       const std::function<void(const std::string&)>& body) {
    const std::int64_t threads = place_.tiles.threads;
    for (std::int64_t first = 0; first < count; first += threads) {
        const bool whole = first + threads <= count;
        const std::string number = code_.fresh(name);
        const std::string plain = first == 0 ? "thread" : fmt::format("thread + {}", first);
        emitter_.in_scope(place_.outside, [&] {
            code_.line(fmt::format("const int {} = {};", number,
                                   whole ? plain : fmt::format("min({}, {})", plain, count - 1)));
            math().variable(number, count);
        });
        ahead(whole ? "" : fmt::format("{} < {}", plain, count),
              [&] { body(count == 1 ? std::string("0") : number); });
    }
}

/// The index of a row [N, C] or image of one pixel.
Index SqueezeRows::index_of(Value value, const std::string& image, const std::string& column) {
    Index index(graph().shape(value).rank(), "0");
    index[0] = math().add(math().mul(place_.set, place_.tiles.images), image);
    index[1] = column;
    return index;
}

std::string SqueezeRows::channel(const std::string& own) {
    return place_.first.empty() ? own : math().add(place_.first, own);
}

void SqueezeRows::keep_means(const WriteTotal& write, const std::optional<Value>& bias) {
    const Value mean = role("mean");
    const auto& reduce = std::get<op::Reduce>(graph()[mean].operation);
    each("mean", place_.tiles.images * place_.own, [&](const std::string& number) {
        const Index digits = math().split(number, {place_.tiles.images, place_.own});
        write(number, digits[0], digits[1]);
        if (reduce.op == ReduceOp::Mean)
            code_.line(fmt::format("total = total / {}.0f;", problem_.positions));
        if (bias)
            code_.line(
                fmt::format("total += {};",
                            emitter_.value(*bias, index_of(*bias, digits[0], channel(digits[1])))));
        emitter_.provide(mean, [](const Index&) { return std::string("total"); });
        const Value rows = small_product(graph(), role("producta"))->rows;
        first_.keep(digits[0], digits[1],
                    emitter_.value(rows, index_of(rows, digits[0], channel(digits[1]))));
    });
}

void SqueezeRows::keep_hidden() {
    const std::int64_t count = place_.tiles.images * problem_.hidden;
    each("unit", count, [&](const std::string& number) {
        code_.line(fmt::format("float total = hidden[{}];", number));
        if (place_.tiles.blocks > 1)
            code_.line(
                fmt::format("KN_UNROLL for (int b = 1; b < {}; ++b) total += "
                            "hidden[b * {} + {}];",
                            place_.tiles.blocks, count, number));
        emitter_.provide(role("producta"), [](const Index&) { return std::string("total"); });
        const Index digits = math().split(number, {place_.tiles.images, problem_.hidden});
        const Value rows = small_product(graph(), role("productb"))->rows;
        second_.keep(digits[0], digits[1],
                     emitter_.value(rows, index_of(rows, digits[0], digits[1])));
    });
}

void SqueezeRows::multiply_second() {
    second_.multiply(
        fmt::format("sums[(tile / {0} * {1} + of) * {2} + tile % {0} * 8 + column] = x;",
                    place_.own / 8, place_.tiles.images, place_.own));
}

void SqueezeRows::provide_second(const std::string& channel,
                                 const std::function<std::string(std::int64_t)>& sum) {
    emitter_.provide(role("productb"), [this, channel, sum](const Index& index) {
        const auto shift = math().constant(math().add(index[1], math().mul(channel, -1)));
        KN_CHECK(shift, "a head reads a column that is not its channel's");
        const auto unit = std::ranges::find(problem_.shifts, *shift);
        KN_CHECK(unit != problem_.shifts.end());
        return emitter_.define("float", sum(unit - problem_.shifts.begin()));
    });
}

void SqueezeRows::find_heads() {
    const std::int64_t count = place_.tiles.images * place_.own;
    code_.line("kn_sync();");
    each("channel", count, [&](const std::string& number) {
        const Index digits = math().split(number, {place_.tiles.images, place_.own});
        const std::string column = channel(digits[1]);
        provide_second(column, [&](std::int64_t unit) {
            return fmt::format("sums[{} + {}]", unit * count, number);
        });
        for (std::size_t i = 0; i < heads_.size(); ++i) {
            const std::string value =
                emitter_.value(heads_[i], index_of(heads_[i], digits[0], column));
            code_.line(fmt::format("heads[{} + {}] = {};", static_cast<std::int64_t>(i) * count,
                                   number, value));
        }
    });
    code_.line("kn_sync();");
}

void SqueezeRows::each_share(
    std::int64_t shares, std::int64_t numbers,
    const std::function<void(const std::string&, const std::string&, const std::string&)>& body) {
    const std::int64_t channels = place_.own;
    const bool whole = channels % (place_.tiles.threads / 32 * 16) == 0;
    for (std::int64_t i = 0; i < shares; ++i) {
        const std::string own = code_.fresh("channel"), image = code_.fresh("image");
        const std::string number = fmt::format("kn_channel_of({})", i);
        emitter_.in_scope(place_.outside, [&] {
            code_.line(fmt::format(
                "const int {} = {}, {} = kn_image_of({} % kn_shares_a_block);", own,
                whole ? number : fmt::format("min({}, {})", number, channels - 1), image, i));
            math().variable(own, channels);
            math().variable(image, place_.tiles.images);
        });
        std::string inside = place_.tiles.images == 1 ? "kn_has_shares()" : "";
        if (!whole)
            inside += fmt::format("{}{} < {}", inside.empty() ? "" : " && ", number, channels);
        ahead(inside, [&] {
            provide_second(channel(own), [&](std::int64_t unit) {
                return fmt::format("shares[{}][{}]", i, unit);
            });
            const std::string at = code_.fresh("place");
            code_.line(fmt::format("const int {0} = ({1} * {2} + {3} / 2) * {4} + {3} % 2;", at,
                                   image, channels / 2, own, 2 * numbers));
            body(image, channel(own), at);
        });
    }
}

void SqueezeRows::find_heads_of_shares(std::int64_t shares) {
    const auto numbers = static_cast<std::int64_t>(heads_.size());
    each_share(
        shares, numbers,
        [&](const std::string& image, const std::string& own, const std::string& at) {
            for (std::size_t i = 0; i < heads_.size(); ++i)
                code_.line(fmt::format("heads[{} + {}] = {};", at, 2 * i,
                                       emitter_.value(heads_[i], index_of(heads_[i], image, own))));
        });
}

void SqueezeRows::find_scale_of_shares(std::int64_t shares, Value scale,
                                       const std::optional<Value>& shift,
                                       const std::optional<Value>& bias) {
    each_share(
        shares, 2, [&](const std::string& image, const std::string& own, const std::string& at) {
            const auto value = [&](Value row) {
                return emitter_.value(row, index_of(row, image, own));
            };
            const std::string factor = value(scale);
            const std::string added = shift ? value(*shift) : "0.0f";
            code_.line(fmt::format("heads[{}] = {};", at, factor));
            code_.line(fmt::format(
                "heads[{} + 2] = {};", at,
                bias ? fmt::format("fmaf({}, {}, {})", value(*bias), factor, added) : added));
        });
}

}  // namespace kn::cuda
