#include "executor/algorithms.h"

#include <algorithm>
#include <future>
#include <limits>
#include <map>

#include <fmt/core.h>

#include "executor/in_parallel.h"
#include "executor/stopwatch.h"

namespace kn::cuda {

namespace {

constexpr const char* choice_kinds[] = {"choice-none", "choice-fast", "choice-full"};

int matmul_candidates(Tuning tuning) {
    return tuning == Tuning::None ? 1 : tuning == Tuning::Fast ? 8 : 32;
}
// Those that have to be compiled take 0.2 to 2 s each.
std::size_t cudnn_candidates(Tuning tuning, bool runtime_compiled) {
    if (tuning == Tuning::None) return 1;
    if (tuning == Tuning::Fast) return runtime_compiled ? 4 : 8;
    return runtime_compiled ? 16 : 32;
}
int repeats_for(Tuning tuning) { return tuning == Tuning::Full ? 15 : 5; }

// Of the same care: what more of it finds is faster alone, but not always in its place, which
// tuned_plan() knows.
std::optional<std::string> stored_choice(const TuneSetup& setup, const std::string& key) {
    if (!setup.cache || setup.tuning == Tuning::None) return std::nullopt;
    return setup.cache->get(choice_kinds[static_cast<int>(setup.tuning)], key);
}

void store_choice(const TuneSetup& setup, const std::string& key, const std::string& choice) {
    if (setup.cache && setup.tuning != Tuning::None)
        setup.cache->put(choice_kinds[static_cast<int>(setup.tuning)], key, choice);
}

[[noreturn]] void no_algorithm(ErrorSource library, const std::string& what,
                               const std::string& reason) {
    throw Error({library, "choose_algorithms", "no algorithm for " + what, 0, __FILE__, __LINE__},
                reason);
}

// All that cuDNN offers for a step; but those kernels that it would have to compile only where
// there are no others, or where time does not matter.
std::vector<CudnnCandidate> candidates_of(const Step& step, const DeviceProperties& device,
                                          Tuning tuning) {
    const auto& work = std::get<CudnnWork>(step.work);
    CudnnLimits limits;
    limits.max_workspace = workspace_bytes(step);
    limits.tensor_cores = work.tensor_cores;
    if (tuning != Tuning::Full) {
        limits.runtime_compiled = false;
        try {
            return list_candidates(work.problem, device, limits);
        } catch (const CudnnUnsupported&) {
            limits.runtime_compiled = true;
        }
    }
    return list_candidates(work.problem, device, limits);
}

// All steps of one problem.
struct Problem {
    std::vector<std::size_t> steps;
    std::vector<std::string> names;                        // cuDNN: candidates not tried yet
    std::size_t wanted = 1;                                // how many of them to try
    std::vector<std::pair<std::string, CudnnPlan>> plans;  // built, the best guess first
    std::optional<CudnnPlan> stored;                       // from the cache
    bool was_tuned = false;                                // in an earlier process
    bool was_said = false;                                 // by the plan's options
    bool chosen = false;
    std::string reason;  // why one did not build
};

class Chooser {
  public:
    Chooser(const Plan& plan, const std::shared_ptr<const CublasLt>& lt, const CudnnHandle* cudnn,
            StreamRef stream, const TuneSetup& setup, std::vector<Launch>& launches,
            ExecutorSetup& counts)
        : plan_(plan),
          lt_(lt),
          cudnn_(cudnn),
          stream_(stream),
          device_(stream.device().properties()),
          setup_(setup),
          launches_(launches),
          counts_(counts) {}

    void run(PhaseLog& log) {
        std::map<std::string, Problem> matmuls, cudnns;
        for (std::size_t i = 0; i < plan_.steps.size(); i++) {
            const std::string key = choice_key(plan_.steps[i], device_);
            if (key.empty()) continue;
            const bool matmul = std::holds_alternative<MatMulWork>(plan_.steps[i].work);
            (matmul ? matmuls : cudnns)[key].steps.push_back(i);
        }
        auto plans = std::async(std::launch::async, [&] {
            log.measure("cuDNN's plans: from cache, or candidates", [&] { load_stored(cudnns); });
            log.measure("cuDNN's plans: built", [&] { build(cudnns); });
        });
        log.measure("cuBLASLt's algorithms", [&] {
            for (const auto& [key, problem] : matmuls) choose_matmul(key, problem);
        });
        log.measure("waiting for cuDNN's plans", [&] { plans.get(); });
        for (auto& [key, problem] : cudnns) {
            if (!problem.stored) continue;
            counts_.plans_from_cache++;
            counts_.problems_from_cache += problem.was_tuned;
        }
        log.measure("cuDNN's plans: timed", [&] {
            for (auto& [key, problem] : cudnns)
                if (!problem.chosen) choose_cudnn(key, problem);
        });
    }

  private:
    const Step& first_step(const Problem& problem) const { return plan_.steps[problem.steps[0]]; }

