#include "planner/tf32_operands.h"

#include <ranges>

#include "lower/conv.h"
#include "planner/merge_products.h"
#include "planner/views.h"

namespace kn::cuda {

namespace {

// Whether the value is its operands' elements, and nothing else.
bool only_moves(const Graph& graph, Value value) {
    return graph.get_if<op::Concat>(value) || viewed(graph, value);
}

// Convolutions of groups have no tensor core kernel of ours.
bool is_product_by_weight(const Graph& graph, Value value) {
    const Operation& operation = graph[value].operation;
    const auto* conv = graph.get_if<op::Conv>(value);
    return (conv ? conv->groups == 1 : std::holds_alternative<op::MatMul>(operation)) &&
           is_weight(graph, inputs_of(operation)[1]);
}

}  // namespace

std::set<std::uint32_t> tf32_operands(const Grouping& grouping) {
    const Graph& graph = grouping.graph();
    if (grouping.device().compute() < 80 || !uses_tensor_cores(grouping.options(), DType::F32))
        return {};
    std::set<std::uint32_t> operands, others;
    // Readers come before what they read.
    for (const Value& value : grouping.live() | std::views::reverse) {
        const std::vector<Value> read = inputs_of(graph[value].operation);
        const bool product = is_product_by_weight(graph, value);
        const bool moved = only_moves(graph, value) && !grouping.is_output(value);
        for (std::size_t i = 0; i < read.size(); ++i) {
            if ((product && i == 0) || (moved && operands.count(value.index)))
                operands.insert(read[i].index);
            if (!(product && i == 0) && (!moved || others.count(value.index)))
                others.insert(read[i].index);
        }
    }
    std::erase_if(operands, [&](std::uint32_t index) { return others.count(index) > 0; });
    for (const Value& value : grouping.live())
        if (grouping.is_output(value) || graph.dtype(value) != DType::F32)
            operands.erase(value.index);
    return operands;
}

}  // namespace kn::cuda
