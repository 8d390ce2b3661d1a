#include "lower/attention.h"

#include "rules/rules.h"

namespace kn::cuda {

namespace {

void add_attention(Grouping& grouping, Value value, bool own_kernel, const std::string& rule,
                   const std::string& reason) {
    const auto* attention = grouping.graph().get_if<op::Attention>(value);
    Group group;
    group.kind = Group::Kind::Attention;
    group.own_kernel = own_kernel;
    group.anchor = value;
    group.outputs = {value};
    group.rule = rule;
    group.reason = reason;
    group.roles = {{"q", attention->q}, {"k", attention->k}, {"v", attention->v}};
    if (attention->mask) group.roles["bias"] = *attention->mask;
    for (const auto& [role, operand] : group.roles) grouping.demand(operand);
    grouping.decide(rule, true, value, reason);
    grouping.add(std::move(group));
}

constexpr const char* own_rule = "tensor-attention";
constexpr const char* library_rule = "library-attention";

void tensor_attention(Grouping& grouping, Value value) {
    const auto* attention = grouping.graph().get_if<op::Attention>(value);
    if (!attention || !is_half(grouping.graph().dtype(value))) return;
    auto why = why_no_tensor_attention(grouping, *attention);
    // Without the library, ours takes all that it can.
    if (!why && grouping.options().disabled_rules.count(library_rule) == 0) {
        why = why_library_attention(grouping, *attention);
        const std::string missing = why ? why_no_cudnn() : "";
        if (!missing.empty()) {
            grouping.decide(library_rule, false, value, missing);
            why.reset();
        }
    }
    if (why) return grouping.decide(own_rule, false, value, *why);
    add_attention(grouping, value, true, own_rule,
                  "attention in half precision on the tensor cores: some queries' products and "
                  "others' exponentials side by side");
}

void library_attention(Grouping& grouping, Value value) {
    const Graph& graph = grouping.graph();
    const auto* attention = graph.get_if<op::Attention>(value);
    if (!attention) return;
    if (const auto why = why_no_sdpa(graph, *attention))
        return grouping.decide(library_rule, false, value, *why);
    add_attention(grouping, value, false, library_rule,
                  "attention in half precision: cuDNN's fused kernel");
}

}  // namespace

std::vector<Rule> attention_rules() {
    return {{{own_rule, "Attention in half precision by our kernel for Hopper's tensor cores"},
             tensor_attention},
            {{library_rule, "Attention in half precision by cuDNN"}, library_attention}};
}

}  // namespace kn::cuda
