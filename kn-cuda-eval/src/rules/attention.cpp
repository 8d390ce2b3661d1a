#include "lower/attention.h"

#include "rules/rules.h"

namespace kn::cuda {

namespace {

void library_attention(Grouping& grouping, Value value) {
    const Graph& graph = grouping.graph();
    const auto* attention = graph.get_if<op::Attention>(value);
    if (!attention) return;
    if (const auto why = why_no_sdpa(graph, *attention)) {
        grouping.decide("library-attention", false, value, *why);
        return;
    }
    Group group;
    group.kind = Group::Kind::Attention;
    group.anchor = value;
    group.outputs = {value};
    group.rule = "library-attention";
    group.reason = "attention in half precision: cuDNN's fused kernel";
    group.roles = {{"q", attention->q}, {"k", attention->k}, {"v", attention->v}};
    if (attention->mask) group.roles["bias"] = *attention->mask;
    for (const auto& [role, operand] : group.roles) grouping.demand(operand);
    grouping.decide(group.rule, true, value, group.reason);
    grouping.add(std::move(group));
}

}  // namespace

std::vector<Rule> attention_rules() {
    return {{{"library-attention", "Attention in half precision by cuDNN"}, library_attention}};
}

}  // namespace kn::cuda