    // Microseconds; infinite for what fails when it runs.
    double time(std::size_t step) {
        if (!timer_) {
            setup_.ready();
            timer_ = std::make_unique<ColdTimer>(stream_);
        }
        const Launch& launch = launches_[step];
        try {
            return timer_->us([&] { queue(launch, stream_, cudnn_, setup_.bases); },
                              repeats_for(setup_.tuning));
        } catch (const ContextLost&) {
            throw;
        } catch (const Error&) {
            return std::numeric_limits<double>::infinity();
        }
    }

    void choose_matmul(const std::string& key, const Problem& problem) {
        const Step& step = first_step(problem);
        const auto& work = std::get<MatMulWork>(step.work);
        const auto matmul = std::make_shared<const Matmul>(*lt_, work.desc);
        const std::size_t workspace = workspace_bytes(step);
        const MatmulSlots slots = matmul_slots(step);
        const auto use = [&](const MatmulAlgo& algo) {
            for (const std::size_t i : problem.steps) {
                const auto& own = std::get<MatMulWork>(plan_.steps[i].work);
                launches_[i].work = MatmulLaunch{{matmul, algo}, slots, own.alpha, own.beta};
            }
        };
        const std::optional<std::string> said = said_choice(key);
        if (const auto algo = parsed(said ? said : stored_choice(setup_, key)))
            if (const auto needed = matmul->check(*algo); needed && *needed <= workspace) {
                counts_.problems_from_cache++;
                return use(*algo);
            }
        const auto algos = matmul->candidates(matmul_candidates(setup_.tuning), workspace);
        if (algos.empty())
            no_algorithm(ErrorSource::CublasLt, to_text(work.desc, slots.c >= 0), "");
        std::size_t best = 0;
        if (algos.size() > 1) {
            double best_us = std::numeric_limits<double>::infinity();
            for (std::size_t i = 0; i < algos.size(); i++) {
                use(algos[i]);
                const double us = time(problem.steps[0]);
                if (us < best_us) best_us = us, best = i;
            }
            counts_.problems_tuned++;
        }
        use(algos[best]);
        if (!said) store_choice(setup_, key, algos[best].to_text());
    }

    static std::optional<MatmulAlgo> parsed(const std::optional<std::string>& text) {
        if (!text) return std::nullopt;
        try {
            return MatmulAlgo::from_text(*text);
        } catch (const Error&) {
            return std::nullopt;  // it names none
        }
    }

    // By the plan's options.
    std::optional<std::string> said_choice(const std::string& key) const {
        const auto said = plan_.options.algorithms_of.find(key);
        if (said == plan_.options.algorithms_of.end()) return std::nullopt;
        return said->second;
    }

    // The stored form of a plan is tied to the problem, the kind of GPU and the version of cuDNN:
    // all of them are in the key.
    std::optional<CudnnPlan> load(const std::string& key, const CudnnProblem& problem,
                                  const std::string& name) const {
        if (!setup_.cache) return std::nullopt;
        const auto text = setup_.cache->get("plan", key + " " + name);
        if (!text) return std::nullopt;
        try {
            return load_plan(problem, device_, *text);
        } catch (const ContextLost&) {
            throw;
        } catch (const Error&) {
            return std::nullopt;
        }
    }

    // What the cache has, else the names to try.
    void find(const std::string& key, Problem& problem) const {
        const Step& step = first_step(problem);
        const auto& work = std::get<CudnnWork>(step.work);
        const std::optional<std::string> said = said_choice(key);
        if (const auto name = said ? said : stored_choice(setup_, key)) {
            problem.was_tuned = true;
            problem.was_said = said.has_value();
            problem.stored = load(key, work.problem, *name);
            if (problem.stored) return;
            problem.names = {*name};
        }
        const auto candidates = candidates_of(step, device_, setup_.tuning);
        if (problem.names.empty() && !candidates.empty())
            problem.wanted = cudnn_candidates(setup_.tuning, candidates[0].runtime_compiled);
        append_names(problem.names, candidates, true);
        append_names(problem.names, candidates, false);
        if (setup_.tuning == Tuning::None && !problem.names.empty())
            problem.stored = load(key, work.problem, problem.names[0]);
    }

    void load_stored(std::map<std::string, Problem>& problems) {
        std::vector<std::pair<const std::string, Problem>*> all;
        for (auto& entry : problems) all.push_back(&entry);
        in_parallel(all.size(), [&](std::size_t i) { find(all[i]->first, all[i]->second); });
        for (auto& [key, problem] : problems) {
            if (problem.stored) use(problem, *problem.stored);
        }
    }

    // What rounds more than the others, or not the same each time, only where there is nothing
    // else.
    static void append_names(std::vector<std::string>& names,
                             const std::vector<CudnnCandidate>& candidates, bool exact) {
        for (const CudnnCandidate& candidate : candidates)
            if ((candidate.deterministic && !candidate.winograd) == exact &&
                (exact || names.empty()))
                names.push_back(candidate.name);
    }

