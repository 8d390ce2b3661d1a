#include <kn/cuda_eval/plan.h>

#include <algorithm>
#include <set>

#include <fmt/core.h>
#include <kn/graph/backend.h>

#include "codegen/emit.h"
#include "lower/column_parts.h"
#include "lower/library.h"
#include "lower/lower.h"
#include "lower/row_moments.h"
#include "planner/batch_slices.h"
#include "planner/ceil_div.h"
#include "planner/memory.h"
#include "planner/phases.h"
#include "planner/placement.h"
#include "planner/prepare.h"
#include "planner/siblings.h"
#include "planner/slice_count.h"
#include "rules/rules.h"

namespace kn::cuda {

namespace {

std::string describe(const Graph& graph, Value value) {
    const Node& node = graph[value];
    std::string out =
        "%" + std::to_string(value.index) + " " + std::string(name_of(node.operation));
    for (std::size_t i = 0; i < node.origins.size() && i < 3; i++)
        out += (i == 0 ? " (from " : ", ") + printable(node.origins[i]);
    return node.origins.empty() ? out : out + ")";
}

// What rules said against computing the value; empty where they said nothing.
std::string refusals(const Grouping& grouping, Value value) {
    const std::string start = "%" + std::to_string(value.index) + " ";
    std::string out;
    for (const Decision& decision : grouping.decisions())
        if (!decision.taken && decision.where.starts_with(start))
            out += "; " + decision.rule + ": " + decision.reason;
    return out;
}

class Problems {
  public:
    void add(const std::string& problem) {
        if (seen_.insert(problem).second) text_ += "\n  " + problem;
    }
    void throw_if_any() const {
        if (!text_.empty()) throw UnsupportedError("no GPU plan for this network:" + text_);
    }

