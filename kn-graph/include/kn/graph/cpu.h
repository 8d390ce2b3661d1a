// The CPU executor: runs a graph on host tensors.
//
//     std::vector<kn::Tensor> y = kn::cpu::run(graph, {x});          // once
//     kn::cpu::Executor executor(std::move(graph), {.threads = 2});  // many times: keeps buffers
//     y = executor.run({x});
//
// Symbolic sizes take their values from the inputs' shapes, and from the data where an operation
// decides them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include <kn/graph/graph.h>

namespace kn::cpu {

struct RunOptions {
    int threads = 0;  ///< 0: one for each processor this process may use
    /// A Loop that goes on longer is an error.
    std::int64_t max_loop_iterations = std::numeric_limits<std::int64_t>::max();
};

/// The outputs of `graph` in their order, for `inputs` in the order of graph.inputs(). Nothing is
/// copied where it can be shared. Blocks until done. Throws GraphError that names the input and
/// what was expected if count, dtype, rank or size do not fit, if a constraint of the graph fails,
/// or if data are out of range (an index, a negative size).
KN_API std::vector<Tensor> run(const Graph& graph, const std::vector<Tensor>& inputs,
                               const RunOptions& options = {});

/// A graph made ready for many runs. Several threads may call `run` of one Executor at once; the
/// calls then share its worker threads. Memory of a run is kept for the next one until the Executor
/// goes; outputs stay valid after that.
class KN_API Executor {
  public:
    explicit Executor(Graph graph, const RunOptions& options = {});
    explicit Executor(std::shared_ptr<const Graph> graph, const RunOptions& options = {});
    Executor(Executor&&) noexcept;
    Executor& operator=(Executor&&) noexcept;
    ~Executor();

    const Graph& graph() const;

    /// As kn::cpu::run.
    std::vector<Tensor> run(const std::vector<Tensor>& inputs) const;

    /// Every value that the outputs need: entry i holds the results of graph().value_at(i), none if
    /// it is not needed.
    std::vector<std::vector<Tensor>> run_all(const std::vector<Tensor>& inputs) const;

    /// The most bytes that this Executor has held for intermediate values and outputs at any time;
    /// inputs and constants do not count.
    std::size_t peak_bytes() const;

  private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace kn::cpu
