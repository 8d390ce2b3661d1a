#include "lower/squeeze.h"

#include <algorithm>
#include <map>

#include <fmt/core.h>

#include "planner/ceil_div.h"
#include "planner/merge_products.h"

namespace kn::cuda {

namespace {

constexpr std::int64_t kMostShared = 64 << 10;
constexpr std::int64_t kMostVectors = 20;  // of 16 bytes that a thread holds at once

std::int64_t bytes_of_weights(const Squeeze& s) {
    const auto units = static_cast<std::int64_t>(s.shifts.size());
    return s.hidden * s.channels * (1 + units) * static_cast<std::int64_t>(size_of(s.dtype));
}

std::int64_t bytes_of_image(const Squeeze& s) {
    return s.channels * s.positions * static_cast<std::int64_t>(size_of(s.dtype));
}

// Microseconds, by a model fitted to measurements of an H200: an image is read, and so is what is
// added to it, and the result written.
double time_of(const Squeeze& s, const SqueezeTiles& tiles, int sm_count) {
    const double blocks =
        static_cast<double>(s.images) / tiles.images * static_cast<double>(tiles.blocks);
    const double bytes =
        static_cast<double>(3 * tiles.images * bytes_of_image(s) + bytes_of_weights(s)) /
        tiles.blocks;
    const bool crowded = blocks * tiles.threads > 256.0 * sm_count, large = tiles.threads > 256;
    const double at_once = 512.0 / tiles.threads;
    // Parts of the device have no room for another large cluster.
    const double filled = tiles.blocks == 8 ? 0.85 : tiles.blocks == 4 ? 0.91 : 1;
    double waves = blocks / (sm_count * at_once * filled);
    waves = waves <= 1 ? 1 : std::max(waves, 1.35);
    const double copies = crowded ? bytes * at_once / 48e3 : bytes / 60e3;
    const double waits = tiles.blocks == 8 ? 2.2 : tiles.blocks == 4 && crowded ? 1.4 : 1;
    const double alone = !large ? 0 : waves == 1 ? 1.2 : 1.8;  // nobody else uses its waits
    return 1.4 + waves * (copies + waits + alone);
}

// Of the products and of what is behind them: 256 images of 256x8x8 8.9 us, 512, which with the
// result and what is added exceed L2, 20.6, 1024 37.6.
double time_apart(const Squeeze& s) {
    constexpr double launches = 4.5, room = 45e6, rate_in_l2 = 7.5e6, rate_beyond = 4.1e6;
    const auto image = static_cast<double>(s.images * bytes_of_image(s));
    return launches + 4 * image / (3 * image <= room ? rate_in_l2 : rate_beyond);
}

bool all_are(const std::vector<Dim>& values, std::int64_t expected) {
    return std::ranges::all_of(values, [&](const Dim& value) { return value == Dim(expected); });
}

// The way from a row back to a product, element by element.
class Shifts {
  public:
    Shifts(const Graph& graph, Value product) : graph_(graph), product_(product) {}

    /// Whether `value` reads the product, and only so.
    bool go(Value value, std::int64_t shift) {
        if (value == product_) {
            if (std::ranges::find(found, shift) == found.end()) found.push_back(shift);
            return true;
        }
        if (value.index < product_.index) return true;
        const Operation& operation = graph_[value].operation;
        const std::vector<Value> inputs = inputs_of(operation);
        if (const auto* slice = std::get_if<op::Slice>(&operation)) {
            const Shape &from = graph_.shape(slice->x), &to = slice->shape;
            const bool columns = from[0] == to[0] && slice->steps[1] == 1;
            return columns ? go(slice->x, shift + slice->starts[1].value()) : !reads(value);
        }
        if (const auto* reshape = std::get_if<op::Reshape>(&operation)) {
            const Shape &from = graph_.shape(reshape->x), &to = reshape->shape;
            const bool same =
                from.rank() >= 2 && to.rank() >= 2 && from[0] == to[0] && from[1] == to[1];
            return same ? go(reshape->x, shift) : !reads(value);
        }
        if (!is_elementwise(operation)) return !reads(value);
        return std::ranges::all_of(inputs, [&](const Value& x) { return go(x, shift); });
    }

