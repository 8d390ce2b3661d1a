#include "lower/tensor_product.h"

#include "lower/conv.h"
#include "lower/few_channels.h"
#include "rules/product_group.h"
#include "rules/rules.h"

namespace kn::cuda {

namespace {

// "with 3 operations behind it".
std::string describe(const Grouping& grouping, const FoundProduct& found) {
    const DType dtype = grouping.graph().dtype(found.main);
    const bool exact = !uses_tensor_cores(grouping.options(), dtype);
    return (exact ? " in float32 by three TF32 products, with " : " with ") +
           std::to_string(found.swallowed.size()) + " operations behind it";
}

void few_channels(Grouping& grouping, Value value) {
    const Graph& graph = grouping.graph();
    const auto match = find_product(grouping, value);
    if (!match) return;
    const FoundProduct& found = *match;
    const auto* conv = graph.get_if<op::Conv>(found.main);
    constexpr std::int64_t most = 8;
    if (!conv || conv->groups != 1 || graph.shape(conv->x).rank() != 4 ||
        graph.shape(conv->x)[1].value() > most)
        return;
    const std::string rule = "few channels";
    if (const auto why = why_no_few_channels(grouping, found.main)) {
        if (found.main == value) grouping.decide(rule, false, value, *why);
        return;
    }
    Group group = product_group(graph, rule, found.main, value);
    group.roles = {{"image", conv->x}, {"w", conv->w}, {"y", value}};
    grouping.demand(image_source(grouping, conv->x));
    for (const Value& other : found.others) demand_operand(grouping, other);
    group.reason = "convolution over few channels" + describe(grouping, found) +
                   ", read from the image as it lies";
    grouping.decide(rule, true, value, group.reason);
    grouping.add(std::move(group), found.swallowed);
}

void tensor_product(Grouping& grouping, Value value) {
    const Graph& graph = grouping.graph();
    const auto match = find_product(grouping, value);
    if (!match) return;
    const FoundProduct& found = *match;
    const bool conv = graph.get_if<op::Conv>(found.main) != nullptr;
    auto why = why_no_tensor_product(grouping, found.main);
    if (!why) {
        why = why_library_product(grouping, found.main, tail_of(grouping, value, found));
        const std::string missing = why && conv ? why_no_cudnn() : "";
        if (!missing.empty()) {
            grouping.decide("convolution", false, value, missing);
            why.reset();
        }
    }
    if (why) {
        if (found.main == value) grouping.decide("tensor core product", false, value, *why);
        return;
    }
    const auto suits = [&](Value also) { return !why_no_sum(grouping, found.main, also); };
    const ProductSum sum = with_also(grouping, found, value, suits);
    Group group = product_group(graph, "tensor core product", found.main, value);
    grouping.demand(inputs_of(graph[found.main].operation)[0]);
    if (sum.also) {
        group.roles["also"] = *sum.also;
        group.roles["x also"] = inputs_of(graph[*sum.also].operation)[0];
        grouping.demand(group.roles["x also"]);
    }
    for (const Value& other : sum.found.others) demand_operand(grouping, other);
    group.reason = (conv ? "convolution" : "product") + describe(grouping, sum.found) +
                   (sum.also ? ", one of them another convolution's sum" : "");
    grouping.decide(group.rule, true, value, group.reason);
    grouping.add(std::move(group), sum.found.swallowed);
}

}  // namespace

std::vector<Rule> tensor_product_rules() {
    return {{{"few channels",
              "A convolution over few channels, with all elementwise operations behind it, by a "
              "kernel that reads the image as it lies"},
             few_channels},
            {{"tensor core product",
              "A convolution or float32 product by a weight, with all elementwise operations "
              "behind it, on Hopper's tensor cores "
              "without loss of accuracy"},
             tensor_product}};
}

}  // namespace kn::cuda
