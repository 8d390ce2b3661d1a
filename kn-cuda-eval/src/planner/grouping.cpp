#include <algorithm>
#include <queue>
#include <set>

#include "planner/group.h"
#include "planner/merge_products.h"
#include "planner/placement.h"
#include "planner/views.h"

namespace kn::cuda {

namespace {

bool is_leaf(const Graph& graph, Value value) {
    return graph.get_if<op::Input>(value) || !constant_parts(graph, value).empty();
}

TensorRef output_place(const Graph& graph, std::size_t number) {
    const Value output = graph.outputs()[number].value;
    TensorRef place;
    place.buffer = static_cast<std::uint32_t>(number);
    place.dtype = graph.dtype(output);
    place.shape = graph.shape(output).to_ints();
    place.strides = strides_for(place.shape, row_major(place.shape.size()));
    return place;
}

// The operands of a Concat that lies at `whole`.
std::vector<std::pair<Value, TensorRef>> parts_of(const Graph& graph, Value value,
                                                  TensorRef whole) {
    const auto* concat = graph.get_if<op::Concat>(value);
    KN_CHECK(concat);
    const auto axis = static_cast<std::size_t>(concat->axis);
    std::vector<std::pair<Value, TensorRef>> parts;
    for (const Value& input : concat->inputs) {
        whole.shape = graph.shape(input).to_ints();
        parts.emplace_back(input, whole);
        whole.offset += whole.shape[axis] * whole.strides[axis];
    }
    return parts;
}

}  // namespace

Grouping::Grouping(const Graph& graph, const DeviceProperties& device, const PlanOptions& options,
                   bool in_slices)
    : graph_(graph),
      device_(device),
      options_(options),
      in_slices_(in_slices),
      live_(graph.live()),
      users_(graph.size()),
      output_(graph.size()),
      stored_(graph.size()),
      grouped_(graph.size()),
      in_place_(graph.size()) {
    for (std::size_t i = 0; i < graph.outputs().size(); i++) {
        const Value output = graph.outputs()[i].value;
        const TensorRef whole = output_place(graph, i);
        if (in_slices) {
            std::erase(live_, output);
            for (auto& part : parts_of(graph, output, whole)) outputs_.push_back(std::move(part));
        } else {
            outputs_.emplace_back(output, whole);
        }
    }
    for (const Value& value : live_) {
        for (const Value& input : inputs_of(graph[value].operation)) {
            auto& users = users_[input.index];
            if (users.empty() || users.back() != value) users.push_back(value);
        }
        if (is_leaf(graph, value) || is_input_part(value) || graph.shape(value).size() == Dim(0))
            stored_[value.index] = grouped_[value.index] = true;
    }
    for (const auto& [value, place] : outputs_) output_[value.index] = stored_[value.index] = true;
}

const std::vector<Value>& Grouping::users(Value value) const { return users_[value.index]; }
bool Grouping::is_output(Value value) const { return output_[value.index]; }
bool Grouping::is_grouped(Value value) const { return grouped_[value.index]; }
bool Grouping::is_stored(Value value) const { return stored_[value.index]; }
bool Grouping::is_input_part(Value value) const {
    const auto* slice = in_slices_ ? graph_.get_if<op::Slice>(value) : nullptr;
    return slice && graph_.get_if<op::Input>(slice->x);
}
void Grouping::store(Value value) { stored_[value.index] = true; }

void Grouping::demand(Value value) {
    Value root = value;
    while (!is_stored(root)) {
        const auto x = viewed(graph_, root);
        if (!x) break;
        if (graph_.get_if<op::Reshape>(root)) {
            // Decided as if the operand were dense; another layout or an inner Permute may still
            // make it a copy.
            const Ints shape = graph_.shape(*x).to_ints();
            if (!reshape_strides(shape, strides_for(shape, row_major(shape.size())),
                                 graph_.shape(root).to_ints()))
                break;
        }
        root = *x;
    }
    store(root);
}

void Grouping::forget(Value value) {
    KN_CHECK(!is_output(value) && !is_grouped(value));
    stored_[value.index] = false;
}

bool Grouping::write_in_place(Value output, Value root) {
    if (is_leaf(graph_, root) || output_[root.index] || in_place_[root.index]) return false;
    in_place_[root.index] = true;
    stored_[output.index] = false;
    store(root);
    return true;
}

void Grouping::add(Group group, const std::vector<Value>& swallowed) {
    for (const Value& value : group.outputs) {
        KN_CHECK(!grouped_[value.index], "%" + std::to_string(value.index) + " is in two groups");
        stored_[value.index] = grouped_[value.index] = true;
    }
    for (const Value& value : swallowed) grouped_[value.index] = true;
    for (const Value& value : group.in_front) grouped_[value.index] = true;
    group.swallowed = swallowed;
    groups_.push_back(std::move(group));
}

void Grouping::decide(const std::string& rule, bool taken, Value where, const std::string& reason) {
    const Node& node = graph_[where];
    std::string text =
        "%" + std::to_string(where.index) + " " + std::string(name_of(node.operation));
    if (!node.origins.empty()) text += " " + printable(node.origins.front());
    decisions_.push_back({rule, taken, text, reason});
}

void apply_rules(Grouping& grouping) {
    const Graph& graph = grouping.graph();
    const auto& disabled = grouping.options().disabled_rules;
    for (const std::vector<Rule>& phase : rule_phases())
        for (auto it = grouping.live().rbegin(); it != grouping.live().rend(); ++it) {
            if (graph.get_if<op::Result>(*it)) continue;
            for (const Rule& rule : phase) {
                if (grouping.is_grouped(*it)) break;
                if (!disabled.count(std::string(rule.info.name))) rule.apply(grouping, *it);
            }
        }
}

std::vector<Value> reads_of(const Grouping& grouping, const Group& group) {
    const Graph& graph = grouping.graph();
    std::vector<Value> out, stack = group.outputs;
    std::set<std::uint32_t> seen;
    const std::set<std::uint32_t> own = [&] {
        std::set<std::uint32_t> indices;
        for (const Value& value : group.outputs) indices.insert(value.index);
        return indices;
    }();
    while (!stack.empty()) {
        const Value value = stack.back();
        stack.pop_back();
        for (const Value& input : inputs_of(graph[value].operation)) {
            if (own.count(input.index) || !seen.insert(input.index).second) continue;
            if (grouping.is_stored(input))
                out.push_back(input);
            else
                stack.push_back(input);
        }
    }
    return out;
}

std::vector<Group> sorted_groups(const Grouping& grouping) {
    const auto& groups = grouping.groups();
    std::map<std::uint32_t, std::size_t> producer;
    for (std::size_t i = 0; i < groups.size(); i++)
        for (const Value& value : groups[i].outputs) producer[value.index] = i;
    std::vector<std::vector<std::size_t>> next(groups.size());
    std::vector<int> waits(groups.size());
    for (std::size_t i = 0; i < groups.size(); i++) {
        std::set<std::size_t> before;
        for (const Value& value : reads_of(grouping, groups[i]))
            if (auto it = producer.find(value.index); it != producer.end())
                before.insert(it->second);
        for (const std::size_t j : before) next[j].push_back(i);
        waits[i] = static_cast<int>(before.size());
    }
    // Among those that are ready, the one whose last output comes first in the graph.
    const auto rank = [&](std::size_t i) {
        std::uint32_t last = 0;
        for (const Value& value : groups[i].outputs) last = std::max(last, value.index);
        return std::pair(last, i);
    };
    std::priority_queue<std::pair<std::uint32_t, std::size_t>,
                        std::vector<std::pair<std::uint32_t, std::size_t>>, std::greater<>>
        ready;
    for (std::size_t i = 0; i < groups.size(); i++)
        if (waits[i] == 0) ready.push(rank(i));
    std::vector<Group> out;
    while (!ready.empty()) {
        const std::size_t i = ready.top().second;
        ready.pop();
        out.push_back(groups[i]);
        for (const std::size_t j : next[i])
            if (--waits[j] == 0) ready.push(rank(j));
    }
    KN_CHECK(out.size() == groups.size(), "groups wait for each other");
    return out;
}

}  // namespace kn::cuda
