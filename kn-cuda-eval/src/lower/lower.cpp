#include "lower/lower.h"

#include <algorithm>

#include "lower/conv_bands.h"
#include "lower/few_channels.h"
#include "lower/few_channels_pool.h"

namespace kn::cuda {

void lower_group(Placement& placement, const Group& group) {
    if (group.roles.count("banded")) return lower_conv_bands(placement, group);
    if (group.roles.count("pooled")) return lower_few_channels_pool(placement, group);
    if (group.roles.count("image")) return lower_few_channels(placement, group);
    if (group.roles.count("product2")) return lower_product_pair(placement, group);
    if (group.roles.count("squeezed") && !group.own_kernel) return lower_squeeze(placement, group);
    if (group.own_kernel && group.kind != Group::Kind::Attention)
        return lower_tensor_product(placement, group);
    switch (group.kind) {
        case Group::Kind::Pointwise: return lower_pointwise(placement, group);
        case Group::Kind::Rows: return lower_rows(placement, group);
        case Group::Kind::MatMul:
            if (group.roles.count("producta")) return lower_product_chain(placement, group);
            return lower_matmul(placement, group);
        case Group::Kind::Conv: return lower_conv(placement, group);
        case Group::Kind::Attention: return lower_attention(placement, group);
        case Group::Kind::Special: return lower_special(placement, group);
    }
}

Step step_of(const Graph& graph, const Group& group, const std::string& name) {
    Step step;
    step.name = name;
    step.produces = group.outputs;
    step.reason = group.reason;
    const auto add = [&](Value value) {
        for (const std::string& origin : graph[value].origins)
            if (std::ranges::find(step.origins, origin) == step.origins.end())
                step.origins.push_back(origin);
    };
    for (const auto& value : group.in_front) add(value);
    for (const auto& value : group.swallowed) add(value);
    if (group.anchor.graph) add(group.anchor);
    for (const auto& value : group.outputs) add(value);
    return step;
}

}  // namespace kn::cuda
