#include "rules/product_group.h"

#include <algorithm>

#include "lower/tensor_product.h"

namespace kn::cuda {

namespace {

constexpr int longest = 12;  // way up from the end

// Whether the libraries' epilogues have it.
bool is_usual(const Graph& graph, Value value) {
    const auto* binary = graph.get_if<op::Binary>(value);
    if (graph.get_if<op::Cast>(value)) return true;
    return binary && (binary->op == BinaryOp::Add || binary->op == BinaryOp::Max);
}

bool find(const Grouping& grouping, Value value, int depth, FoundProduct& found) {
    const Operation& operation = grouping.graph()[value].operation;
    if (is_any_of<op::MatMul, op::Conv>(operation)) {
        found.main = value;
        return true;
    }
    if (depth == 0 || !is_elementwise(operation)) return false;
    const std::vector<Value> operands = inputs_of(operation);
    for (const Value& inner : operands) {
        if (!is_inner(grouping, inner) || !find(grouping, inner, depth - 1, found)) continue;
        found.swallowed.push_back(inner);
        for (const Value& other : operands)
            if (other != inner) found.others.push_back(other);
        return true;
    }
    return false;
}

bool is_add(const Graph& graph, Value value) {
    const auto* binary = graph.get_if<op::Binary>(value);
    return binary && binary->op == BinaryOp::Add;
}

// The value as a product with nothing but sums behind it, if nobody else reads it.
std::optional<FoundProduct> found_also(const Grouping& grouping, Value value,
                                       const std::function<bool(Value)>& suits) {
    const Graph& graph = grouping.graph();
    if (!is_inner(grouping, value)) return std::nullopt;
    auto also = find_product(grouping, value);
    if (!also || !suits(also->main) || why_no_tensor_product(grouping, also->main))
        return std::nullopt;
    also->swallowed.push_back(value);
    const bool sums = std::ranges::all_of(also->swallowed, [&](const Value& inner) {
        return inner == also->main || is_add(graph, inner);
    });
    return sums ? also : std::nullopt;
}

}  // namespace

Group product_group(const Graph& graph, const std::string& rule, Value product, Value end) {
    const bool conv = graph.get_if<op::Conv>(product) != nullptr;
    const std::vector<Value> operands = inputs_of(graph[product].operation);
    Group group;
    group.kind = conv ? Group::Kind::Conv : Group::Kind::MatMul;
    group.own_kernel = true;
    group.channels_last = conv;
    group.anchor = product;
    group.outputs = {end};
    group.rule = rule;
    group.roles = {{conv ? "x" : "a", operands[0]}, {conv ? "w" : "b", operands[1]}};
    if (conv) group.roles["y"] = end;
    return group;
}

void demand_operand(Grouping& grouping, Value operand) {
    const auto* broadcast = grouping.graph().get_if<op::Broadcast>(operand);
    grouping.demand(broadcast ? broadcast->x : operand);
}

bool is_inner(const Grouping& grouping, Value value) {
    return grouping.has_one_user(value) && !grouping.is_grouped(value) &&
           !grouping.is_stored(value);
}

std::optional<FoundProduct> find_product(const Grouping& grouping, Value end) {
    FoundProduct found;
    if (!find(grouping, end, longest, found)) return std::nullopt;
    return found;
}

ProductTail tail_of(const Grouping& grouping, Value end, const FoundProduct& found) {
    const Graph& graph = grouping.graph();
    ProductTail tail;
    if (end != found.main && !is_usual(graph, end)) tail.own = true;
    for (const Value& inner : found.swallowed)
        if (inner != found.main && !is_usual(graph, inner)) tail.own = true;
    for (const Value& other : found.others)
        if (!graph.get_if<op::Broadcast>(other) && !graph.get_if<op::Constant>(other))
            tail.residual = true;
    return tail;
}

ProductSum with_also(const Grouping& grouping, const FoundProduct& found, Value end,
                     const std::function<bool(Value)>& suits) {
    const Graph& graph = grouping.graph();
    ProductSum sum{found, {}};
    std::vector<Value> way = found.swallowed;  // from the product to the end
    way.push_back(end);
    for (std::size_t i = 1; i < way.size() && is_add(graph, way[i]); ++i)
        for (const Value& other : inputs_of(graph[way[i]].operation)) {
            const auto also =
                other == way[i - 1] ? std::nullopt : found_also(grouping, other, suits);
            if (!also) continue;
            std::erase(sum.found.others, other);
            const auto add = [](std::vector<Value>& to, const std::vector<Value>& more) {
                to.insert(to.end(), more.begin(), more.end());
            };
            add(sum.found.others, also->others);
            add(sum.found.swallowed, also->swallowed);
            sum.also = also->main;
            return sum;
        }
    return sum;
}

Value image_source(const Grouping& grouping, Value value) {
    const Graph& graph = grouping.graph();
    for (int depth = 0; depth < longest; ++depth) {
        const Operation& operation = graph[value].operation;
        if (grouping.is_stored(value) || grouping.is_grouped(value) || !is_elementwise(operation))
            break;
        std::optional<Value> source;
        for (const Value& operand : inputs_of(operation)) {
            const auto* broadcast = graph.get_if<op::Broadcast>(operand);
            if (graph.get_if<op::Constant>(broadcast ? broadcast->x : operand)) continue;
            if (source) return value;
            source = operand;
        }
        if (!source) break;
        value = *source;
    }
    return value;
}

}  // namespace kn::cuda
