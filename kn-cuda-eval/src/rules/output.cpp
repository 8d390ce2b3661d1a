#include <algorithm>

#include "planner/placement.h"
#include "planner/views.h"
#include "rules/rules.h"

namespace kn::cuda {

namespace {

void output_in_place(Grouping& grouping, Value value) {
    const Graph& graph = grouping.graph();
    if (!grouping.is_output(value)) return;
    TensorRef ref = std::ranges::find(grouping.output_places(), value, [](const auto& place) {
                        return place.first;
                    })->second;
    Value root = value;
    while (const auto inner = unview_of(graph, root, ref)) {
        ref = *inner;
        root = *viewed(graph, root);
        if (grouping.is_stored(root)) break;
    }
    if (root == value) return;
    const bool taken = grouping.write_in_place(value, root);
    grouping.decide("output-in-place", taken, value,
                    taken ? "%" + std::to_string(root.index) + " is written there"
                          : "%" + std::to_string(root.index) + " has another place already");
}

}  // namespace

std::vector<Rule> output_rules() {
    return {{{"output-in-place",
              "An output that renames the elements of a computed value: that value's own place"},
             output_in_place}};
}

}  // namespace kn::cuda
