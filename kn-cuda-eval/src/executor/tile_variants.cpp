#include "executor/tile_variants.h"

#include <algorithm>
#include <map>
#include <optional>

#include "executor/in_parallel.h"

namespace kn::cuda {

namespace {

// Of each problem, how many steps it takes and the tiles of its products.
struct Form {
    std::size_t steps = 0;
    std::string tiles;
};
std::map<std::string, Form> forms_of(const Plan& plan) {
    std::map<std::string, Form> forms;
    for (const Step& step : plan.steps) {
        if (step.problem.empty()) continue;
        Form& form = forms[step.problem];
        form.steps++;
        if (!step.tiles.empty()) form.tiles = step.tiles;
    }
    return forms;
}

std::optional<Plan> variant(const Plan& first, const Graph& graph, std::size_t tiles) {
    PlanOptions options = first.options;
    options.tiles = tiles;
    options.slices = first.slices;
    Plan tried = plan(graph, first.device, options);
    if (interchangeable(first, tried)) return tried;
    const auto forms = forms_of(tried);
    for (const auto& [problem, form] : forms_of(first))
        if (const auto other = forms.find(problem);
            other == forms.end() || other->second.steps != form.steps)
            options.tiles_of[problem] = form.tiles;
    tried = plan(graph, first.device, options);
    if (interchangeable(first, tried)) return tried;
    return std::nullopt;
}

}  // namespace

bool interchangeable(const Plan& a, const Plan& b) {
    const auto same_buffer = [](const Buffer& x, const Buffer& y) {
        return x.kind == y.kind && x.bytes == y.bytes && x.index == y.index && x.offset == y.offset;
    };
    const auto same_step = [](const Step& x, const Step& y) {
        return x.problem == y.problem && x.work.index() == y.work.index() &&
               std::ranges::equal(x.produces, y.produces, {}, &Value::index, &Value::index);
    };
    return std::ranges::equal(a.buffers, b.buffers, same_buffer) &&
           std::ranges::equal(a.steps, b.steps, same_step) && a.inputs == b.inputs &&
           a.outputs == b.outputs;
}

std::vector<Plan> tile_variants(const Plan& first, const Graph& graph, std::size_t count) {
    if (forms_of(first).empty()) return {};
    std::vector<std::optional<Plan>> tried(count);
    in_parallel(count, [&](std::size_t i) { tried[i] = variant(first, graph, i + 1); });
    std::vector<Plan> result;
    for (auto& plan : tried)
        if (plan) result.push_back(std::move(*plan));
    return result;
}

}  // namespace kn::cuda
