// Executor: a plan with its memory, kernels and tuned algorithms on one GPU.
//
//     kn::cuda::Executor executor(plan, kn::cuda::Device(0));
//     std::vector<kn::Tensor> y = executor.run({x});               // host tensors
//     executor.run(stream, device_inputs, device_outputs);         // addresses; asynchronous
//
// Making one compiles kernels (or takes them from the cache on disk), builds library plans, uploads
// weights. `run` neither allocates nor compiles.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include <kn/cuda_eval/device_tensor.h>
#include <kn/cuda_eval/plan.h>
#include <kn/cuda_sys/stream.h>

namespace kn::cuda {

class InPlace;

struct ExecutorOptions {
    Tuning tuning = Tuning::Fast;  ///< time the libraries' candidates on the device
    bool use_graph = true;         ///< capture the steps into a CUDA graph
    /// None: as the plan's options say, else Overlap::Timed. Beside Overlap::None, measured on an
    /// H200: ResNet-50 of 1 and 8 images 13 and 5 % faster, a residual tower of 16 boards 4 %.
    std::optional<Overlap> overlap = {};
    bool cache = true;  ///< kernels and tuned algorithms on disk ($XDG_CACHE_HOME/kn)
};

/// What making an executor took; `run` changes none of it but graphs_captured.
struct ExecutorSetup {
    std::size_t kernels_compiled = 0;  ///< by NVRTC
    /// From disk; those that another executor had are in neither.
    std::size_t kernels_from_cache = 0;
    std::size_t plans_built = 0;  ///< cuDNN plans, those tried for their speed included
    std::size_t plans_from_cache = 0;
    std::size_t problems_tuned = 0;  ///< library problems whose candidates were timed
    std::size_t problems_from_cache = 0;
    std::size_t graphs_captured = 0;
    Overlap overlap = Overlap::None;  ///< that runs have
    std::size_t allocations = 0;      ///< of device and pinned memory
    double ms = 0;
    std::vector<Phase> phases;
};

struct StepTime {
    std::size_t step = 0;  ///< of Plan::steps
    double us = 0;         ///< of one execution, repeated inside a graph
};

/// plan(), tuned on this device by runs of the whole network on random inputs. Of each product on a
/// kernel of ours the eight tiles that the planner expects most of are timed alone, and the best of
/// them, three at most and within 5 %, tried in place; so are the algorithms that steps of
/// libraries have with Tuning::Full and, where the options do not say it, the overlap of kernels. A
/// change is kept where whole runs, in turns with runs without it, are faster by 0.3 % and by more
/// than the noise; all changes together only if a last comparison with plan()'s says so again.
///
/// A trial exchanges steps, captures the network anew and times 32 to 160 stretches of 2 ms, or of
/// a run where that is longer: 0.1 to 0.5 s for most networks. There are 64 trials at most, none
/// begun after 20 s. Before them the kernels of all tiles are compiled (once a machine). What is
/// found is kept on disk for plans of the same steps; the next time takes no longer than plan()
/// twice. Plan::phases says what was kept. Blocks. Throws what plan() and Executor do.
KN_CUDA_EVAL_API std::shared_ptr<const Plan> tuned_plan(const Graph& graph, Device device,
                                                        const PlanOptions& options = {});

class KN_CUDA_EVAL_API Executor {
  public:
    /// Throws OutOfMemory with needed and free bytes; Error of the CUDA libraries; CompileError.
    Executor(std::shared_ptr<const Plan> plan, Device device, const ExecutorOptions& options = {});
    Executor(Executor&&) noexcept;
    Executor& operator=(Executor&&) noexcept;
    ~Executor();

    const Plan& plan() const;

    /// Host tensors in the order of the graph's inputs; blocks. One call at a time per Executor
    /// (calls from several threads wait for each other).
    std::vector<Tensor> run(const std::vector<Tensor>& inputs);
    /// Device addresses in the order of inputs and outputs, dense row-major; asynchronous on
    /// `stream`. The addresses must stay valid until the stream gets there.
    void run(StreamRef stream, std::span<const void* const> inputs, std::span<void* const> outputs);

    /// The same with strided tensors, whose dtypes and shapes are those of the graph's; what is not
    /// dense is copied by a kernel of its own.
    void run(StreamRef stream, const std::vector<DeviceTensor>& inputs,
             const std::vector<DeviceTensor>& outputs);

    /// Runs the plan step by step and gives every stored value after the step that completes it:
    /// for comparing with the CPU.
    std::vector<std::pair<Value, Tensor>> run_stored(const std::vector<Tensor>& inputs);

    /// The device's time for each step: the median of some rounds of `repeats` runs of it. Blocks.
    std::vector<StepTime> time_steps(int repeats = 20);
    std::size_t device_bytes() const;  ///< arena, weights and staging, as allocated
    ExecutorSetup setup() const;

  private:
    friend class InPlace;
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace kn::cuda
