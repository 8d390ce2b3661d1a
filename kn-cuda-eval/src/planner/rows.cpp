#include "planner/rows.h"

#include <algorithm>
#include <optional>
#include <set>

namespace kn::cuda {

namespace {

/// A digit of an index of the root, or a loop counter (axis >= kInner).
struct Piece {
    int axis;
    std::int64_t divisor, extent;
    auto operator<=>(const Piece&) const = default;
};
constexpr int kInner = 1000;

/// What the index along one axis of a value consists of: these digits, outermost first, or
/// (not exact) some function of them, which (not sure) is an index of the value for some only.
struct Tag {
    std::vector<Piece> pieces;
    bool exact = true;
    bool sure = true;
    auto operator<=>(const Tag&) const = default;
};
using Tags = std::vector<Tag>;

Tag all_of(const Tags& tags) {
    Tag result;
    result.exact = false;
    for (const Tag& tag : tags) {
        result.pieces.insert(result.pieces.end(), tag.pieces.begin(), tag.pieces.end());
        result.sure = result.sure && tag.sure;
    }
    return result;
}

/// The digits of a number in `extents` for the digits of the same number in other extents.
std::optional<Tags> regroup(const Tags& from, const Ints& extents) {
    std::vector<Piece> rest;
    for (const Tag& tag : from) {
        if (!tag.exact) return std::nullopt;
        rest.insert(rest.end(), tag.pieces.begin(), tag.pieces.end());
    }
    Tags result(extents.size());
    for (std::size_t i = extents.size(); i-- > 0;) {
        std::int64_t need = extents[i];
        auto& pieces = result[i].pieces;
        while (need > 1) {
            if (rest.empty()) return std::nullopt;
            Piece& last = rest.back();
            if (need % last.extent == 0) {
                need /= last.extent;
                pieces.insert(pieces.begin(), last);
                rest.pop_back();
            } else if (last.extent % need == 0) {
                pieces.insert(pieces.begin(), {last.axis, last.divisor, need});
                last = {last.axis, last.divisor * need, last.extent / need};
                need = 1;
            } else {
                return std::nullopt;
            }
        }
    }
    return rest.empty() ? std::optional(result) : std::nullopt;
}

bool contains(const Ints& axes, std::size_t axis) {
    return std::find(axes.begin(), axes.end(), static_cast<std::int64_t>(axis)) != axes.end();
}

class Analyser {
  public:
    Analyser(const Graph& graph, Value root, const std::function<bool(Value)>& is_leaf)
        : graph_(graph), root_(root), is_leaf_(is_leaf) {}

    RowAnalysis run() {
        Tags tags;
        extents_ = shape(root_);
        for (std::size_t i = 0; i < extents_.size(); ++i) {
            tags.emplace_back();
            if (extents_[i] != 1) tags.back().pieces = {{static_cast<int>(i), 1, extents_[i]}};
        }
        root_tags_ = tags;
        visit(root_, tags);
        RowAnalysis result;
        result.leaves = leaves_;
        if (found_.empty()) return result;
        // The longest reduction says what a row is.
        const auto best = std::max_element(found_.begin(), found_.end(),
                                           [](auto& a, auto& b) { return a.count < b.count; });
        const std::vector<RowAnalysis::Axis> axes = digits(*best);
        const std::set<std::size_t> rows = covered(axes, best->depends);
        std::int64_t length = 1;
        std::set<std::size_t> along;
        for (std::size_t i = 0; i < axes.size(); ++i) {
            if (rows.count(i)) {
                result.parallel.push_back(axes[i]);
            } else {
                result.along.push_back(axes[i]);
                length *= axes[i].extent;
                along.insert(i);
            }
        }
        std::set<std::uint32_t> bad, seen;
        for (const Found& found : found_)
            if (covered(axes, found.depends) != rows || inner_loop(found.depends) ||
                !found.depends.sure)
                bad.insert(found.value.index);
        for (const Found& found : found_) {
            const bool is_new = seen.insert(found.value.index).second;
            const bool same_places = is_new && found.same_row && found.reduced.exact &&
                                     found.count == length && covered(axes, found.reduced) == along;
            if (!same_places) moved_.insert(found.value.index);
            if (!is_new) continue;
            (bad.count(found.value.index) ? result.others : result.reductions)
                .push_back(found.value);
            if (!bad.count(found.value.index))
                result.longest = std::max(result.longest, found.count);
        }
        for (const Value& value : result.reductions)
            if (!moved_.count(value.index)) result.in_place.insert(value.index);
        std::reverse(result.reductions.begin(), result.reductions.end());
        result.aligned = aligned_;
        return result;
    }

  private:
    struct Found {
        Value value;
        Tag depends;
        std::int64_t count;
        Tag reduced;    // Softmax, Norm: the index along the reduced axes; else not exact
        bool same_row;  // read at one place of the other axes
    };

