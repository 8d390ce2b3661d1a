// A convolution with squeeze and excite behind it, while its result is sums in registers.
#include <algorithm>

#include <fmt/core.h>

#include "lower/library.h"
#include "lower/product_epilogue.h"
#include "lower/product_tiles.h"
#include "lower/squeeze_epilogue.h"
#include "lower/tensor_product.h"
#include "rules/product_group.h"
#include "rules/rules.h"
#include "rules/squeeze_pattern.h"

namespace kn::cuda {

namespace {

constexpr const char* rule = "convolution, squeeze and excite";

/// Whether only what the pattern swallows reads the image, and its result.
bool is_alone(const Grouping& grouping, const SqueezePattern& parts, Value end) {
    if (grouping.is_grouped(parts.image) || grouping.is_stored(parts.image) ||
        grouping.is_output(parts.image))
        return false;
    return std::ranges::all_of(grouping.users(parts.image), [&](const Value& user) {
        return user == end || std::ranges::count(parts.swallowed, user) > 0;
    });
}

TensorProduct product_of(const Grouping& grouping, Value conv, const SqueezePattern& parts) {
    const Graph& graph = grouping.graph();
    const ProductSizes sizes = product_sizes(graph, conv);
    TensorProduct product;
    product.type = data_type(graph.dtype(conv)).value();
    product.m = sizes.m;
    product.n = sizes.n;
    product.k = sizes.k;
    product.windows = windows_of(graph, *graph.get_if<op::Conv>(conv), conv);
    product.before = std::ranges::any_of(parts.others, [&](const Value& other) {
        return !graph.get_if<op::Broadcast>(other) && !graph.get_if<op::Constant>(other);
    });
    product.may_filter = may_filter(grouping.options());
    return product;
}

/// Why kernels of their own are better.
std::optional<std::string> why_apart(const TensorProduct& together, TensorProduct conv,
                                     const Squeeze& problem, const DeviceProperties& device) {
    constexpr double launch_us = 1;
    conv.before = false;
    conv.lanes = 2;
    conv.tiles = choose_tiles(conv, device, true);
    const double apart = clocks_of(conv, conv.tiles, device) / clocks_in_us + launch_us +
                         problem.time_alone(device.sm_count);
    const double one = clocks_of_squeezing(together, device) / clocks_in_us;
    if (one < apart) return std::nullopt;
    return fmt::format("kernels of their own would take {:.1f} us, one {:.1f}", apart, one);
}

void squeezed_conv(Grouping& grouping, Value value) {
    const Graph& graph = grouping.graph();
    const auto match = find_squeeze(grouping, value);
    if (!match || !is_alone(grouping, *match, value)) return;
    const SqueezePattern& parts = *match;
    const auto found = find_product(grouping, parts.image);
    if (!found || !graph.get_if<op::Conv>(found->main) || graph.shape(value).rank() != 4) return;
    const auto refuse = [&](const std::string& why) { grouping.decide(rule, false, value, why); };
    if (const auto why = why_no_tensor_product(grouping, found->main)) return refuse(*why);
    for (const Value& head : parts.heads)
        if (!shifts_of(graph, head, parts.second))
            return refuse("the result reads another element of the products than its channel's");
    Group group = product_group(graph, rule, found->main, value);
    add_roles(group, parts);
    const Squeeze problem = squeeze_of(graph, group);
    for (const Value& each : {found->main, parts.image, parts.first, value})
        if (graph.dtype(each) != problem.dtype || !is_half(problem.dtype))
            return refuse("the image and its products are not of one half type");
    if (const auto why = problem.why_not()) return refuse(*why);
    const DeviceProperties& device = grouping.device();
    const TensorProduct conv = product_of(grouping, found->main, parts);
    const auto together = squeezing_product(conv, problem, parts.heads.size(), device);
    if (!together)
        return refuse(
            "whole images with all their channels, and the products' weights, fit no tiles");
    if (!forced_squeezed_conv())
        if (const auto why = why_apart(*together, conv, problem, device)) return refuse(*why);

    grouping.demand(inputs_of(graph[found->main].operation)[0]);
    for (const Value& other : found->others) demand_operand(grouping, other);
    demand_operands(grouping, parts);
    group.reason =
        "convolution with two small products of each image's mean behind it, and what they change "
        "in the image, which is not written in between";
    grouping.decide(rule, true, value, group.reason);
    std::vector<Value> swallowed = parts.swallowed;
    swallowed.push_back(parts.image);
    swallowed.insert(swallowed.end(), found->swallowed.begin(), found->swallowed.end());
    grouping.add(std::move(group), swallowed);
}

}  // namespace

std::vector<Rule> squeezed_conv_rules() {
    return {{{rule,
              "A convolution whose tiles are whole images, with squeeze and excite behind it: one "
              "kernel"},
             squeezed_conv}};
}

}  // namespace kn::cuda
