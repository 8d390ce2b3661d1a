#include "executor/in_place.h"

#include <algorithm>
#include <limits>

#include <fmt/core.h>

#include "executor/algorithms.h"
#include "executor/fastest_overlap.h"
#include "executor/kernels.h"
#include "executor/overlap.h"
#include "executor/state.h"

namespace kn::cuda {

namespace {

std::string algorithm_of(const Launch& launch) {
    if (const auto* matmul = std::get_if<MatmulLaunch>(&launch.work))
        return matmul->choice.algo.to_text();
    return std::get<CudnnLaunch>(launch.work).plan.candidate().name;
}

// The tiles of each problem's products.
std::map<std::string, std::string> tiles_in(const Plan& plan) {
    std::map<std::string, std::string> tiles;
    for (const Step& step : plan.steps)
        if (!step.tiles.empty()) tiles[step.problem] = step.tiles;
    return tiles;
}

const PlanKernel& kernel_of(const Plan& plan, std::size_t step) {
    return plan.kernels[std::get<KernelWork>(plan.steps[step].work).kernel];
}

}  // namespace

InPlace::InPlace(std::vector<std::shared_ptr<const Plan>> plans, Device device,
                 const std::vector<Tensor>& inputs)
    : plans_(std::move(plans)),
      executor_(plans_.at(0), device, {.use_graph = false}),
      waits_(state().overlaps(device)),
      at_first_(state().launches),
      start_(device),
      stop_(device) {
    for (std::size_t i = 0; i < at_first_.size(); i++)
        if (const auto* launch = std::get_if<KernelLaunch>(&at_first_[i].work))
            sources_[launch->kernel.get()] = &kernel_of(plan(), i);
    add_products();
    add_library_steps();
    if (!plan().options.overlap && can_overlap(device.properties().compute()))
        overlaps_ = overlaps_to_try(plan());
    if (overlaps_.size() < 2) overlaps_.clear();
    // Zeros would leave the tensor cores cooler, and the clocks higher, than data do.
    Executor::State& s = state();
    s.check_inputs(inputs);
    s.upload_inputs(inputs);
    s.queue_steps(s.stream, s.bases);
    s.stream.synchronize();
}

InPlace::Part& InPlace::part_of(const std::string& problem, bool library) {
    const auto found = std::ranges::find(parts_, problem, &Part::problem);
    return found != parts_.end() ? *found : parts_.emplace_back(Part{problem, library, {}});
}

std::vector<std::shared_ptr<const Kernel>> InPlace::load(
    const std::vector<const PlanKernel*>& kernels, bool wait) {
    Executor::State& s = state();
    std::vector<PlanKernel> sources;
    for (const PlanKernel* kernel : kernels) sources.push_back(wait ? with_wait(*kernel) : *kernel);
    return load_kernels(s.device(), std::move(sources), s.cache(), s.setup, s.log);
}

void InPlace::add_products() {
    struct Wanted {
        const Step* step;
        std::pair<std::string, std::size_t> alternative;  // of the problem
        std::size_t index;
    };
    std::vector<Wanted> wanted;
    std::vector<const PlanKernel*> kernels;
    for (const auto& plan : plans_) {
        for (const auto& [problem, tiles] : tiles_in(*plan)) {
            Part& part = part_of(problem, false);
            if (std::ranges::count(part.alternatives, tiles, &Alternative::name)) continue;
            Alternative& alternative = part.alternatives.emplace_back(Alternative{tiles, {}});
            for (std::size_t i = 0; i < plan->steps.size(); i++) {
                const Step& step = plan->steps[i];
                if (step.problem != problem) continue;
                alternative.steps.emplace_back(i, without_work(step));
                wanted.push_back(
                    {&step, {problem, part.alternatives.size() - 1}, alternative.steps.size() - 1});
                kernels.push_back(&kernel_of(*plan, i));
            }
        }
    }
    // All at once: they compile side by side.
    const auto loaded = load(kernels, waits_);
    for (std::size_t i = 0; i < wanted.size(); i++) {
        const auto& [step, where, index] = wanted[i];
        sources_[loaded[i].get()] = kernels[i];
        part_of(where.first, false).alternatives[where.second].steps[index].second.work =
            kernel_launch(std::get<KernelWork>(step->work), loaded[i], state().device());
    }
}

void InPlace::add_library_steps() {
    Executor::State& s = state();
    std::vector<Launch> full = at_first_;
    choose_algorithms(plan(), s.lt, s.cudnn.get(), s.stream,
                      {Tuning::Full, s.cache(), s.bases, [] {}}, full, s.setup, s.log);
    for (std::size_t i = 0; i < at_first_.size(); i++) {
        const std::string problem = choice_key(plan().steps[i], s.device().properties());
        if (problem.empty()) continue;
        Part& part = part_of(problem, true);
        const auto add = [&](std::size_t number, const Launch& launch) {
            if (part.alternatives.size() <= number)
                part.alternatives.push_back({algorithm_of(launch), {}});
            part.alternatives[number].steps.emplace_back(i, launch);
        };
        add(0, at_first_[i]);
        if (algorithm_of(full[i]) != algorithm_of(at_first_[i])) add(1, full[i]);
    }
}

std::vector<TunePart> InPlace::parts() {
    const Choices at_first(parts_.size() + 1, 0);
    const double run_us = 1000 * ms_of(graph_of(at_first), 3);
    std::vector<TunePart> result;
    for (const Part& part : parts_) {
        std::vector<double> alone;
        // What is less than a hundredth of the network would have to gain a third of itself.
        if (part.alternatives.size() > 1) alone.push_back(us_alone(part.alternatives[0]));
        if (!alone.empty() && alone[0] > run_us / 100)
            for (std::size_t i = 1; i < part.alternatives.size(); i++)
                alone.push_back(us_alone(part.alternatives[i]));
        result.push_back({alone.empty() ? 0 : alone[0], short_list(alone)});
    }
    // Last, as it asks for other kernels.
    if (!overlaps_.empty()) {
        result.push_back({});
        for (std::size_t i = 1; i < overlaps_.size(); i++) result.back().candidates.push_back(i);
    }
    return result;
}

double InPlace::us_alone(const Alternative& alternative) {
    constexpr std::size_t rounds = 5, enough_steps = 20;
    Executor::State& s = state();
    const auto queue_all = [&] {
        for (const auto& [index, launch] : alternative.steps)
            queue(launch, s.stream, s.cudnn.get(), s.bases);
    };
    const std::size_t repeats = std::max<std::size_t>(1, enough_steps / alternative.steps.size());
    try {
        queue_all();  // loads the code
        const GraphExec graph = capture(s.stream, [&] {
                                    for (std::size_t i = 0; i < repeats; i++) queue_all();
                                }).instantiate();
        std::vector<double> times;
        for (std::size_t round = 0; round <= rounds; round++) {
            const double ms = ms_of(graph, 1);
            if (round > 0) times.push_back(ms);
        }
        std::ranges::nth_element(times, times.begin() + rounds / 2);
        return 1000 * times[rounds / 2] / static_cast<double>(repeats);
    } catch (const ContextLost&) {
        throw;
    } catch (const Error&) {
        return std::numeric_limits<double>::infinity();
    }
}

void InPlace::take(const Choices& choices) {
    Executor::State& s = state();
    s.launches = at_first_;
    for (std::size_t i = 0; i < parts_.size(); i++)
        for (const auto& [index, launch] : parts_[i].alternatives[choices[i]].steps)
            s.launches[index] = launch;
    if (overlaps_.empty()) return s.set_overlap(s.setup.overlap);
    const Overlap overlap = overlaps_[choices.back()];
    if (overlap != Overlap::None) let_wait();
    s.set_overlap(overlap);
}

void InPlace::let_wait() {
    std::vector<const Kernel*> missing;
    std::vector<const PlanKernel*> kernels;
    const auto each = [&](const auto& body) {
        for (Launch& launch : state().launches)
            if (auto* work = std::get_if<KernelLaunch>(&launch.work)) body(*work);
    };
    each([&](const KernelLaunch& work) {
        const Kernel* const kernel = work.kernel.get();
        if (waiting_.contains(kernel) || std::ranges::count(missing, kernel)) return;
        missing.push_back(kernel);
        kernels.push_back(sources_.at(kernel));
    });
    const auto loaded = load(kernels, true);
    for (std::size_t i = 0; i < missing.size(); i++) waiting_[missing[i]] = loaded[i];
    each([&](KernelLaunch& work) {
        work.kernel = waiting_.at(work.kernel.get());
        allow_shared_bytes(*work.kernel, work.config.shared_bytes, state().device());
    });
}

const GraphExec& InPlace::graph_of(const Choices& choices) {
    const auto known = std::ranges::find(forms_, choices, &Form::choices);
    if (known != forms_.end()) return *known->graph;
    Executor::State& s = state();
    take(choices);
    s.queue_steps(s.stream, s.bases);  // loads the code
    auto graph = std::make_unique<const GraphExec>(s.capture_steps(s.bases));
    graph->launch(s.stream);
    s.stream.synchronize();
    return *forms_.emplace_back(Form{choices, std::move(graph)}).graph;
}

// One run goes in front, so that the host is ahead of the device.
double InPlace::ms_of(const GraphExec& graph, int runs) {
    Executor::State& s = state();
    if (runs > 1) graph.launch(s.stream);
    start_.record(s.stream);
    for (int i = 0; i < runs; i++) graph.launch(s.stream);
    stop_.record(s.stream);
    stop_.synchronize();
    return static_cast<double>(elapsed_ms(start_, stop_)) / runs;
}

std::vector<TimedPair> InPlace::compare(const Choices& first, const Choices& second,
                                        std::size_t pairs) {
    constexpr double enough_ms = 2;
    constexpr int most_runs = 20;
    std::erase_if(
        forms_, [&](const Form& form) { return form.choices != first && form.choices != second; });
    try {
        const GraphExec& a = graph_of(first);
        const GraphExec& b = graph_of(second);
        const int runs = std::clamp(static_cast<int>(enough_ms / ms_of(a, 1)), 1, most_runs);
        std::vector<TimedPair> result;
        for (std::size_t i = 0; i < pairs; i++) {
            // In this order clocks that fall do the same to both.
            const double before = ms_of(a, runs);
            const double changed = ms_of(b, runs) + ms_of(b, runs);
            result.push_back({before + ms_of(a, runs), changed});
        }
        return result;
    } catch (const ContextLost&) {
        throw;
    } catch (const Error&) {
        return {};
    }
}

TunedChoices InPlace::choices_of(const Choices& choices) const {
    TunedChoices result;
    for (std::size_t i = 0; i < parts_.size(); i++) {
        const Part& part = parts_[i];
        (part.library ? result.algorithms_of : result.tiles_of)[part.problem] =
            part.alternatives[choices[i]].name;
    }
    if (!overlaps_.empty()) result.overlap = overlaps_[choices.back()];
    return result;
}

std::string InPlace::describe(const TuneTrial& trial) const {
    if (trial.part == parts_.size())
        return fmt::format("overlap {}", name_of(overlaps_[trial.alternative]));
    const Part& part = parts_[trial.part];
    if (part.library) return "another algorithm for " + part.problem;
    return fmt::format("{} instead of {} for {}", part.alternatives[trial.alternative].name,
                       part.alternatives[0].name, part.problem);
}

}  // namespace kn::cuda