    std::vector<std::int64_t> found;

  private:
    bool reads(Value value) {
        if (value.index <= product_.index) return value == product_;
        const auto known = reads_.find(value.index);
        if (known != reads_.end()) return known->second;
        bool result = false;
        for (const Value& x : inputs_of(graph_[value].operation)) result |= reads(x);
        return reads_[value.index] = result;
    }

    const Graph& graph_;
    Value product_;
    std::map<std::uint32_t, bool> reads_;
};

}  // namespace

std::vector<Value> heads_of(const Group& group) {
    std::vector<Value> heads;
    for (const auto& [role, value] : group.roles)
        if (role.starts_with("head")) heads.push_back(value);
    return heads;
}

std::optional<SmallProduct> small_product(const Graph& graph, Value value) {
    SmallProduct product;
    if (const auto* matmul = graph.get_if<op::MatMul>(value)) {
        if (graph.shape(matmul->a).rank() != 2 || graph.shape(matmul->b).rank() != 2)
            return std::nullopt;
        product = {matmul->a, matmul->b};
    } else if (const auto* conv = graph.get_if<op::Conv>(value)) {
        const auto is_pixel = [&](const Shape& shape) {
            return std::all_of(shape.begin() + 2, shape.end(),
                               [](const Dim& dim) { return dim == Dim(1); });
        };
        if (conv->groups != 1 || !is_pixel(graph.shape(conv->x)) ||
            !is_pixel(graph.shape(conv->w)) || !is_pixel(graph.shape(value)) ||
            !all_are(conv->pads_before, 0) || !all_are(conv->pads_after, 0))
            return std::nullopt;
        product = {conv->x, conv->w};
    } else {
        return std::nullopt;
    }
    if (constant_parts(graph, product.weight).empty()) return std::nullopt;
    product.terms = graph.shape(product.rows).to_ints()[1];
    product.columns = graph.shape(value).to_ints()[1];
    return product;
}

std::optional<std::vector<std::int64_t>> shifts_of(const Graph& graph, Value head, Value product) {
    Shifts shifts(graph, product);
    if (!shifts.go(head, 0)) return std::nullopt;
    std::ranges::sort(shifts.found);
    return shifts.found;
}

Squeeze squeeze_of(const Graph& graph, const Group& group) {
    Squeeze squeeze;
    const Value second = group.roles.at("productb");
    const Ints shape = graph.shape(group.roles.at("squeezed")).to_ints();
    squeeze.dtype = graph.dtype(second);
    squeeze.images = shape[0];
    squeeze.channels = shape[1];
    squeeze.positions = checked_size(Ints(shape.begin() + 2, shape.end()));
    squeeze.hidden = small_product(graph, group.roles.at("producta"))->columns;
    for (const Value& head : heads_of(group)) {
        const auto shifts = shifts_of(graph, head, second);
        KN_CHECK(shifts);
        for (const std::int64_t shift : *shifts)
            if (std::ranges::find(squeeze.shifts, shift) == squeeze.shifts.end())
                squeeze.shifts.push_back(shift);
    }
    std::ranges::sort(squeeze.shifts);
    return squeeze;
}

int Squeeze::lanes() const { return static_cast<int>(16 / size_of(dtype)); }

std::int64_t Squeeze::held(const SqueezeTiles& t) const {
    const std::int64_t vectors = channels / t.blocks / lanes();
    return ceil_div(positions, t.threads / t.images / vectors);
}

std::int64_t Squeeze::held_weights(const SqueezeTiles& t) const {
    const std::int64_t own = channels / t.blocks, warps = t.threads / 32, block = 4 * lanes();
    const auto units = static_cast<std::int64_t>(shifts.size());
    return ceil_div(ceil_div(hidden, 8), warps) * ceil_div(own, block) +
           ceil_div(units * own / 8, warps) * ceil_div(hidden, block);
}

std::optional<std::string> Squeeze::why_not(const SqueezeTiles& t) const {
    const auto refuse = [](std::string reason) { return std::optional(std::move(reason)); };
    if (images % t.images != 0 || t.threads % t.images != 0)
        return refuse(fmt::format("{} images are not shared out by {}", images, t.images));
    if (channels % (8 * t.blocks) != 0)
        return refuse(fmt::format("{} channels are not shared out by eights", channels));
    const std::int64_t own = channels / t.blocks, threads = t.threads / t.images;
    if (own / lanes() > threads) return refuse(fmt::format("{} channels are too many", own));
    if (held(t) + held_weights(t) > kMostVectors)
        return refuse(
            fmt::format("{} positions of {} channels and {} weights do not fit "
                        "registers",
                        positions, own, bytes_of_weights(*this) / 2));
    const auto units = static_cast<std::int64_t>(shifts.size());
    const std::int64_t numbers =
        t.images * (t.blocks * hidden + (2 * units + threads / 32 + 1) * own);
    if (numbers * 4 > kMostShared)
        return refuse("what the products give does not fit shared memory");
    constexpr std::int64_t most_rounds = 4;
    if (ceil_div(t.images * std::max(hidden, own), t.threads) > most_rounds)
        return refuse("there are too many columns for so few threads");
    return std::nullopt;
}

std::optional<std::string> Squeeze::why_not() const {
    if (dtype != DType::F32 && !is_half(dtype)) return "it is for float32 and half types";
    if (channels % 8 != 0) return fmt::format("{} channels are not whole vectors", channels);
    if (hidden % lanes() != 0) return fmt::format("{} columns are not whole vectors", hidden);
    if (positions == 0 || images == 0) return "the image is empty";
    return std::nullopt;
}

std::int64_t Squeeze::flops() const {
    return 2 * images * hidden * static_cast<std::int64_t>(shifts.size() + 1) * channels;
}

double Squeeze::time_alone(int sm_count) const {
    const auto tiles = sensible_tiles(sm_count);
    const double apart = time_apart(*this);
    return tiles.empty() ? apart : std::min(apart, time_of(*this, tiles[0], sm_count));
}

std::optional<std::string> Squeeze::why_apart(int sm_count) const {
    const auto tiles = sensible_tiles(sm_count);
    if (tiles.empty()) return why_not(SqueezeTiles{1, 8, 512});
    // Twice the bytes, and products without tensor cores: 24 us against 19 for 256 images of 16384.
    if (dtype == DType::F32 && images * channels * positions > (1 << 20))
        return "it is not better for so much float32";
    const double together = time_of(*this, tiles[0], sm_count);
    if (together <= time_apart(*this)) return std::nullopt;
    return fmt::format("by the model it takes {:.1f} us, steps apart {:.1f}", together,
                       time_apart(*this));
}

std::vector<SqueezeTiles> Squeeze::sensible_tiles(int sm_count) const {
    std::vector<std::pair<double, SqueezeTiles>> found;
    for (const int blocks : {1, 2, 4, 8})
        for (const int together : {1, 2, 4, 8})
            for (const int threads : {256, 512}) {
                const SqueezeTiles tiles{together, blocks, threads};
                if (!why_not(tiles)) found.emplace_back(time_of(*this, tiles, sm_count), tiles);
            }
    std::ranges::stable_sort(found, {}, [](const auto& each) { return each.first; });
    std::vector<SqueezeTiles> result;
    for (const auto& [time, tiles] : found) result.push_back(tiles);
    return result;
}

std::string to_string(const SqueezeTiles& t) {
    return fmt::format("{} images by {} blocks of {} threads", t.images, t.blocks, t.threads);
}

std::optional<SqueezeTiles>& forced_squeeze_tiles() {
    static thread_local std::optional<SqueezeTiles> tiles;
    return tiles;
}

}  // namespace kn::cuda
