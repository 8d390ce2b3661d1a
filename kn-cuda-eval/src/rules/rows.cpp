#include "planner/rows.h"

#include <algorithm>

#include "codegen/emit.h"
#include "rules/rules.h"
#include "rules/shared.h"

namespace kn::cuda {

namespace {

// A stored value whose expression reduces rows: one kernel, whose threads share the rows. Reductions
// that do not fit its rows get kernels of their own.
void reduced_rows(Grouping& grouping, Value value) {
    if (!grouping.is_stored(value)) return;
    limit_expression(grouping, value);
    const Graph& graph = grouping.graph();
    const std::function<bool(Value)> is_leaf = [&](Value v) { return ends_kernel(grouping, v); };
    RowAnalysis rows = analyse_rows(graph, value, is_leaf);
    while (!rows.others.empty()) {
        for (const Value& other : rows.others) {
            if (other == value) {
                rows.others.clear();
                break;
            }
            grouping.store(other);
            grouping.decide("rows", false, other, "its rows are not those of its reader");
        }
        if (!rows.others.empty()) rows = analyse_rows(graph, value, is_leaf);
    }
    if (rows.reductions.empty()) return;
    Group group;
    group.kind = Group::Kind::Rows;
    group.anchor = rows.reductions.front();
    group.outputs = {value};
    group.rule = "rows";
    group.reason = "reductions over " + std::to_string(rows.longest) + " elements and their readers";
    grouping.decide("rows", true, value, group.reason);
    grouping.add(std::move(group));
}

}  // namespace

std::vector<Rule> rows_rules() {
    return {{{"store shared",
              "What several kernels would compute, or one again and again, and is dear: in memory"},
             store_shared},
            {{"rows", "Reductions over rows with what surrounds them: one kernel, a row a team"},
             reduced_rows}};
}

}  // namespace kn::cuda