    static bool inner_loop(const Tag& tag) {
        return std::any_of(tag.pieces.begin(), tag.pieces.end(),
                           [](const Piece& piece) { return piece.axis >= kInner; });
    }

    /// The root's axes, cut where this reduction's index cuts them.
    std::vector<RowAnalysis::Axis> digits(const Found& found) const {
        std::vector<RowAnalysis::Axis> result;
        for (std::size_t i = 0; i < extents_.size(); ++i) {
            if (extents_[i] == 1) continue;
            std::set<std::int64_t> cuts{1, extents_[i]};
            for (const Tag* tag : {&found.depends, &found.reduced})
                for (const Piece& piece : tag->pieces)
                    if (piece.axis == static_cast<int>(i)) {
                        cuts.insert(piece.divisor);
                        cuts.insert(piece.divisor * piece.extent);
                    }
            std::vector<std::int64_t> sorted(cuts.rbegin(), cuts.rend());
            for (std::size_t k = 0; k + 1 < sorted.size(); ++k)
                if (sorted[k] % sorted[k + 1] != 0) sorted = {extents_[i], 1};
            for (std::size_t k = 0; k + 1 < sorted.size(); ++k)
                result.push_back({i, sorted[k + 1], sorted[k] / sorted[k + 1]});
        }
        return result;
    }

    /// The digits that have a part in the tag.
    static std::set<std::size_t> covered(const std::vector<RowAnalysis::Axis>& axes,
                                         const Tag& tag) {
        std::set<std::size_t> result;
        for (std::size_t i = 0; i < axes.size(); ++i)
            for (const Piece& piece : tag.pieces)
                if (piece.axis == static_cast<int>(axes[i].root) &&
                    piece.divisor < axes[i].divisor * axes[i].extent &&
                    axes[i].divisor < piece.divisor * piece.extent)
                    result.insert(i);
        return result;
    }

    Ints shape(Value value) const { return graph_.shape(value).to_ints(); }

    void visit(Value value, const Tags& tags) {
        if (!seen_.insert({value.index, tags}).second) return;
        if (value != root_ && is_leaf_(value)) {
            if (std::find(leaves_.begin(), leaves_.end(), value) == leaves_.end())
                leaves_.push_back(value);
            return;
        }
        if (value != root_ && tags == root_tags_) aligned_.push_back(value);
        const Operation& operation = graph_[value].operation;
        const std::int64_t count = reduced_count(graph_, value);
        if (count > 0) {
            const Ints axes = reduced_axes(operation);
            const Value x = inputs_of(operation).at(0);
            const bool keeps = keeps_axes(operation);
            Tags inner, kept;
            Tag reduced;
            reduced.exact = keeps;
            std::size_t next = 0;
            const Ints extents = shape(x);
            for (std::size_t i = 0; i < extents.size(); ++i) {
                if (contains(axes, i)) {
                    inner.emplace_back();
                    if (extents[i] != 1) inner.back().pieces = {{kInner + inner_++, 1, extents[i]}};
                    if (!keeps) continue;
                    const Tag& tag = tags[next++];
                    reduced.exact = reduced.exact && tag.exact;
                    reduced.pieces.insert(reduced.pieces.end(), tag.pieces.begin(),
                                          tag.pieces.end());
                } else {
                    kept.push_back(tags[next]);
                    inner.push_back(tags[next++]);
                }
            }
            const bool same_row = std::ranges::all_of(kept, &Tag::exact);
            if (is_long_reduction(graph_, value))
                found_.push_back({value, all_of(kept), count, reduced, same_row});
            visit(x, inner);
            if (keeps) visit(x, tags);
            return;
        }
        for (std::size_t i = 0; i < inputs_of(operation).size(); ++i)
            descend(value, operation, i, tags);
    }