  private:
    std::set<std::string> seen_;
    std::string text_;
};

void check_static(const Graph& graph, Problems& problems) {
    for (const Value& value : graph.live())
        if (const auto why = why_not_special(graph, value))
            problems.add(describe(graph, value) + ": " + *why);
    problems.throw_if_any();
    std::set<std::string> unbound;
    for (const Value& value : graph.live())
        for (const std::string& symbol : symbols_of(graph[value])) {
            const auto& run_time = graph.run_time_symbols();
            if (!run_time.count(symbol)) unbound.insert(symbol);
        }
    std::string names;
    for (const std::string& symbol : unbound)
        names += (names.empty() ? "" : ", ") + printable(symbol);
    if (!names.empty())
        throw GraphError("a plan needs numbers for these sizes (bind them): " + names);
}

// Values that would have to be computed inside a kernel and cannot be.
void add_uncomputable(const Grouping& grouping, Problems& problems) {
    const Graph& graph = grouping.graph();
    const auto check = [&](Value value) {
        const auto why = Emitter::why_not_inline(graph, value);
        if (why)
            problems.add(describe(graph, value) + ": no GPU step computes it: " + *why +
                         refusals(grouping, value));
    };
    for (const Value& value : grouping.live()) {
        if (grouping.is_grouped(value)) continue;
        if (grouping.is_stored(value))
            problems.add(describe(graph, value) + ": no GPU step computes it" +
                         refusals(grouping, value));
        else
            check(value);
    }
    for (const Group& group : grouping.groups())
        if (group.kind == Group::Kind::Pointwise)
            for (const Value& value : group.outputs) check(value);
}

// Why a batch cannot be cut as asked for is the caller's to know.
Slices checked_slices(const Graph& graph, std::int64_t count) {
    const BatchAxes batch = batch_axes(graph);
    if (!batch.why_not.empty())
        throw GraphError("the batch cannot be cut into slices: " + batch.why_not);
    if (count < 1 || batch.rows % count != 0)
        throw GraphError(fmt::format("a batch of {} cannot be cut into {} slices of one size",
                                     batch.rows, count));
    return in_slices(graph, batch, count);
}

Plan planned(Slices slices, const DeviceProperties& device, const PlanOptions& options,
             WeightChecks& weights, PhaseLog& log) {
    Plan plan;
    plan.options = options;
    plan.device = device;
    plan.slices = slices.count();
    const auto graph = std::make_shared<const Graph>(std::move(slices.graph));
    plan.graph = graph;
    const CudnnAnswers before = cudnn_answers();
    Problems problems;

    Grouping grouping(*graph, device, options, plan.slices > 1);
    log.measure("rules", [&] { apply_rules(grouping); });
    add_uncomputable(grouping, problems);
    problems.throw_if_any();

    const auto groups = sorted_groups(grouping);
    Placement placement(plan, grouping,
                        log.measure("layouts", [&] { return choose_layouts(grouping); }), weights);
    log.measure("steps and kernels' source", [&] {
        if (!options.disabled_rules.count(std::string(column_parts_rule.name)))
            want_column_parts(placement, groups);
        if (!options.disabled_rules.count(std::string(row_moments_rule.name)))
            want_row_moments(placement, groups);
        for (std::span<const Group> rest = groups; !rest.empty();) {
            const Group& group = rest[0];
            const std::size_t count = sibling_count(
                grouping, rest, [&](const Group& g) { return slices.slice_of(g.anchor); });
            try {
                const std::size_t first = plan.steps.size();
                if (count > 1)
                    lower_siblings(placement, rest.first(count));
                else
                    lower_group(placement, group);
                for (std::size_t i = first; i < plan.steps.size(); i++)
                    plan.steps[i].slice = slices.slice_of(group.anchor);
            } catch (const GraphError& error) {
                problems.add(describe(*graph, group.anchor) + ": " + error.what() +
                             refusals(grouping, group.anchor));
            }
            rest = rest.subspan(count);
        }
    });
    problems.throw_if_any();
    for (const Value& value : grouping.live())
        if (placement.is_stored(value)) plan.stored.emplace_back(value, placement.stored(value));
    plan.decisions = grouping.decisions();
    log.measure("memory", [&] { plan_memory(plan); });
    plan.phases = log.take();
    const CudnnAnswers answers = cudnn_answers();
    plan.phases.push_back(
        {fmt::format("of these, cuDNN's support checks ({} asked, {} from cache)",
                     answers.asked - before.asked, answers.from_cache - before.from_cache),
         plan.phases.front().begin, answers.ms - before.ms, true});
    return plan;
}

Plan plan_with(const Graph& source, const DeviceProperties& device, const PlanOptions& options,
               WeightChecks& weights) {
    PhaseLog log;
    Graph graph = log.measure("precision and rewrites of the graph",
                              [&] { return prepare(source, options); });
    if (options.slices != 0 && options.slices != 1)
        return planned(checked_slices(graph, options.slices), device, options, weights, log);
    Plan whole = planned({std::move(graph), {}}, device, options, weights, log);
    if (options.slices == 1) return whole;
    std::optional<Plan> best;
    const SliceChoice choice = choose_slices(whole, [&](std::int64_t count) -> const Plan& {
        PhaseLog own;
        return best.emplace(
            planned(checked_slices(*whole.graph, count), device, options, weights, own));
    });
    Plan& plan = choice.count > 1 ? *best : whole;
    if (!choice.reason.empty())
        plan.decisions.push_back({"slices", choice.count > 1, "the batch", choice.reason});
    return std::move(plan);
}

}  // namespace

Ints PlanConstant::shape() const {
    Ints shape = parts.at(0)->tensor.shape();
    for (std::size_t i = 1; i < parts.size(); i++)
        shape[static_cast<std::size_t>(axis)] +=
            parts[i]->tensor.shape()[static_cast<std::size_t>(axis)];
    if (folded && folded->sums) return {shape.at(static_cast<std::size_t>(1 - folded->axis)), 2};
    if (winograd) {
        const auto extent = [&](std::size_t i) {
            return shape.at(static_cast<std::size_t>(order.at(i)));
        };
        return {extent(0), ceil_div(extent(3), 64) * 12, 64};
    }
    return shape;
}

std::int64_t Step::bytes() const {
    std::int64_t total = 0;
    std::vector<const TensorRef*> seen;
    for (const Operand& operand : operands) {
        if (operand.access == Access::Scratch) continue;
        const TensorRef& tensor = operand.tensor;
        if (std::ranges::any_of(seen, [&](const TensorRef* other) { return *other == tensor; }))
            continue;
        seen.push_back(&tensor);
        std::int64_t elements = 1;
        for (std::size_t i = 0; i < tensor.shape.size(); i++)
            if (tensor.strides[i] != 0 || tensor.shape[i] == 0) elements *= tensor.shape[i];
        const std::int64_t times = operand.access == Access::ReadWrite ? 2 : 1;
        total += times * elements * static_cast<std::int64_t>(size_of(tensor.dtype));
    }
    return total;
}

Plan plan(const Graph& source, const DeviceProperties& device, const PlanOptions& options) {
    for (const std::string& name : options.disabled_rules)
        if (std::ranges::none_of(planner_rules(), [&](const auto& r) { return r.name == name; }))
            throw GraphError("there is no planner rule '" + printable(name) + "'");
    Problems problems;
    check_static(source, problems);

    WeightChecks weights;
    Plan made = plan_with(source, device, options, weights);
    if (weights.hold()) return made;
    return plan_with(source, device, options, weights);
}

}  // namespace kn::cuda
