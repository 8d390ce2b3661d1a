#include "rules/rules.h"

namespace kn::cuda {

namespace {

bool has_own_kernel(const Operation& operation) {
    return std::holds_alternative<op::TopK>(operation) ||
           std::holds_alternative<op::Cumulative>(operation) ||
           std::holds_alternative<op::ScatterElements>(operation) ||
           std::holds_alternative<op::ScatterNd>(operation) ||
           std::holds_alternative<op::Recurrent>(operation) ||
           std::holds_alternative<op::Dft>(operation);
}

void own_kernel(Grouping& grouping, Value value) {
    const Graph& graph = grouping.graph();
    const Operation& operation = graph[value].operation;
    if (!has_own_kernel(operation)) return;
    Group group;
    group.kind = Group::Kind::Special;
    group.anchor = value;
    group.outputs = {value};
    for (const Value& user : grouping.users(value))
        if (graph.get_if<op::Result>(user)) group.outputs.push_back(user);
    for (const Value& input : inputs_of(operation)) grouping.demand(input);
    group.rule = "own-kernel";
    group.reason = std::string(name_of(operation)) + " has a kernel of its own";
    grouping.add(std::move(group));
}

}  // namespace

std::vector<Rule> special_rules() {
    return {{{"own-kernel", "An operation with a kernel of its own: a step"}, own_kernel}};
}

}  // namespace kn::cuda
