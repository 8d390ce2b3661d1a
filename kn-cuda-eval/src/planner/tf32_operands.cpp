#include "planner/tf32_operands.h"

#include "lower/conv.h"
#include "planner/merge_products.h"
#include "planner/views.h"

namespace kn::cuda {

namespace {

// The operands that have the same elements as the value.
std::vector<Value> sources(const Graph& graph, Value value) {
    if (graph.get_if<op::Concat>(value)) return inputs_of(graph[value].operation);
    if (const auto from = viewed(graph, value)) return {*from};
    return {};
}

void add(const Graph& graph, Value value, std::set<std::uint32_t>& values) {
    if (graph.dtype(value) != DType::F32 || !values.insert(value.index).second) return;
    for (const Value& source : sources(graph, value)) add(graph, source, values);
}

}  // namespace

std::set<std::uint32_t> tf32_operands(const Grouping& grouping) {
    const Graph& graph = grouping.graph();
    if (grouping.device().compute() < 80 || !uses_tensor_cores(grouping.options(), DType::F32))
        return {};
    std::set<std::uint32_t> operands, given_away;
    for (const Value& value : grouping.live()) {
        if (!is_any_of<op::MatMul, op::Conv>(graph[value].operation)) continue;
        const auto read = inputs_of(graph[value].operation);
        if (is_weight(graph, read[1])) add(graph, read[0], operands);
    }
    for (const NamedValue& output : graph.outputs()) add(graph, output.value, given_away);
    for (const std::uint32_t value : given_away) operands.erase(value);
    return operands;
}

}  // namespace kn::cuda
