#include "lower/product_pair.h"

#include <algorithm>
#include <set>

#include "lower/conv.h"
#include "lower/tensor_product.h"
#include "rules/product_group.h"
#include "rules/rules.h"

namespace kn::cuda {

namespace {

constexpr const char* rule = "pair of products";

Value without_reshapes(const Graph& graph, Value value) {
    while (const auto* reshape = graph.get_if<op::Reshape>(value)) value = reshape->x;
    return value;
}

// Whether something of the product's own size is read behind it.
bool has_residual(const Graph& graph, const FoundProduct& found) {
    return std::ranges::any_of(found.others, [&](const Value& other) {
        const Value inner = without_reshapes(graph, other);
        return !graph.get_if<op::Broadcast>(inner) && !graph.get_if<op::Constant>(inner);
    });
}

// What the product multiplies; `between`: other shapes of that on the way.
Value rows_of(const Graph& graph, Value product, std::vector<Value>& between) {
    const Value rows = inputs_of(graph[product].operation)[0];
    const Value y = without_reshapes(graph, rows);
    if (!(graph.shape(y) == graph.shape(rows))) return rows;
    for (Value value = rows; value != y; value = graph.get_if<op::Reshape>(value)->x)
        between.push_back(value);
    return y;
}

bool depends_on(const Graph& graph, Value value, Value on) {
    std::set<std::uint32_t> seen;
    std::vector<Value> stack = {value};
    while (!stack.empty()) {
        const Value next = stack.back();
        stack.pop_back();
        if (next == on) return true;
        // Operands are older.
        if (next.index < on.index || !seen.insert(next.index).second) continue;
        for (const Value& operand : inputs_of(graph[next].operation)) stack.push_back(operand);
    }
    return false;
}

std::optional<std::string> why_not(const Grouping& grouping, const ProductSum& first,
                                   const FoundProduct& second, Value y, Value z, bool keep) {
    const Graph& graph = grouping.graph();
    for (const Value& product : {first.found.main, second.main})
        if (auto why = why_no_tensor_product(grouping, product)) return why;
    if (has_residual(graph, second)) return "the second one has something of its size added";
    for (const Value& other : second.others)
        if (depends_on(graph, other, y)) return "what is behind the second one needs the first";
    const auto suits = [&](Value also) { return !why_no_sum(grouping, first.found.main, also); };
    const auto summand =
        first.also ? std::nullopt : with_also(grouping, first.found, y, suits).also;
    return why_no_pair(grouping,
                       {first.found.main, y, first.also, has_residual(graph, first.found), summand},
                       {second.main, z}, keep);
}

void product_pair(Grouping& grouping, Value z) {
    const Graph& graph = grouping.graph();
    const auto second = find_product(grouping, z);
    if (!second || !keeps_rows(graph, second->main) ||
        !uses_tensor_cores(grouping.options(), graph.dtype(second->main)))
        return;
    std::vector<Value> between;
    const Value y = rows_of(graph, second->main, between);
    if (grouping.is_grouped(y)) return;
    const auto found = find_product(grouping, y);
    if (!found || !keeps_rows(graph, found->main)) return;
    const auto is_wanted = [&](const Value& value) {
        return !grouping.has_one_user(value) || grouping.is_stored(value);
    };
    const bool keep = is_wanted(y) || std::ranges::any_of(between, is_wanted);
    const auto keeps = [&](Value product) { return keeps_rows(graph, product); };
    ProductSum first = with_also(grouping, *found, y, keeps);
    auto why = why_not(grouping, first, *second, y, z, keep);
    if (why && first.also) {
        first = {*found, {}};
        why = why_not(grouping, first, *second, y, z, keep);
    }
    if (why) return grouping.decide(rule, false, z, *why);
    Group group = product_group(graph, rule, first.found.main, y);
    group.outputs = keep ? std::vector{y, z} : std::vector{z};
    group.roles["y"] = y;
    group.roles["z"] = z;
    group.roles["product2"] = second->main;
    grouping.demand(inputs_of(graph[first.found.main].operation)[0]);
    if (first.also) {
        group.roles["also"] = *first.also;
        group.roles["x also"] = inputs_of(graph[*first.also].operation)[0];
        grouping.demand(group.roles["x also"]);
    }
    std::vector<Value> swallowed;
    for (const FoundProduct* part :
         std::initializer_list<const FoundProduct*>{&first.found, &*second}) {
        for (const Value& other : part->others) demand_operand(grouping, other);
        swallowed.insert(swallowed.end(), part->swallowed.begin(), part->swallowed.end());
    }
    if (!keep) {
        swallowed.push_back(y);
        swallowed.insert(swallowed.end(), between.begin(), between.end());
    }
    group.reason =
        std::string("a product of ") + (first.also ? "a sum of two others" : "another's result") +
        ", which stays in shared memory" + (keep ? " and is written, but not read again" : "");
    grouping.decide(rule, true, z, group.reason);
    grouping.add(std::move(group), swallowed);
}

}  // namespace

std::vector<Rule> product_pair_rules() {
    return {
        {{rule,
          "A product or 1x1 convolution by a weight of another's result, or of a sum of two, "
          "with all elementwise operations behind both, where all weights fit in shared memory"},
         product_pair}};
}

}  // namespace kn::cuda
