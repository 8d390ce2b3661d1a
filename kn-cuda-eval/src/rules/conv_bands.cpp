#include "lower/conv_bands.h"

#include "rules/product_group.h"
#include "rules/rules.h"

namespace kn::cuda {

namespace {

void conv_bands(Grouping& grouping, Value value) {
    const Graph& graph = grouping.graph();
    const auto found = find_product(grouping, value);
    if (!found) return;
    const auto* conv = graph.get_if<op::Conv>(found->main);
    if (!conv || conv->groups != 1 || graph.shape(conv->w).rank() != 4) return;
    const Ints w = graph.shape(conv->w).to_ints();
    // Of 64 filters that a product has half would be empty. With more, or more channels, products
    // take as long as copies of windows: 128 and 128 at 28x28 of 128 images on an H200 54.4 us, by
    // windows 45.9; 64 and 128 at 56x56 of 64 images 50.3 and 50.0.
    constexpr std::int64_t most = 64;
    const bool few = w[0] > most / 2 && w[0] <= most && w[1] <= most && w[1] % 32 == 0;
    if (!forced_band_tiles() && (!few || w[2] * w[3] == 1)) return;
    const std::string rule = "convolution by bands";
    // Results are finished one by one.
    for (const Value& other : found->others)
        if (!graph.get_if<op::Broadcast>(other) && !graph.get_if<op::Constant>(other)) return;
    if (const auto why = why_no_conv_bands(grouping, found->main, graph.dtype(value))) {
        if (found->main == value) grouping.decide(rule, false, value, *why);
        return;
    }
    Group group = product_group(graph, rule, found->main, value);
    group.roles["banded"] = value;
    grouping.demand(group.roles.at("x"));
    for (const Value& other : found->others) demand_operand(grouping, other);
    group.reason = "convolution with " + std::to_string(found->swallowed.size()) +
                   " operations behind it, whose windows share bands of the image";
    grouping.decide(rule, true, value, group.reason);
    grouping.add(std::move(group), found->swallowed);
}

}  // namespace

std::vector<Rule> conv_bands_rules() {
    return {{{"convolution by bands",
              "A convolution with windows one pixel apart, with all elementwise operations behind "
              "it, from bands of the image that are copied to shared memory once"},
             conv_bands}};
}

}  // namespace kn::cuda
