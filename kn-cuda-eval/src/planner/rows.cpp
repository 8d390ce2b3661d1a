#include "planner/rows.h"

#include <algorithm>
#include <map>
#include <set>

namespace kn::cuda {

namespace {

using Axes = std::set<int>;        // root axes that an index depends on; from kInner: loop counters
using Tags = std::vector<Axes>;    // one for each axis of a value
constexpr int kInner = 1000;

Axes all_of(const Tags& tags) {
    Axes result;
    for (const Axes& axes : tags) result.insert(axes.begin(), axes.end());
    return result;
}

Ints reduced_axes(const Operation& operation) {
    if (const auto* o = std::get_if<op::Reduce>(&operation)) return o->axes;
    if (const auto* o = std::get_if<op::ArgReduce>(&operation)) return {o->axis};
    if (const auto* o = std::get_if<op::Softmax>(&operation)) return {o->axis};
    if (const auto* o = std::get_if<op::Norm>(&operation)) return o->axes;
    return {};
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
        const Ints extents = shape(root_);
        for (std::size_t i = 0; i < extents.size(); ++i)
            tags.push_back(extents[i] == 1 ? Axes{} : Axes{static_cast<int>(i)});
        root_tags_ = tags;
        visit(root_, tags);
        RowAnalysis result;
        result.leaves = leaves_;
        if (found_.empty()) return result;
        // The longest reduction says what a row is.
        const auto best = std::max_element(found_.begin(), found_.end(), [](auto& a, auto& b) {
            return a.count < b.count;
        });
        const Axes rows = best->depends;
        for (std::size_t i = 0; i < extents.size(); ++i) {
            const bool parallel = rows.count(static_cast<int>(i)) != 0;
            (parallel ? result.parallel : result.along).push_back(static_cast<std::int64_t>(i));
        }
        std::set<std::uint32_t> bad, seen;
        for (const Found& found : found_)
            if (found.depends != rows) bad.insert(found.value.index);
        for (const Found& found : found_) {
            if (!seen.insert(found.value.index).second) continue;
            (bad.count(found.value.index) ? result.others : result.reductions)
                .push_back(found.value);
            if (!bad.count(found.value.index))
                result.longest = std::max(result.longest, found.count);
        }
        std::reverse(result.reductions.begin(), result.reductions.end());
        result.aligned = aligned_;
        return result;
    }

  private:
    struct Found {
        Value value;
        Axes depends;
        std::int64_t count;
    };

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
            const bool keeps = std::holds_alternative<op::Softmax>(operation) ||
                               std::holds_alternative<op::Norm>(operation);
            Tags inner, kept;
            std::size_t next = 0;
            for (std::size_t i = 0; i < graph_.shape(x).rank(); ++i) {
                if (contains(axes, i)) {
                    inner.push_back({kInner + static_cast<int>(inner_++)});
                    if (keeps) ++next;
                } else {
                    kept.push_back(tags[next]);
                    inner.push_back(tags[next++]);
                }
            }
            if (is_long_reduction(graph_, value)) found_.push_back({value, all_of(kept), count});
            visit(x, inner);
            if (keeps) visit(x, tags);
            return;
        }
        for (std::size_t i = 0; i < inputs_of(operation).size(); ++i) descend(value, operation, i, tags);
    }

    void descend(Value value, const Operation& operation, std::size_t which, const Tags& tags) {
        const Value x = inputs_of(operation)[which];
        const std::size_t rank = graph_.shape(x).rank();
        if (std::holds_alternative<op::Unary>(operation) ||
            std::holds_alternative<op::Binary>(operation) ||
            std::holds_alternative<op::Select>(operation) ||
            std::holds_alternative<op::Cast>(operation) ||
            std::holds_alternative<op::BitCast>(operation) ||
            std::holds_alternative<op::Slice>(operation) ||
            std::holds_alternative<op::Concat>(operation) ||
            (std::holds_alternative<op::Pad>(operation) && which == 0))
            return visit(x, tags);
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
                if (extents[i] == 1) inner[i].clear();
            return visit(x, inner);
        }
        if (std::holds_alternative<op::Reshape>(operation)) return visit(x, reshaped(value, x, tags));
        if (const auto* window = std::get_if<op::Window>(&operation)) {
            Tags inner(tags.begin(), tags.begin() + static_cast<std::ptrdiff_t>(rank));
            for (std::size_t j = 0; j < window->axes.size(); ++j) {
                Axes& axes = inner[static_cast<std::size_t>(window->axes[j])];
                axes.insert(tags[rank + j].begin(), tags[rank + j].end());
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
            Axes axes;
            for (std::size_t k = j_start; k < j; ++k) axes.insert(tags[k].begin(), tags[k].end());
            for (std::size_t k = i_start; k < i; ++k)
                if (from[k] != 1) inner[k] = axes;
        }
        return inner;
    }

    const Graph& graph_;
    Value root_;
    const std::function<bool(Value)>& is_leaf_;
    Tags root_tags_;
    std::set<std::pair<std::uint32_t, Tags>> seen_;
    std::vector<Value> leaves_, aligned_;
    std::vector<Found> found_;
    std::size_t inner_ = 0;
};

}  // namespace

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
    if (std::holds_alternative<op::Softmax>(operation) ||
        std::holds_alternative<op::Norm>(operation))
        return count > 4;
    const Value x = count > 0 ? inputs_of(operation).at(0) : value;
    return count > (graph.get_if<op::Window>(x) ? 256 : 16);
}

RowAnalysis analyse_rows(const Graph& graph, Value root,
                         const std::function<bool(Value)>& is_leaf) {
    return Analyser(graph, root, is_leaf).run();
}

}  // namespace kn::cuda
