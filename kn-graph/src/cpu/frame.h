// The state of a run of one graph, and what is known of the graph beforehand.
#pragma once

#include <mutex>
#include <unordered_map>

#include "cpu/eval.h"
#include "cpu/memory.h"

namespace kn::cpu {

/// What every run of a graph shares: the order of evaluation, and when each value is needed for the
/// last time.
struct Program {
    explicit Program(std::shared_ptr<const Graph> graph);

    std::shared_ptr<const Graph> graph;
    std::vector<Value> order;
    std::vector<std::vector<std::uint32_t>> dead_after;  ///< by step: values whose last use it is
    std::vector<Arrays> constants;                       ///< by value: of a Constant its array
    /// Constraints over run-time symbols, by each of these.
    std::unordered_map<std::string, std::vector<const Constraint*>> constraints;
};

/// Shared by all runs of one Executor.
struct Engine {
    explicit Engine(const RunOptions& run_options)
        : options(run_options), threads(run_options.threads), memory(MemoryPool::create()) {}

    /// Prepared on first use and kept.
    std::shared_ptr<const Program> program(const std::shared_ptr<const Graph>& graph);

    RunOptions options;
    ThreadPool threads;
    std::shared_ptr<MemoryPool> memory;

  private:
    std::mutex mutex_;
    std::unordered_map<const Graph*, std::shared_ptr<const Program>> programs_;
};

struct Frame {
    Engine& engine;
    const Program& program;
    Bindings bindings;
    std::vector<Arrays> values;  ///< by value index; empty: not computed yet, or released
    std::size_t step = 0;
    bool keep_all = false;
};

/// Evaluates all of the frame's graph; its inputs' values and symbols are set.
void evaluate(Frame& frame);

/// Throws GraphError if the constraint is false under `bindings`; one with unbound symbols passes.
void check_constraint(const Constraint& constraint, const Bindings& bindings);

}  // namespace kn::cpu
