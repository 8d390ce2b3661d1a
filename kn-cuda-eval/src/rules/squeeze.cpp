#include "lower/squeeze.h"

#include "lower/conv.h"
#include "lower/library.h"
#include "lower/tensor_product.h"
#include "planner/axes.h"
#include "planner/rows.h"
#include "rules/rules.h"
#include "rules/squeeze_pattern.h"

namespace kn::cuda {

namespace {

/// Whether somebody else has put the image's channels outermost, or cuDNN will.
bool is_channels_first(const Grouping& grouping, Value image) {
    const Graph& graph = grouping.graph();
    const AxisOrder order = channels_last_order(graph.shape(image).rank());
    if (const auto root = order_at_root(grouping, image, order)) {
        const bool fixed = graph.get_if<op::Input>(root->first) || grouping.is_output(root->first);
        if (fixed && root->second != row_major(root->second.size())) return true;
    }
    if (uses_tensor_cores(grouping.options(), graph.dtype(image))) return false;
    while (is_elementwise(graph[image].operation) && !grouping.is_grouped(image))
        image = inputs_of(graph[image].operation)[0];
    const auto* conv = graph.get_if<op::Conv>(image);
    return conv && conv->groups == 1 &&
           (why_no_tensor_product(grouping, image) || why_library_product(grouping, image, {}));
}

void squeeze(Grouping& grouping, Value value) {
    const Graph& graph = grouping.graph();
    const auto match = find_squeeze(grouping, value);
    if (!match) return;
    const SqueezePattern& parts = *match;
    const std::string name = "squeeze and excite";
    Group group;
    group.kind = Group::Kind::Rows;
    group.anchor = parts.mean;
    group.outputs = {value};
    group.rule = name;
    add_roles(group, parts);
    const auto refuse = [&](const std::string& why) { grouping.decide(name, false, value, why); };
    for (const Value& head : parts.heads)
        if (!shifts_of(graph, head, parts.second))
            return refuse("the result reads another element of the products than its channel's");
    const Squeeze problem = squeeze_of(graph, group);
    if (grouping.device().compute() < 90) return refuse("the device has no clusters of blocks");
    if (graph.dtype(parts.image) != problem.dtype || graph.dtype(parts.first) != problem.dtype)
        return refuse("the image and its products have different types");
    if (auto why = problem.why_not()) return refuse(*why);
    if (is_channels_first(grouping, parts.image))
        return refuse("the image's channels are not its innermost axis");
    const auto why_apart = problem.why_apart(grouping.device().sm_count);
    if (why_apart && !forced_squeeze_tiles()) return refuse(*why_apart);
    grouping.demand(parts.image);
    demand_operands(grouping, parts);
    group.reason =
        "two small products of an image's mean, and what they change in it: the image "
        "stays in registers";
    grouping.decide(name, true, value, group.reason);
    grouping.add(std::move(group), parts.swallowed);
}

}  // namespace

std::vector<Rule> squeeze_rules() {
    return {{{"squeeze and excite",
              "An image with its mean's way through two small products back to it: one kernel, a "
              "cluster some images"},
             squeeze}};
}

}  // namespace kn::cuda
