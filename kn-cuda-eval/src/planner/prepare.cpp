#include "planner/prepare.h"

#include <limits>
#include <set>

#include <kn/graph/builder.h>
#include <kn/graph/decompose.h>
#include <kn/graph/optimizer.h>
#include <kn/graph/precision.h>

#include "lower/attention.h"
#include "planner/lift_reshapes.h"
#include "planner/merge_products.h"

namespace kn::cuda {

namespace {

Graph with_precision(const Graph& graph, Precision precision) {
    switch (precision) {
        case Precision::F16: return optimize(to_precision(graph, DType::F16));
        case Precision::BF16: return optimize(to_precision(graph, DType::BF16));
        case Precision::F64:
            throw GraphError("precision f64 is the CPU's; a GPU has f32, tf32, f16 and bf16");
        case Precision::F32:
        case Precision::TF32: break;
    }
    return graph.clone();
}

// cuDNN adds masks of the queries' type, one row for each query.
Value additive_mask(Graph& graph, const op::Attention& attention) {
    Var mask = graph.var(*attention.mask);
    const DType dtype = graph.dtype(attention.q);
    if (mask.dtype() == DType::Bool)
        mask = select(mask, scalar(graph, dtype, 0),
                      scalar(graph, dtype, -std::numeric_limits<double>::infinity()));
    Shape shape = mask.shape();
    shape[2] = graph.shape(attention.q)[2];
    return broadcast_to(mask, shape);
}

// Every attention that cuDNN computes but for its mask gets one that it takes.
Graph with_library_masks(const Graph& source) {
    Graph out;
    ValueMap map(source);
    for (const NamedValue& input : source.inputs())
        map.set(input.value,
                out.input(input.name, source.dtype(input.value), source.shape(input.value)));
    for (const Value& value : source.live()) {
        if (map.find(value)) continue;
        const Node& node = source[value];
        out.set_origins(node.origins);
        Operation operation = map_inputs(node.operation, [&](Value v) { return map(v); });
        if (auto* attention = std::get_if<op::Attention>(&operation);
            attention && attention->mask) {
            op::Attention bare = *attention;
            bare.mask.reset();
            if (!why_no_sdpa(out, bare)) attention->mask = additive_mask(out, *attention);
        }
        map.set(value, out.add(std::move(operation)));
    }
    out.set_origins({});
    for (const NamedValue& output : source.outputs()) out.output(output.name, map(output.value));
    return out;
}

// Every output becomes a value that some step computes, and each another one: what is an input, a
// constant or an output already is copied, as a Reshape to its own shape.
void separate_outputs(Graph& graph) {
    std::vector<NamedValue> outputs = graph.outputs();
    std::set<std::uint32_t> taken;
    for (NamedValue& output : outputs) {
        while (graph.get_if<op::Input>(output.value) || graph.get_if<op::Constant>(output.value) ||
               taken.count(output.value.index))
            output.value = graph.add(op::Reshape{output.value, graph.shape(output.value)});
        taken.insert(output.value.index);
    }
    graph.set_outputs(std::move(outputs));
}

}  // namespace

namespace {

struct Preparation {
    PlannerRule info;
    Graph (*apply)(const Graph&);
};

constexpr Preparation table[] = {
    {{"merge products", "Products of one value by several constant matrices become one product"},
     merge_products},
    {{"lift over reshapes", "Elementwise operations meet the product in front of a Reshape"},
     lift_over_reshapes},
};

}  // namespace

std::vector<PlannerRule> preparations() {
    std::vector<PlannerRule> out;
    for (const Preparation& preparation : table) out.push_back(preparation.info);
    return out;
}

// Interpolation as gathers, which kernels do in place.
bool is_interpolation(const Operation& operation) {
    return is_any_of<op::Resize, op::GridSample>(operation);
}

Graph prepare(const Graph& graph, const PlanOptions& options) {
    Graph out =
        with_library_masks(decompose(with_precision(graph, options.precision), is_interpolation));
    for (const Preparation& preparation : table)
        if (!options.disabled_rules.count(std::string(preparation.info.name)))
            out = preparation.apply(out);
    separate_outputs(out);
    return out;
}

}  // namespace kn::cuda
