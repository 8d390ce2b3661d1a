// What an Executor holds.
#pragma once

#include <functional>
#include <future>
#include <list>
#include <mutex>
#include <optional>

#include <kn/cuda_eval/executor.h>
#include <kn/cuda_sys/event.h>
#include <kn/cuda_sys/graph.h>

#include "cache/disk_cache.h"
#include "executor/constants.h"
#include "executor/launch.h"
#include "planner/phases.h"

namespace kn::cuda {

/// The handle that executors of one device share.
std::shared_ptr<const CublasLt> shared_cublaslt(Device device);

/// Where the graph's inputs and outputs lie in one stretch of memory, inputs first, each aligned
/// for every library.
struct Staging {
    std::vector<std::size_t> inputs, outputs;  ///< offsets
    std::size_t input_bytes = 0;               ///< the first output starts here
    std::size_t bytes = 0;
};
Staging lay_out_staging(const Plan& plan);

/// Addresses of all buffers of a plan.
std::vector<std::byte*> buffer_addresses(
    const Plan& plan, std::byte* arena,
    const std::vector<std::shared_ptr<const DeviceConstant>>& constants,
    std::span<std::byte* const> inputs, std::span<std::byte* const> outputs);

/// Inputs and outputs of a run, by address.
struct Ports {
    std::vector<std::byte*> inputs, outputs;
    bool operator==(const Ports&) const = default;
};

/// Steps captured for one set of addresses.
struct PortGraph {
    Ports ports;
    std::optional<GraphExec> graph;  ///< none: seen once, not worth it yet
    std::size_t last_run = 0;
};

struct Executor::State {
    State(std::shared_ptr<const Plan> the_plan, Device device, const ExecutorOptions& the_options);
    ~State();

    std::shared_ptr<const Plan> plan;
    ExecutorOptions options;
    ExecutorSetup setup;
    PhaseLog log;
    std::future<std::vector<std::shared_ptr<const Kernel>>> kernels;  ///< until prepared
    std::mutex mutex;
    Stream stream;
    std::unique_ptr<const CudnnHandle> cudnn;  ///< null where no step needs it, as is lt
    std::shared_ptr<const CublasLt> lt;
    Event done;  ///< of the last run: the next one waits, on whatever stream
    std::vector<std::shared_ptr<const DeviceConstant>> constants;
    DeviceMemory arena;
    Staging staging;
    DeviceMemory ports_memory;
    HostMemory host_memory;         ///< the same layout as ports_memory
    Ports staged;                   ///< addresses in ports_memory
    std::vector<std::byte*> bases;  ///< of the plan's buffers when inputs and outputs are staged
    std::vector<std::shared_ptr<const Kernel>> copy_kernels;
    std::vector<Launch> launches;
    std::optional<GraphExec> staged_graph;
    std::list<PortGraph> port_graphs;
    std::size_t runs = 0;

    Device device() const { return stream.device(); }
    std::size_t constant_bytes() const;

    /// The plan's, then copy_kernels: compiled and loaded by other threads.
    std::future<std::vector<std::shared_ptr<const Kernel>>> start_kernels(Device device);
    DiskCache* cache() const { return options.cache ? DiskCache::shared() : nullptr; }
    /// What this executor's or the plan's options say.
    Overlap wanted_overlap() const;
    /// Whether kernels may start early, so that they have to wait.
    bool overlaps(Device device) const;
    void set_overlap(Overlap overlap);
    /// As the options say: times what there is, on whatever the buffers hold.
    void choose_overlap();
    /// `take_weights` waits for them the first time; addresses are known then.
    void prepare(const std::function<void()>& take_weights);
    /// Steps of libraries once, while weights are on their way: libraries load a kernel when it is
    /// first launched, 4 to 20 ms each. Queued only.
    void launch_libraries();
    void take_kernels();
    /// Runs body(); an OutOfMemory then says what the whole plan needs.
    void with_memory_named(const std::function<void()>& body) const;
    void queue_steps(StreamRef on, std::span<std::byte* const> addresses);
    GraphExec capture_steps(std::span<std::byte* const> addresses);
    std::vector<std::byte*> addresses_of(const Ports& ports) const;

    void check_inputs(const std::vector<Tensor>& inputs) const;
    void upload_inputs(const std::vector<Tensor>& inputs);
    /// Runs the steps on the staged ports.
    void run_staged(StreamRef on);
    std::vector<Tensor> download_outputs();

    void run_on(StreamRef on, const Ports& ports);
    /// The graph for these addresses, if there is one or it is worth making.
    GraphExec* graph_for(const Ports& ports);
    void copy_and_run(StreamRef on, const Ports& ports, bool by_graph);
    void run_strided(StreamRef on, const std::vector<DeviceTensor>& inputs,
                     const std::vector<DeviceTensor>& outputs);
};

}  // namespace kn::cuda
