#include "lower/product_chain.h"

#include <algorithm>

#include "planner/merge_products.h"
#include "planner/rows.h"
#include "rules/rules.h"

namespace kn::cuda {

namespace {

constexpr std::int64_t kMostSummed = 256;  // elements of a mean in front, by one thread

struct Chain {
    std::vector<Value> products;   // first one first
    std::vector<Value> swallowed;  // between
    std::vector<Value> others;     // further operands of what lies between
    Value first;                   // what the first product multiplies
};

bool is_inner(const Grouping& grouping, Value value) {
    return grouping.has_one_user(value) && !grouping.is_grouped(value) &&
           !grouping.is_stored(value);
}

bool multiplies_weight(const Graph& graph, Value value) {
    const auto* matmul = graph.get_if<op::MatMul>(value);
    return matmul && graph.shape(matmul->a).rank() == 2 && graph.shape(matmul->b).rank() == 2 &&
           !constant_parts(graph, matmul->b).empty();
}

// Goes up from the end through elementwise operations to a product, and on from what it multiplies.
bool find_chain(const Grouping& grouping, Value value, int depth, Chain& chain) {
    const Graph& graph = grouping.graph();
    const Operation& operation = graph[value].operation;
    if (multiplies_weight(graph, value)) {
        const Value a = std::get<op::MatMul>(operation).a;
        Chain longer = chain;
        if (is_inner(grouping, a) && find_chain(grouping, a, depth, longer)) {
            chain = std::move(longer);
            chain.swallowed.push_back(a);
        } else {
            chain.first = a;
        }
        chain.products.push_back(value);
        return true;
    }
    if (depth == 0 || !is_elementwise(operation)) return false;
    const std::vector<Value> operands = inputs_of(operation);
    for (const Value& inner : operands) {
        Chain longer = chain;
        if (!is_inner(grouping, inner) || !find_chain(grouping, inner, depth - 1, longer)) continue;
        chain = std::move(longer);
        chain.swallowed.push_back(inner);
        for (const Value& other : operands)
            if (other != inner) chain.others.push_back(other);
        return true;
    }
    return false;
}

/// What a short reduction in front reads, if the kernel should compute it: nobody else wants it.
std::optional<Value> reduced_in_front(const Grouping& grouping, Value value) {
    const Graph& graph = grouping.graph();
    while (is_inner(grouping, value)) {
        if (const auto* reduce = graph.get_if<op::Reduce>(value)) {
            if (reduced_count(graph, value) > kMostSummed) break;
            Value x = reduce->x;
            while (graph.get_if<op::Cast>(x) && is_inner(grouping, x))
                x = graph.get_if<op::Cast>(x)->x;
            return x;
        }
        const auto inputs = inputs_of(graph[value].operation);
        if (!graph.get_if<op::Reshape>(value) && !graph.get_if<op::Cast>(value)) break;
        value = inputs.at(0);
    }
    return std::nullopt;
}

void product_chain(Grouping& grouping, Value value) {
    const Graph& graph = grouping.graph();
    if (graph.shape(value).rank() != 2) return;
    Chain chain;
    constexpr int longest = 12;
    if (!find_chain(grouping, value, longest, chain) || chain.products.size() < 2) return;
    if (const auto why = why_no_chain(graph, chain.products, grouping.device().sm_count)) {
        if (chain.products.back() == value || chain.swallowed.empty())
            grouping.decide("small products", false, value, *why);
        return;
    }
    Group group;
    group.kind = Group::Kind::MatMul;
    group.anchor = chain.products.back();
    group.outputs = {value};
    group.rule = "small products";
    for (std::size_t i = 0; i < chain.products.size(); ++i)
        group.roles["product" + std::string(1, static_cast<char>('a' + i))] = chain.products[i];
    const auto reduced = reduced_in_front(grouping, chain.first);
    grouping.demand(reduced ? *reduced : chain.first);
    for (const Value& other : chain.others) {
        const auto* broadcast = graph.get_if<op::Broadcast>(other);
        grouping.demand(broadcast ? broadcast->x : other);
    }
    group.reason = std::to_string(chain.products.size()) + " small products" +
                   (reduced ? " of a mean" : "") + ": what lies between stays in a block";
    grouping.decide(group.rule, true, value, group.reason);
    std::erase(chain.swallowed, value);
    grouping.add(std::move(group), chain.swallowed);
}

}  // namespace

std::vector<Rule> product_chain_rules() {
    return {{{"small products",
              "Small products by weights behind each other, and a short reduction in front: one "
              "kernel, a few rows a block"},
             product_chain}};
}

}  // namespace kn::cuda
