#include "rules/product_group.h"

namespace kn::cuda {

Group product_group(const Graph& graph, const std::string& rule, Value product, Value end) {
    const bool conv = graph.get_if<op::Conv>(product) != nullptr;
    const std::vector<Value> operands = inputs_of(graph[product].operation);
    Group group;
    group.kind = conv ? Group::Kind::Conv : Group::Kind::MatMul;
    group.own_kernel = true;
    group.channels_last = conv;
    group.anchor = product;
    group.outputs = {end};
    group.rule = rule;
    group.roles = {{conv ? "x" : "a", operands[0]}, {conv ? "w" : "b", operands[1]}};
    if (conv) group.roles["y"] = end;
    return group;
}

void demand_operand(Grouping& grouping, Value operand) {
    const auto* broadcast = grouping.graph().get_if<op::Broadcast>(operand);
    grouping.demand(broadcast ? broadcast->x : operand);
}

}  // namespace kn::cuda
