#include "lower/row_values.h"

#include <fmt/core.h>

#include "planner/rows.h"

namespace kn::cuda {

std::string norm_scale(const Graph& graph, Value norm, const std::string& squares) {
    const auto& o = std::get<op::Norm>(graph[norm].operation);
    const bool wide = graph.dtype(o.x) == DType::F64;
    const std::string type = compute_type(graph.dtype(o.x));
    const std::string root =
        fmt::format("sqrt({} / ({}){} + {})", squares, type, reduced_count(graph, norm),
                    literal(wide ? DType::F64 : DType::F32, o.epsilon));
    return wide ? root : fmt::format("({})1 / {}", type, root);
}

std::string finish_reduction(Emitter& emitter, const Graph& graph, Value value, const Index& index,
                             const std::vector<std::string>& statistics,
                             const std::string& exponential) {
    const Operation& operation = graph[value].operation;
    const std::string type = compute_type(graph.dtype(value));
    if (const auto* softmax = std::get_if<op::Softmax>(&operation)) {
        const std::string x = emitter.value(softmax->x, index);
        if (softmax->log)
            return emitter.define(
                type, fmt::format("({} - {}) - log({})", x, statistics[0], statistics[1]));
        const std::string top =
            exponential.empty() ? fmt::format("exp({} - {})", x, statistics[0]) : exponential;
        return emitter.define(type, fmt::format("{} / {}", top, statistics[1]));
    }
    if (const auto* norm = std::get_if<op::Norm>(&operation)) {
        const std::string x = emitter.value(norm->x, index);
        const std::string top =
            statistics[0].empty() ? x : fmt::format("({} - {})", x, statistics[0]);
        const char* apply = graph.dtype(norm->x) == DType::F64 ? "/" : "*";
        return emitter.define(type, fmt::format("{} {} {}", top, apply, statistics[1]));
    }
    return statistics[0];
}

}  // namespace kn::cuda
