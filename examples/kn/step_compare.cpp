#include "step_compare.h"

#include <algorithm>
#include <cmath>
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

// Where a second result is wanted, the operation runs, though its first result is known.
struct Edge {
    std::vector<NamedValue> values;
    std::set<std::uint32_t> run;
};

bool find_edge(const Graph& graph, Value value, const Known& known, Edge& edge) {
    edge.values.clear();
    const std::size_t before = edge.run.size();
    std::set<std::uint32_t> seen;
    std::vector<Value> open{value};
    while (!open.empty()) {
        const Value at = open.back();
        open.pop_back();
        if (!seen.insert(at.index).second || graph.get_if<op::Constant>(at)) continue;
        if (known.count(at.index) && !(at == value) && !edge.run.count(at.index)) {
            edge.values.push_back({"v" + std::to_string(at.index), at});
            continue;
        }
        if (const auto* result = graph.get_if<op::Result>(at))
            edge.run.insert(result->source.index);
        for (const Value& input : inputs_of(graph[at].operation)) open.push_back(input);
    }
    return edge.run.size() == before;
}

Part part_of(const Graph& graph, Value value, const Known& known) {
    Edge edge;
    while (!find_edge(graph, value, known, edge)) {
    }
    Part part;
    part.graph = extract(graph, edge.values, {{"y", value}});
    for (const NamedValue& input : part.graph.inputs())
        for (const NamedValue& from : edge.values)
            if (from.name == input.name) part.inputs.push_back(known.at(from.value.index));
    return part;
}

bool rounds_to_integers(const Graph& graph) {
    return std::ranges::any_of(graph.live(), [&](Value value) {
        if (const auto* unary = graph.get_if<op::Unary>(value))
            return unary->op == UnaryOp::Round || unary->op == UnaryOp::Floor ||
                   unary->op == UnaryOp::Ceil || unary->op == UnaryOp::Trunc;
        const auto* cast = graph.get_if<op::Cast>(value);
        return cast && is_float(graph.dtype(cast->x)) && is_int(cast->dtype);
    });
}

// Two units of its type larger or smaller.
Tensor nudged(const Tensor& tensor, double direction) {
    if (!is_float(tensor.dtype())) return tensor;
    const double unit = tensor.dtype() == DType::F64    ? 0x1p-52
                        : tensor.dtype() == DType::F32  ? 0x1p-23
                        : tensor.dtype() == DType::BF16 ? 0x1p-7
                                                        : 0x1p-10;
    std::vector<double> values;
    for (std::int64_t i = 0; i < tensor.size(); i++)
        values.push_back(tensor.at(i) * (1 + 2 * direction * unit));
    return Tensor::from_span<double>(tensor.shape(), values).cast(tensor.dtype());
}

// A number between two integers goes either way: what the CPU makes of inputs a little larger and
// smaller is as right, element by element.
testing::Difference difference_between(const Part& part, const Tensor& got,
                                       testing::Tolerance tolerance) {
    std::vector<double> nearest(static_cast<std::size_t>(got.size()), 1e300);
    for (const double direction : {0.0, 1.0, -1.0}) {
        std::vector<Tensor> inputs;
        for (const Tensor& input : part.inputs) inputs.push_back(nudged(input, direction));
        const Tensor y = cpu::run(part.graph, inputs).at(0);
        for (std::int64_t i = 0; i < got.size(); i++) {
            double& best = nearest[static_cast<std::size_t>(i)];
            if (!(std::abs(y.at(i) - got.at(i)) >= std::abs(best - got.at(i)))) best = y.at(i);
        }
    }
    return testing::compare(got, Tensor::from_span<double>(got.shape(), nearest).cast(got.dtype()),
                            tolerance);
}

testing::Difference difference_in_f64(const Part& part, const Tensor& got,
                                      testing::Tolerance tolerance) {
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
                                     const std::vector<std::pair<Value, Tensor>>& stored,
                                     const CompareOptions& options) {
    const Graph& graph = *plan.graph;
    Known known;
    for (std::size_t i = 0; i < graph.inputs().size(); i++)
        known[graph.inputs()[i].value.index] = inputs.at(i);
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
                if (auto exact = difference_in_f64(part, got, tolerance); exact.equal)
                    own = std::move(exact);
            if (!own.equal && rounds_to_integers(part.graph))
                if (auto between = difference_between(part, got, tolerance); between.equal)
                    own = std::move(between);
            StepError error{s, value, own.max_rel_to_peak, 0, own.equal, own.message};
            if (const auto& reference = whole.at(value.index); !reference.empty())
                error.gathered = testing::compare(got, reference[0], tolerance).max_rel_to_peak;
            out.push_back(std::move(error));
        }
    return out;
}

}  // namespace kn::tool
