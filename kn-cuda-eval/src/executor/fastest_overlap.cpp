#include "executor/fastest_overlap.h"

#include <algorithm>

#include <fmt/core.h>

#include "executor/algorithms.h"
#include "executor/overlap.h"
#include "executor/state.h"

namespace kn::cuda {

std::vector<bool> early_steps(const Plan& plan, Overlap overlap) {
    std::vector<bool> early(plan.steps.size());
    for (std::size_t i = 0; i < early.size(); i++) early[i] = may_overlap(plan, i, overlap);
    return early;
}

std::vector<Overlap> overlaps_to_try(const Plan& plan) {
    std::vector<Overlap> result;
    for (const Overlap overlap : {Overlap::None, Overlap::Own, Overlap::All})
        if (result.empty() || early_steps(plan, overlap) != early_steps(plan, result.back()))
            result.push_back(overlap);
    return result;
}

std::string overlap_key(const Plan& plan, const DeviceProperties& device) {
    std::string key = device.name;
    for (const Step& step : plan.steps) {
        const auto* kernel = std::get_if<KernelWork>(&step.work);
        // A kernel's name says what its text is.
        key += "\n" + (kernel ? plan.kernels.at(kernel->kernel).entry : choice_key(step, device));
    }
    return key;
}

Overlap fastest_overlap(std::vector<std::pair<Overlap, std::vector<double>>> times) {
    Overlap best = Overlap::None;
    double least = 0;
    for (auto& [overlap, ms] : times) {
        const auto middle = ms.begin() + static_cast<std::ptrdiff_t>(ms.size() / 2);
        std::ranges::nth_element(ms, middle);
        if (least > 0 && *middle > 0.99 * least) continue;
        best = overlap;
        least = *middle;
    }
    return best;
}

std::string name_of(Overlap overlap) {
    switch (overlap) {
        case Overlap::None: return "none";
        case Overlap::Own: return "own";
        case Overlap::All: return "all";
        case Overlap::Timed: return "timed";
    }
    return "";
}

std::optional<Overlap> parse_overlap(const std::string& name) {
    for (const Overlap overlap : {Overlap::None, Overlap::Own, Overlap::All})
        if (name == name_of(overlap)) return overlap;
    return std::nullopt;
}

void Executor::State::set_overlap(Overlap overlap) {
    const std::vector<bool> early = early_steps(*plan, overlap);
    for (std::size_t i = 0; i < launches.size(); i++)
        if (auto* kernel = std::get_if<KernelLaunch>(&launches[i].work))
            kernel->config.overlap_previous = early[i];
    setup.overlap = overlap;
}

void Executor::State::choose_overlap() {
    if (!overlaps(device())) return;
    if (wanted_overlap() != Overlap::Timed) return set_overlap(wanted_overlap());
    const std::vector<Overlap> modes = overlaps_to_try(*plan);
    if (options.tuning == Tuning::None || !options.use_graph || modes.size() < 2) return;
    const std::string key = overlap_key(*plan, device().properties());
    if (cache())
        if (const auto name = cache()->get("overlap", key))
            if (const auto known = parse_overlap(*name)) return set_overlap(*known);

    constexpr int rounds = 5, runs_a_round = 3;
    constexpr double longest_ms = 2;
    std::vector<GraphExec> graphs;
    std::vector<std::pair<Overlap, std::vector<double>>> times;
    Event start(device()), stop(device());
    const auto time = [&](const GraphExec& graph) {
        start.record(stream);
        for (int run = 0; run < runs_a_round; run++) graph.launch(stream);
        stop.record(stream);
        stop.synchronize();
        return elapsed_ms(start, stop) / runs_a_round;
    };
    const auto add = [&](Overlap mode) {
        set_overlap(mode);
        graphs.push_back(capture(stream, [&] { queue_steps(stream, bases); }).instantiate());
        times.emplace_back(mode, std::vector<double>{});
        return time(graphs.back());  // also warms up
    };
    if (add(modes[0]) <= longest_ms) {
        for (std::size_t i = 1; i < modes.size(); i++) add(modes[i]);
        for (int round = 0; round < rounds; round++)
            for (std::size_t i = 0; i < modes.size(); i++)
                times[i].second.push_back(time(graphs[i]));
        set_overlap(fastest_overlap(std::move(times)));
    }
    if (cache()) cache()->put("overlap", key, name_of(setup.overlap));
}

}  // namespace kn::cuda
