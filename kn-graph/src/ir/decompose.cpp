#include <kn/graph/decompose.h>

#include "ir/decompose_parts.h"

namespace kn {

namespace {

template <class Op>
concept Composite = requires(const Op& op, Graph& graph) {
    decomposition::parts(op, graph);
};

std::shared_ptr<const Graph> decompose_body(const std::shared_ptr<const Graph>& body,
                                            const std::function<bool(const Operation&)>& which) {
    return std::make_shared<const Graph>(decompose(*body, which));
}

Operation with_plain_bodies(Operation operation,
                            const std::function<bool(const Operation&)>& which) {
    if (auto* branch = std::get_if<op::If>(&operation)) {
        branch->then_body = decompose_body(branch->then_body, which);
        branch->else_body = decompose_body(branch->else_body, which);
    }
    if (auto* loop = std::get_if<op::Loop>(&operation))
        loop->body = decompose_body(loop->body, which);
    return operation;
}

}  // namespace

bool is_composite(const Operation& operation) {
    return std::visit([](const auto& op) { return Composite<std::decay_t<decltype(op)>>; },
                      operation);
}

std::vector<Value> decompose(Graph& graph, const Operation& operation) {
    std::vector<Value> results;
    std::visit(
        [&](const auto& op) {
            if constexpr (Composite<std::decay_t<decltype(op)>>)
                for (const Var& part : decomposition::parts(op, graph)) results.push_back(part);
            else
                throw GraphError(std::string(name_of(operation)) + " is no composite operation");
        },
        operation);
    return results;
}

Graph decompose(const Graph& graph, const std::function<bool(const Operation&)>& which) {
    Graph out;
    out.share_fresh_symbols(graph);
    ValueMap map(graph);
    std::unordered_map<std::uint32_t, std::vector<Value>>
        several;  // by index: results of what was decomposed
    for (const Value& value : graph.live()) {
        const Node& node = graph[value];
        out.set_origins(node.origins);
        if (const auto* result = std::get_if<op::Result>(&node.operation))
            if (const auto found = several.find(result->source.index); found != several.end()) {
                map.set(value, found->second[static_cast<std::size_t>(result->index)]);
                continue;
            }
        const Operation operation = map_inputs(node.operation, [&](Value v) { return map(v); });
        if (is_composite(operation) && which(operation)) {
            std::vector<Value> results = decompose(out, operation);
            map.set(value, results[0]);
            several.emplace(value.index, std::move(results));
        } else if (const auto* input = std::get_if<op::Input>(&operation)) {
            map.set(value, out.input(input->name, input->dtype, input->shape));
        } else {
            map.set(value, out.add(with_plain_bodies(operation, which)));
        }
    }
    out.set_origins({});
    for (const NamedValue& output : graph.outputs()) out.output(output.name, map(output.value));
    for (const Constraint& constraint : graph.constraints()) out.add_constraint(constraint);
    return out;
}

}  // namespace kn
