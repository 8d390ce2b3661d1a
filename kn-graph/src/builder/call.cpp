#include "builder/common.h"

namespace kn {

std::vector<Var> call(const Graph& source, const std::vector<Var>& inputs) {
    if (inputs.empty())
        throw GraphError("call: no inputs that tell the graph; use call(graph, source, values)");
    Graph& graph = *inputs[0].graph;
    std::vector<Value> values;
    for (const Var input : inputs) {
        builder::check_same_graph(inputs[0], input);
        values.push_back(input);
    }
    std::vector<Var> result;
    for (const Value value : call(graph, source, values)) result.push_back(graph.var(value));
    return result;
}

}  // namespace kn
