#include "lower/few_channels_pool.h"

#include "rules/product_group.h"
#include "rules/rules.h"

namespace kn::cuda {

namespace {

std::optional<std::string> why_not(const Grouping& grouping, const MaxPool& pool,
                                   const FoundProduct& found) {
    if (!is_inner(grouping, pool.x)) return "something else reads the convolution's result";
    for (const Value& value : pool.between)
        if (!is_inner(grouping, value)) return "something else reads the windows";
    return why_no_few_channels_pool(grouping, found.main, pool.windows,
                                    grouping.graph().dtype(pool.x));
}

void few_channels_pool(Grouping& grouping, Value value) {
    const Graph& graph = grouping.graph();
    const auto pool = max_pool_of(graph, value);
    if (!pool) return;
    const auto found = find_product(grouping, pool->x);
    if (!found) return;
    const auto* conv = graph.get_if<op::Conv>(found->main);
    constexpr std::int64_t most = 8;
    if (!conv || conv->groups != 1 || graph.shape(conv->x).rank() != 4 ||
        graph.shape(conv->x)[1].value() > most)
        return;
    const std::string rule = "few channels and max pool";
    if (const auto why = why_not(grouping, *pool, *found))
        return grouping.decide(rule, false, value, *why);
    Group group = product_group(graph, rule, found->main, value);
    group.roles = {{"image", conv->x}, {"w", conv->w}, {"pooled", pool->x}, {"y", value}};
    grouping.demand(image_source(grouping, conv->x));
    for (const Value& other : found->others) demand_operand(grouping, other);
    group.reason =
        "convolution over few channels with the max pool behind it, so that what it "
        "reduces is never written";
    grouping.decide(rule, true, value, group.reason);
    std::vector<Value> swallowed = found->swallowed;
    swallowed.push_back(pool->x);
    swallowed.insert(swallowed.end(), pool->between.begin(), pool->between.end());
    grouping.add(std::move(group), swallowed);
}

}  // namespace

std::vector<Rule> few_channels_pool_rules() {
    return {{{"few channels and max pool",
              "A convolution over few channels with all elementwise operations and the max pool "
              "behind it, in one kernel"},
             few_channels_pool}};
}

}  // namespace kn::cuda