    void descend(Value value, const Operation& operation, std::size_t which, const Tags& tags) {
        const Value x = inputs_of(operation)[which];
        const std::size_t rank = graph_.shape(x).rank();
        if (is_elementwise(operation) || std::holds_alternative<op::BitCast>(operation))
            return visit(x, tags);
        if (is_any_of<op::Slice, op::Concat>(operation) ||
            (std::holds_alternative<op::Pad>(operation) && which == 0)) {
            const auto* slice = std::get_if<op::Slice>(&operation);
            const Ints from = shape(x), to = shape(value);
            Tags inner = tags;
            for (std::size_t i = 0; i < rank; ++i) {
                if (from[i] == to[i] && (!slice || slice->steps[i] == 1)) continue;
                inner[i].exact = false;
                inner[i].sure = inner[i].sure && slice;
            }
            return visit(x, inner);
        }
        if (const auto* permute = std::get_if<op::Permute>(&operation)) {
            Tags inner(rank);
            for (std::size_t i = 0; i < rank; ++i)
                inner[static_cast<std::size_t>(permute->perm[i])] = tags[i];
            return visit(x, inner);
        }
        if (std::holds_alternative<op::Broadcast>(operation)) {
            const Ints extents = shape(x);
            Tags inner = tags;
            for (std::size_t i = 0; i < rank; ++i)
                if (extents[i] == 1) inner[i] = {};
            return visit(x, inner);
        }
        if (std::holds_alternative<op::Reshape>(operation))
            return visit(x, reshaped(value, x, tags));
        if (const auto* window = std::get_if<op::Window>(&operation)) {
            Tags inner(tags.begin(), tags.begin() + static_cast<std::ptrdiff_t>(rank));
            for (std::size_t j = 0; j < window->axes.size(); ++j) {
                Tag& tag = inner[static_cast<std::size_t>(window->axes[j])];
                tag = all_of({tag, tags[rank + j]});
            }
            return visit(x, inner);
        }
        if (const auto* gather = std::get_if<op::Gather>(&operation)) {
            const auto axis = static_cast<std::ptrdiff_t>(gather->axis);
            const auto count = static_cast<std::ptrdiff_t>(graph_.shape(gather->indices).rank());
            const Tags position(tags.begin() + axis, tags.begin() + axis + count);
            if (which == 1) return visit(x, position);
            Tags inner(tags.begin(), tags.begin() + axis);
            inner.push_back(all_of(position));
            inner.insert(inner.end(), tags.begin() + axis + count, tags.end());
            return visit(x, inner);
        }
        // Others: every axis may depend on everything.
        visit(x, Tags(rank, all_of(tags)));
    }

    Tags reshaped(Value value, Value x, const Tags& tags) const {
        const Ints from = shape(x), to = shape(value);
        Tags inner(from.size());
        std::size_t i = 0, j = 0;
        while (i < from.size() || j < to.size()) {
            const std::size_t i_start = i, j_start = j;
            std::int64_t size_from = 1, size_to = 1;
            if (i < from.size()) size_from = from[i++];
            if (j < to.size()) size_to = to[j++];
            while (size_from != size_to) {
                if (size_from < size_to && i < from.size())
                    size_from *= from[i++];
                else if (j < to.size())
                    size_to *= to[j++];
                else
                    size_from *= from[i++];
            }
            const Tags run(tags.begin() + static_cast<std::ptrdiff_t>(j_start),
                           tags.begin() + static_cast<std::ptrdiff_t>(j));
            const Ints wanted(from.begin() + static_cast<std::ptrdiff_t>(i_start),
                              from.begin() + static_cast<std::ptrdiff_t>(i));
            const auto exact = regroup(run, wanted);
            for (std::size_t k = i_start; k < i; ++k)
                if (exact)
                    inner[k] = (*exact)[k - i_start];
                else if (from[k] != 1)
                    inner[k] = all_of(run);
        }
        return inner;
    }

    const Graph& graph_;
    Value root_;
    const std::function<bool(Value)>& is_leaf_;
    Ints extents_;
    Tags root_tags_;
    std::set<std::uint32_t> moved_;
    std::set<std::pair<std::uint32_t, Tags>> seen_;
    std::vector<Value> leaves_, aligned_;
    std::vector<Found> found_;
    int inner_ = 0;
};

}  // namespace

Ints reduced_axes(const Operation& operation) {
    if (const auto* o = std::get_if<op::Reduce>(&operation)) return o->axes;
    if (const auto* o = std::get_if<op::ArgReduce>(&operation)) return {o->axis};
    if (const auto* o = std::get_if<op::Softmax>(&operation)) return {o->axis};
    if (const auto* o = std::get_if<op::Norm>(&operation)) return o->axes;
    return {};
}

bool keeps_axes(const Operation& operation) { return is_any_of<op::Softmax, op::Norm>(operation); }

std::int64_t reduced_count(const Graph& graph, Value value) {
    const Operation& operation = graph[value].operation;
    if (!std::holds_alternative<op::Reduce>(operation) &&
        !std::holds_alternative<op::ArgReduce>(operation) &&
        !std::holds_alternative<op::Softmax>(operation) &&
        !std::holds_alternative<op::Norm>(operation))
        return 0;
    const Shape& shape = graph.shape(inputs_of(operation).at(0));
    std::int64_t count = 1;
    for (const std::int64_t axis : reduced_axes(operation))
        count *= shape[static_cast<std::size_t>(axis)].value();
    return count;
}

bool is_long_reduction(const Graph& graph, Value value) {
    const std::int64_t count = reduced_count(graph, value);
    const Operation& operation = graph[value].operation;
    if (keeps_axes(operation)) return count > 4;
    const Value x = count > 0 ? inputs_of(operation).at(0) : value;
    return count > (graph.get_if<op::Window>(x) ? 256 : 16);
}

RowAnalysis analyse_rows(const Graph& graph, Value root,
                         const std::function<bool(Value)>& is_leaf) {
    return Analyser(graph, root, is_leaf).run();
}

}  // namespace kn::cuda
