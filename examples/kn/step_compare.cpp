#include "step_compare.h"

#include <algorithm>
#include <map>
#include <set>

#include <kn/graph/cpu.h>
#include <kn/graph/precision.h>

namespace kn::tool {

namespace {

using Known = std::map<std::uint32_t, Tensor>;

// The part of the graph between known values and `value`, as a graph of its own, with its inputs.
struct Part {
    Graph graph;
    std::vector<Tensor> inputs;
};

Part part_of(const Graph& graph, Value value, const Known& known) {
    std::vector<NamedValue> edge;
    Part part;
    std::set<std::uint32_t> seen;
    std::vector<Value> open{value};
    while (!open.empty()) {
        const Value at = open.back();
        open.pop_back();
        if (!seen.insert(at.index).second || graph.get_if<op::Constant>(at)) continue;
        const auto found = known.find(at.index);
        if (found != known.end() && !(at == value)) {
            edge.push_back({"v" + std::to_string(at.index), at});
            part.inputs.push_back(found->second);
            continue;
        }
        for (const Value& input : inputs_of(graph[at].operation)) open.push_back(input);
    }
    part.graph = extract(graph, edge, {{"y", value}});
    std::vector<Tensor> ordered;
    for (const NamedValue& input : part.graph.inputs())
        for (std::size_t i = 0; i < edge.size(); i++)
            if (edge[i].name == input.name) ordered.push_back(part.inputs[i]);
    part.inputs = std::move(ordered);
    return part;
}

testing::Difference difference_in_f64(const Part& part, const Tensor& got, testing::Tolerance tolerance) {
    const Graph exact = to_precision(part.graph, DType::F64);
    return testing::compare(got, cpu::run(exact, part.inputs).at(0), tolerance, true);
}

}  // namespace

testing::Tolerance step_tolerance(DType dtype, Precision precision) {
    switch (dtype) {
        case DType::F64: return {1e-12, 1e-13};
        case DType::F16: return {2e-3, 2e-3};
        case DType::BF16: return {1.6e-2, 1.6e-2};
        case DType::F32: break;
        default: return {0, 0};
    }
    switch (precision) {
        case Precision::TF32: return {2e-3, 2e-3};
        case Precision::F16: return {1e-3, 1e-3};  // halves enter its products
        case Precision::BF16: return {8e-3, 8e-3};
        default: return {1e-5, 2e-5};
    }
}

std::vector<StepError> compare_steps(const cuda::Plan& plan, const std::vector<Tensor>& inputs,
                                     const std::vector<std::pair<Value, Tensor>>& stored, const CompareOptions& options) {
    const Graph& graph = *plan.graph;
    Known known;
    for (std::size_t i = 0; i < graph.inputs().size(); i++) known[graph.inputs()[i].value.index] = inputs.at(i);
    for (const auto& [value, tensor] : stored) known.insert_or_assign(value.index, tensor);
    const auto whole = cpu::Executor(plan.graph).run_all(inputs);

    std::vector<StepError> out;
    for (std::size_t s = 0; s < plan.steps.size(); s++)
        for (const Value& value : plan.steps[s].produces) {
            const auto found = known.find(value.index);
            if (found == known.end()) continue;
            const Tensor& got = found->second;
            testing::Tolerance tolerance = step_tolerance(got.dtype(), plan.options.precision);
            if (options.rtol >= 0) tolerance.rtol = options.rtol;
            if (options.atol_of_peak >= 0) tolerance.atol_of_peak = options.atol_of_peak;
            const Part part = part_of(graph, value, known);
            auto own = testing::compare(got, cpu::run(part.graph, part.inputs).at(0), tolerance);
            if (!own.equal)
                if (auto exact = difference_in_f64(part, got, tolerance); exact.equal) own = std::move(exact);
            StepError error{s, value, own.max_rel_to_peak, 0, own.equal, own.message};
            if (const auto& reference = whole.at(value.index); !reference.empty())
                error.gathered = testing::compare(got, reference[0], tolerance).max_rel_to_peak;
            out.push_back(std::move(error));
        }
    return out;
}

}  // namespace kn::tool
