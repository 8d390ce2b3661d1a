#include "executor/state.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>

#include <fmt/core.h>

#include "executor/algorithms.h"
#include "executor/in_parallel.h"
#include "executor/kernels.h"
#include "executor/overlap.h"
#include "executor/strided_copy.h"

namespace kn::cuda {

namespace {

constexpr std::size_t kept_graphs = 4;
// A graph that served none of this many runs makes room for another.
constexpr std::size_t forgotten_after = 64;

std::size_t rounded(std::size_t bytes) {
    return (bytes + Arena::alignment - 1) / Arena::alignment * Arena::alignment;
}

std::size_t bytes_of(const TensorRef& tensor) {
    return static_cast<std::size_t>(checked_size(tensor.shape)) * size_of(tensor.dtype);
}

// By one thread a megabyte takes 0.1 ms, and 0.3 where nobody has used the target yet.
void copy_on_host(std::span<std::byte> target, const std::byte* source) {
    constexpr std::size_t piece = std::size_t{4} << 20;  // two large pages
    in_parallel((target.size() + piece - 1) / piece, [&](std::size_t i) {
        const auto part = target.subspan(i * piece, std::min(piece, target.size() - i * piece));
        std::memcpy(part.data(), source + i * piece, part.size());
    });
}

bool aligned(const std::byte* address) {
    return reinterpret_cast<std::uintptr_t>(address) % Arena::alignment == 0;
}
bool aligned(const Ports& ports) {
    const auto good = [](const std::byte* address) { return aligned(address); };
    return std::ranges::all_of(ports.inputs, good) && std::ranges::all_of(ports.outputs, good);
}

Device checked(const Plan& plan, Device device) {
    const int here = device.properties().compute();
    if (plan.device.compute() != here)
        detail::misuse("Executor",
                       fmt::format("the plan is for sm_{}, device {} is sm_{}",
                                   plan.device.compute(), device.index(), here),
                       __FILE__, __LINE__);
    return device;
}

std::shared_ptr<const Plan> not_null(std::shared_ptr<const Plan> plan) {
    if (!plan) detail::misuse("Executor", "there is no plan", __FILE__, __LINE__);
    return plan;
}

// What make() gives where there are steps of a library, null otherwise. Where the library is
// missing, the error names the steps.
template <class Work, class Make>
auto handle_for(const Plan& plan, Make make) -> decltype(make()) {
    std::string names;
    for (std::size_t i = 0; i < plan.steps.size(); i++)
        if (std::holds_alternative<Work>(plan.steps[i].work))
            names += fmt::format("{}{} {}", names.empty() ? "" : ", ", i, plan.steps[i].name);
    if (names.empty()) return nullptr;
    try {
        return make();
    } catch (const LibraryMissing& error) {
        throw LibraryMissing(error.info(), "the plan needs it for its steps " + names);
    }
}

}  // namespace

std::shared_ptr<const CublasLt> shared_cublaslt(Device device) {
    static std::mutex mutex;
    static std::map<int, std::weak_ptr<const CublasLt>> handles;
    const std::lock_guard lock(mutex);
    auto& known = handles[device.index()];
    if (auto handle = known.lock()) return handle;
    // Steps bring their workspaces; an address must be there all the same.
    auto handle = std::make_shared<const CublasLt>(device, Arena::alignment);
    known = handle;
    return handle;
}

Staging lay_out_staging(const Plan& plan) {
    Staging staging;
    for (const TensorRef& input : plan.inputs) {
        staging.inputs.push_back(staging.bytes);
        staging.bytes += rounded(bytes_of(input));
    }
    staging.input_bytes = staging.bytes;
    for (const TensorRef& output : plan.outputs) {
        staging.outputs.push_back(staging.bytes);
        staging.bytes += rounded(bytes_of(output));
    }
    return staging;
}

std::vector<std::byte*> buffer_addresses(
    const Plan& plan, std::byte* arena,
    const std::vector<std::shared_ptr<const DeviceConstant>>& constants,
    std::span<std::byte* const> inputs, std::span<std::byte* const> outputs) {
    std::vector<std::byte*> addresses;
    for (const Buffer& buffer : plan.buffers) {
        const auto in = [&](const auto& list) {
            KN_CHECK(buffer.index < list.size(), buffer.name);
            return list[buffer.index];
        };
        switch (buffer.kind) {
            case Buffer::Kind::Input: addresses.push_back(in(inputs)); break;
            case Buffer::Kind::Output: addresses.push_back(in(outputs)); break;
            case Buffer::Kind::Constant: addresses.push_back(in(constants)->address); break;
            case Buffer::Kind::Arena: addresses.push_back(arena + buffer.offset); break;
        }
    }
    return addresses;
}

Executor::State::State(std::shared_ptr<const Plan> the_plan, Device device,
                       const ExecutorOptions& the_options)
    : plan(not_null(std::move(the_plan))),
      options(the_options),
      kernels(start_kernels(checked(*plan, device))),
      stream(log.measure("context", [&] { return Stream(device); })),
      cudnn(log.measure("cuDNN's handle",
                        [&] {
                            return handle_for<CudnnWork>(
                                *plan, [&] { return std::make_unique<const CudnnHandle>(device); });
                        })),
      lt(log.measure(
          "cuBLASLt's handle",
          [&] { return handle_for<MatMulWork>(*plan, [&] { return shared_cublaslt(device); }); })),
      done(device, Event::Timing::Off),
      arena(device, 0),
      staging(lay_out_staging(*plan)),
      ports_memory(device, 0),
      host_memory(0) {
    const auto start = std::chrono::steady_clock::now();
    std::size_t weights = 0;
    auto uploaded = std::async(std::launch::async, [&] {
        const Stream own(device);
        return log.measure("weights",
                           [&] { return upload_constants(own, plan->constants, weights); });
    });
    with_memory_named([&] {
        log.measure("device memory", [&] {
            arena = DeviceMemory(device, plan->arena_bytes);
            ports_memory = DeviceMemory(device, staging.bytes);
        });
    });
    // After that, as the driver does one at a time, and 100 MB take 40 ms to pin.
    auto pinned = std::async(std::launch::async, [&] {
        return log.measure("pinned memory", [&] { return HostMemory(staging.bytes); });
    });
    auto* ports = static_cast<std::byte*>(ports_memory.data());
    for (const std::size_t offset : staging.inputs) staged.inputs.push_back(ports + offset);
    for (const std::size_t offset : staging.outputs) staged.outputs.push_back(ports + offset);
    prepare([&] {
        if (!uploaded.valid()) return;
        with_memory_named([&] { constants = uploaded.get(); });
        bases = addresses_of(staged);
    });
    host_memory = pinned.get();
    setup.allocations = (arena.bytes() > 0) + (ports_memory.bytes() > 0) + (weights > 0) +
                        (host_memory.bytes() > 0);
    setup.ms =
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    setup.phases = log.take();
}

void Executor::State::with_memory_named(const std::function<void()>& body) const {
    try {
        body();
    } catch (const OutOfMemory& error) {
        const Device device = this->device();
        const MemoryInfo memory = device.memory();
        const std::size_t missing = error.requested_bytes();
        const std::size_t needed = plan->arena_bytes + staging.bytes + plan->constant_bytes;
        throw OutOfMemory(
            error.info(), needed,
            fmt::format("the plan needs {} bytes of device {} (arena {}, inputs and outputs {}, "
                        "weights {}); the last {} were not to be had, {} of {} are free",
                        needed, device.index(), plan->arena_bytes, staging.bytes,
                        plan->constant_bytes, missing, memory.free, memory.total));
    }
}

Executor::State::~State() {
    try {
        done.synchronize();
    } catch (const std::exception&) {
        // The device is lost, and its memory with it.
    }
}

std::size_t Executor::State::constant_bytes() const {
    std::size_t sum = 0;
    std::vector<const std::byte*> seen;
    for (std::size_t i = 0; i < constants.size(); i++) {
        if (std::ranges::count(seen, constants[i]->address)) continue;
        seen.push_back(constants[i]->address);
        sum += cuda::device_bytes(plan->constants[i]);
    }
    return sum;
}

Overlap Executor::State::wanted_overlap() const {
    const Overlap usual = options.tuning == Tuning::None ? Overlap::None : Overlap::Timed;
    return options.overlap.value_or(plan->options.overlap.value_or(usual));
}

bool Executor::State::overlaps(Device device) const {
    return wanted_overlap() != Overlap::None && can_overlap(device.properties().compute());
}

std::future<std::vector<std::shared_ptr<const Kernel>>> Executor::State::start_kernels(
    Device device) {
    return std::async(std::launch::async, [this, device] {
        const bool overlap = overlaps(device);
        std::vector<PlanKernel> sources;
        for (const PlanKernel& kernel : plan->kernels)
            sources.push_back(overlap ? with_wait(kernel) : kernel);
        for (PlanKernel& kernel : cuda::copy_kernels()) sources.push_back(std::move(kernel));
        return load_kernels(device, std::move(sources), cache(), setup, log);
    });
}

void Executor::State::take_kernels() {
    const auto loaded = log.measure("waiting for kernels", [&] { return kernels.get(); });
    copy_kernels.assign(loaded.begin() + static_cast<std::ptrdiff_t>(plan->kernels.size()),
                        loaded.end());
    for (std::size_t i = 0; i < plan->steps.size(); i++) {
        const Step& step = plan->steps[i];
        Launch& launch = launches[i];
        if (const auto* work = std::get_if<KernelWork>(&step.work)) {
            launch.work = kernel_launch(*work, loaded.at(work->kernel), device());
        } else if (std::holds_alternative<ClearWork>(step.work)) {
            launch.work = ClearLaunch{bytes_of(step.operands.at(0).tensor)};
        }
    }
}

void Executor::State::prepare(const std::function<void()>& take_weights) {
    for (const Step& step : plan->steps) launches.push_back(without_work(step));
    // Zeros everywhere: what steps read before anybody has written it must not be an index or a
    // length out of range.
    fill_bytes_async(stream, arena.data(), 0, arena.bytes());
    fill_bytes_async(stream, ports_memory.data(), 0, ports_memory.bytes());
    choose_algorithms(*plan, lt, cudnn.get(), stream,
                      {options.tuning, cache(), bases, take_weights}, launches, setup, log);
    if (bases.empty()) log.measure("libraries' kernels", [&] { launch_libraries(); });
    log.measure("waiting for weights", take_weights);
    take_kernels();
    // Loads all code, and shows what is wrong with a step before it is hidden in a graph.
    log.measure("first run", [&] {
        queue_steps(stream, bases);
        stream.synchronize();
    });
    log.measure("overlap of kernels", [&] { choose_overlap(); });
    if (options.use_graph && !launches.empty())
        staged_graph = log.measure("captured graph", [&] { return capture_steps(bases); });
    done.record(stream);
}

void Executor::State::launch_libraries() {
    // In place of weights the arena's zeros, where it has as many.
    const auto zeros = std::make_shared<DeviceConstant>();
    zeros->address = static_cast<std::byte*>(arena.data());
    const auto nothing = std::make_shared<const DeviceConstant>();
    std::vector<std::shared_ptr<const DeviceConstant>> weights;
    for (const PlanConstant& constant : plan->constants)
        weights.push_back(cuda::device_bytes(constant) <= arena.bytes() ? zeros : nothing);
    const auto addresses =
        buffer_addresses(*plan, zeros->address, weights, staged.inputs, staged.outputs);
    for (const Launch& launch : launches) {
        const bool library = std::holds_alternative<MatmulLaunch>(launch.work) ||
                             std::holds_alternative<CudnnLaunch>(launch.work);
        const bool complete = std::ranges::all_of(
            launch.operands, [&](const OperandAddress& at) { return addresses[at.buffer]; });
        if (library && complete) queue(launch, stream, cudnn.get(), addresses);
    }
}

void Executor::State::queue_steps(StreamRef on, std::span<std::byte* const> addresses) {
    for (const Launch& launch : launches) queue(launch, on, cudnn.get(), addresses);
}

GraphExec Executor::State::capture_steps(std::span<std::byte* const> addresses) {
    const CapturedGraph graph = capture(stream, [&] { queue_steps(stream, addresses); });
    GraphExec exec = graph.instantiate();
    exec.upload(stream);
    stream.synchronize();
    setup.graphs_captured++;
    return exec;
}

std::vector<std::byte*> Executor::State::addresses_of(const Ports& ports) const {
    return buffer_addresses(*plan, static_cast<std::byte*>(arena.data()), constants, ports.inputs,
                            ports.outputs);
}

void Executor::State::check_inputs(const std::vector<Tensor>& inputs) const {
    if (inputs.size() != plan->inputs.size())
        throw GraphError(
            fmt::format("{} inputs given, {} expected", inputs.size(), plan->inputs.size()));
    for (std::size_t i = 0; i < inputs.size(); i++) {
        const TensorRef& expected = plan->inputs[i];
        if (inputs[i].dtype() == expected.dtype && inputs[i].shape() == expected.shape) continue;
        throw GraphError(fmt::format("input '{}' is {}, expected {}{}",
                                     printable(plan->graph->inputs()[i].name),
                                     inputs[i].type_string(), name_of(expected.dtype),
                                     Shape::of(expected.shape).to_string()));
    }
}

void Executor::State::upload_inputs(const std::vector<Tensor>& inputs) {
    auto* host = static_cast<std::byte*>(host_memory.data());
    for (std::size_t i = 0; i < inputs.size(); i++)
        copy_on_host({host + staging.inputs[i], inputs[i].byte_size()}, inputs[i].bytes().data());
    copy_bytes_async(stream, ports_memory.data(), host, staging.input_bytes);
}

void Executor::State::run_staged(StreamRef on) {
    if (staged_graph)
        staged_graph->launch(on);
    else
        queue_steps(on, bases);
}

std::vector<Tensor> Executor::State::download_outputs() {
    auto* host = static_cast<std::byte*>(host_memory.data());
    copy_bytes_async(stream, host + staging.input_bytes,
                     static_cast<std::byte*>(ports_memory.data()) + staging.input_bytes,
                     staging.bytes - staging.input_bytes);
    stream.synchronize();
    std::vector<Tensor> outputs;
    for (std::size_t i = 0; i < plan->outputs.size(); i++) {
        const TensorRef& ref = plan->outputs[i];
        Tensor& output = outputs.emplace_back(ref.dtype, ref.shape);
        copy_on_host(output.mutable_bytes(), host + staging.outputs[i]);
    }
    return outputs;
}

GraphExec* Executor::State::graph_for(const Ports& ports) {
    if (!options.use_graph) return nullptr;
    const auto found = std::ranges::find(port_graphs, ports, &PortGraph::ports);
    if (found != port_graphs.end()) {
        // The second time: it will come again.
        if (!found->graph) {
            done.synchronize();
            found->graph = capture_steps(addresses_of(ports));
        }
        found->last_run = runs;
        port_graphs.splice(port_graphs.begin(), port_graphs, found);
        return &*port_graphs.front().graph;
    }
    if (port_graphs.size() >= kept_graphs) {
        const PortGraph& oldest = port_graphs.back();
        if (oldest.graph && runs - oldest.last_run < forgotten_after) return nullptr;
        done.synchronize();
        port_graphs.pop_back();
    }
    port_graphs.push_front({ports, std::nullopt, runs});
    return nullptr;
}

void Executor::State::copy_and_run(StreamRef on, const Ports& ports, bool by_graph) {
    for (std::size_t i = 0; i < ports.inputs.size(); i++)
        copy_bytes_async(on, staged.inputs[i], ports.inputs[i], bytes_of(plan->inputs[i]));
    if (by_graph)
        run_staged(on);
    else
        queue_steps(on, bases);
    for (std::size_t i = 0; i < ports.outputs.size(); i++)
        copy_bytes_async(on, ports.outputs[i], staged.outputs[i], bytes_of(plan->outputs[i]));
}

void Executor::State::run_strided(StreamRef on, const std::vector<DeviceTensor>& inputs,
                                  const std::vector<DeviceTensor>& outputs) {
    const bool capturing = on.capturing();
    if (!capturing) {
        runs++;
        on.wait(done);
    }
    const auto dense = [](std::byte* address, const TensorRef& ref) {
        return DeviceTensor::dense(static_cast<void*>(address), ref.dtype, ref.shape);
    };
    for (std::size_t i = 0; i < inputs.size(); i++)
        copy_strided(on, copy_kernels, dense(staged.inputs[i], plan->inputs[i]), inputs[i]);
    if (capturing)
        queue_steps(on, bases);
    else
        run_staged(on);
    for (std::size_t i = 0; i < outputs.size(); i++)
        copy_strided(on, copy_kernels, outputs[i], dense(staged.outputs[i], plan->outputs[i]));
    if (!capturing) done.record(on);
}

void Executor::State::run_on(StreamRef on, const Ports& ports) {
    const bool direct = aligned(ports);
    // Into the caller's graph the steps go as they are; events of ours have no place there.
    if (on.capturing())
        return direct ? queue_steps(on, addresses_of(ports)) : copy_and_run(on, ports, false);
    runs++;
    on.wait(done);
    if (!direct)
        copy_and_run(on, ports, true);
    else if (!options.use_graph)
        queue_steps(on, addresses_of(ports));
    else if (const GraphExec* graph = graph_for(ports))
        graph->launch(on);
    else
        copy_and_run(on, ports, true);
    done.record(on);
}

}  // namespace kn::cuda
