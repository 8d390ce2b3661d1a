#include <chrono>

#include <fmt/core.h>
#include <kn/graph/random.h>

#include "cache/disk_cache.h"
#include "executor/in_place.h"
#include "executor/tile_variants.h"
#include "executor/tuned_choices.h"

namespace kn::cuda {

namespace {

constexpr std::size_t most_tiles = 8;  // of a problem that are timed alone

double seconds_since(std::chrono::steady_clock::time_point begin) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// The first plan with these choices; nothing where it cannot have them.
std::optional<Plan> plan_with(const Plan& first, const Graph& graph, const TunedChoices& choices) {
    PlanOptions options = with_choices(first.options, choices);
    options.slices = first.slices;
    Plan result = first;
    if (has_tiles(first, choices))
        result.options = options;
    else
        result = plan(graph, first.device, options);
    if (!has_tiles(result, choices)) return std::nullopt;
    return result;
}

struct Tuned {
    TunedChoices choices;
    std::vector<Phase> phases;
};

Tuned tune(const Plan& first, const Graph& graph, Device device) {
    Tuned result;
    auto begin = std::chrono::steady_clock::now();
    const auto note = [&](std::string name) {
        result.phases.push_back({std::move(name), begin, 1000 * seconds_since(begin)});
        begin = std::chrono::steady_clock::now();
    };
    std::vector<std::shared_ptr<const Plan>> plans = {std::make_shared<const Plan>(first)};
    for (Plan& variant : tile_variants(first, graph, most_tiles - 1))
        plans.push_back(std::make_shared<const Plan>(std::move(variant)));
    note("tuning: plans with other tiles");
    InPlace network(std::move(plans), device, random_inputs(graph));
    note("tuning: kernels and algorithms to try");
    const std::vector<TunePart> parts = network.parts();
    note("tuning: timed alone");
    const TuneResult found = find_choices(
        parts,
        [&](const Choices& a, const Choices& b, std::size_t pairs) {
            return network.compare(a, b, pairs);
        },
        [&] { return seconds_since(begin); });
    note(fmt::format("tuning: {} trials in place, {:.2f} % faster", found.trials.size(),
                     100 * found.gain));
    for (const TuneTrial& trial : found.trials)
        if (found.choices[trial.part] == trial.alternative)
            result.phases.push_back(
                {fmt::format("{:.2f} % by {}", 100 * trial.gain, network.describe(trial)),
                 result.phases.back().begin, 0, true});
    result.choices = network.choices_of(found.choices);
    return result;
}

}  // namespace

std::shared_ptr<const Plan> tuned_plan(const Graph& graph, Device device,
                                       const PlanOptions& options) {
    const DeviceProperties properties = device.properties();
    DiskCache* const cache = DiskCache::shared();
    const Plan first = plan(graph, properties, options);
    const std::string key = tuning_key(first, properties);
    if (cache)
        if (const auto text = cache->get("tiles", key))
            if (const auto choices = parse_tuned(*text))
                if (auto known = plan_with(first, graph, *choices))
                    return std::make_shared<const Plan>(std::move(*known));
    Tuned tuned = tune(first, graph, device);
    auto result = plan_with(first, graph, tuned.choices);
    KN_CHECK(result.has_value(), to_text(tuned.choices));
    if (cache) cache->put("tiles", key, to_text(tuned.choices));
    result->phases.insert(result->phases.end(), tuned.phases.begin(), tuned.phases.end());
    return std::make_shared<const Plan>(std::move(*result));
}

}  // namespace kn::cuda