    void use(Problem& problem, const CudnnPlan& plan) {
        problem.chosen = true;
        for (const std::size_t i : problem.steps) {
            launches_[i].work = CudnnLaunch{plan};
        }
    }

    // As many candidates of every problem as the tuning asks for, all at once; then, for problems
    // of which none built, one more at a time.
    void build(std::map<std::string, Problem>& problems) {
        struct Task {
            Problem* problem;
            std::string name;
            std::optional<CudnnPlan> plan;
            std::string reason;
        };
        while (true) {
            std::vector<Task> tasks;
            for (auto& [key, problem] : problems) {
                if (problem.chosen || !problem.plans.empty()) continue;
                const std::size_t count = std::min(problem.wanted, problem.names.size());
                problem.wanted = 1;
                for (std::size_t i = 0; i < count; i++)
                    tasks.push_back({&problem, problem.names[i], {}, {}});
                problem.names.erase(problem.names.begin(),
                                    problem.names.begin() + static_cast<std::ptrdiff_t>(count));
            }
            if (tasks.empty()) return;
            in_parallel(tasks.size(), [&](std::size_t i) {
                Task& task = tasks[i];
                const Step& step = first_step(*task.problem);
                try {
                    task.plan =
                        build_plan(std::get<CudnnWork>(step.work).problem, device_, task.name);
                } catch (const std::exception& error) {
                    task.reason = error.what();
                }
            });
            for (Task& task : tasks) {
                if (task.plan) counts_.plans_built++;
                if (task.plan &&
                    task.plan->workspace_bytes() <= workspace_bytes(first_step(*task.problem)))
                    task.problem->plans.emplace_back(task.name, *task.plan);
                else
                    task.problem->reason = task.reason;
            }
        }
    }

    void choose_cudnn(const std::string& key, Problem& problem) {
        const auto& work = std::get<CudnnWork>(first_step(problem).work);
        if (problem.plans.empty())
            no_algorithm(ErrorSource::Cudnn, cuda::to_text(work.problem), problem.reason);
        std::size_t best = 0;
        if (problem.plans.size() > 1) {
            double best_us = std::numeric_limits<double>::infinity();
            for (std::size_t i = 0; i < problem.plans.size(); i++) {
                use(problem, problem.plans[i].second);
                const double us = time(problem.steps[0]);
                if (us < best_us) best_us = us, best = i;
            }
            counts_.problems_tuned++;
        }
        const auto& [name, plan] = problem.plans[best];
        use(problem, plan);
        if (!problem.was_said) store_choice(setup_, key, name);
        if (setup_.cache) setup_.cache->put("plan", key + " " + name, plan.serialize());
        problem.plans.clear();
    }

    const Plan& plan_;
    const std::shared_ptr<const CublasLt>& lt_;
    const CudnnHandle* cudnn_;
    StreamRef stream_;
    const DeviceProperties& device_;
    const TuneSetup& setup_;
    std::vector<Launch>& launches_;
    ExecutorSetup& counts_;
    std::unique_ptr<ColdTimer> timer_;
};

}  // namespace

std::string to_text(const MatmulDesc& d, bool with_c) {
    return fmt::format(
        "matmul {}x{}x{} {}{} {} {} {} compute {} epilogue {} bias {} c {} ld {} {} {} {} batch {} "
        "strides {} {} {} {} {} alignment {}",
        d.m, d.n, d.k, d.transpose_a ? 't' : 'n', d.transpose_b ? 't' : 'n', to_string(d.a_type),
        to_string(d.b_type), to_string(d.d_type), static_cast<int>(d.compute),
        static_cast<int>(d.epilogue), d.bias, with_c, d.lda, d.ldb, d.ldc, d.ldd, d.batch,
        d.stride_a, d.stride_b, d.stride_c, d.stride_d, d.stride_bias, d.alignment);
}

std::string choice_key(const Step& step, const DeviceProperties& device) {
    const std::string where = fmt::format(" workspace {} on {} sm_{} x{}", workspace_bytes(step),
                                          device.name, device.compute(), device.sm_count);
    if (const auto* work = std::get_if<MatMulWork>(&step.work))
        return to_text(work->desc, work->beta != 0) + where +
               fmt::format(" cublasLt {}", cublaslt_version());
    if (const auto* work = std::get_if<CudnnWork>(&step.work))
        return cuda::to_text(work->problem) + (work->tensor_cores ? "" : " no tensor cores") +
               where + fmt::format(" cudnn {}", cudnn_version());
    return {};
}

void choose_algorithms(const Plan& plan, const std::shared_ptr<const CublasLt>& lt,
                       const CudnnHandle* cudnn, StreamRef stream, const TuneSetup& setup,
                       std::vector<Launch>& launches, ExecutorSetup& counts, PhaseLog& log) {
    Chooser(plan, lt, cudnn, stream, setup, launches, counts).run(log);
}

}  // namespace kn::cuda
