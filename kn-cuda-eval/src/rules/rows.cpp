#include "planner/rows.h"

#include <algorithm>

#include "codegen/emit.h"
#include "rules/rules.h"
#include "rules/shared.h"

namespace kn::cuda {

namespace {

constexpr std::int64_t kLong = 4096;        // elements that a block reduces sooner than two kernels
constexpr std::int64_t kMostRowsPerSm = 4;  // beyond that the device is busy anyway

// The rows of a value's expression. Reductions that do not fit them get kernels of their own.
RowAnalysis rows_of(Grouping& grouping, Value value) {
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
    return rows;
}

void add_rows(Grouping& grouping, Value value, const RowAnalysis& rows, bool in_parts,
              const std::string& reason) {
    Group group;
    group.kind = Group::Kind::Rows;
    group.anchor = rows.reductions.front();
    group.outputs = {value};
    group.in_parts = in_parts;
    group.rule = in_parts ? "rows in parts" : "rows";
    group.reason =
        "reductions over " + std::to_string(rows.longest) + " elements and their readers";
    grouping.decide(group.rule, true, value, reason.empty() ? group.reason : reason);
    grouping.add(std::move(group));
}

// A row is at most a block's work: where few are long, most of the device would have none.
void rows_in_parts(Grouping& grouping, Value value) {
    if (!grouping.is_stored(value)) return;
    const RowAnalysis rows = rows_of(grouping, value);
    if (rows.reductions.empty() || rows.longest < kLong) return;
    std::int64_t count = 1;
    for (const RowAnalysis::Axis& axis : rows.parallel) count *= axis.extent;
    const std::int64_t sms = grouping.device().sm_count;
    const std::string numbers = std::to_string(count) + " rows of " + std::to_string(rows.longest) +
                                " elements on " + std::to_string(sms) + " multiprocessors";
    if (count > kMostRowsPerSm * sms || rows.longest * sms < kLong * count)
        return grouping.decide("rows in parts", false, value, numbers);
    add_rows(grouping, value, rows, true, numbers);
}

// A stored value whose expression reduces rows: one kernel, whose threads share the rows.
void reduced_rows(Grouping& grouping, Value value) {
    if (!grouping.is_stored(value)) return;
    const RowAnalysis rows = rows_of(grouping, value);
    if (!rows.reductions.empty()) add_rows(grouping, value, rows, false, "");
}

}  // namespace

std::vector<Rule> rows_rules() {
    return {{{"store shared",
              "What several kernels would compute, or one again and again, and is dear: in memory"},
             store_shared},
            {{"rows in parts",
              "Few long rows: their parts are reduced by many blocks, then put together"},
             rows_in_parts},
            {{"rows", "Reductions over rows with what surrounds them: one kernel, a row a team"},
             reduced_rows}};
}

}  // namespace kn::cuda
