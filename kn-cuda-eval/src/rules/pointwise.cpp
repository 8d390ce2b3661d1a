#include "rules/rules.h"
#include "rules/shared.h"

namespace kn::cuda {

namespace {

// What nobody wants in memory is computed inside the kernels that read it.
void stored_value(Grouping& grouping, Value value) {
    if (!grouping.is_stored(value)) return;
    limit_expression(grouping, value);
    Group group;
    group.kind = Group::Kind::Pointwise;
    group.anchor = value;
    group.outputs = {value};
    group.rule = "pointwise";
    group.reason = grouping.is_output(value) ? "an output of the network" : "read by another step";
    grouping.add(std::move(group));
}

}  // namespace

std::vector<Rule> pointwise_rules() {
    return {{{"pointwise", "A stored value that no other rule takes: one kernel"}, stored_value}};
}

}  // namespace kn::cuda
