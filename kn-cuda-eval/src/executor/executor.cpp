#include <kn/cuda_eval/executor.h>

#include <algorithm>
#include <map>

#include <fmt/core.h>

#include "executor/state.h"
#include "executor/strided.h"

namespace kn::cuda {

namespace {

// The elements of a tensor that lies at `buffer` on the device. Blocks.
Tensor read_tensor(StreamRef stream, const TensorRef& ref, const std::byte* buffer) {
    Tensor out(ref.dtype, ref.shape);
    if (out.size() == 0) return out;
    std::int64_t low = 0, high = 0;  // elements around the first
    for (std::size_t i = 0; i < ref.shape.size(); i++) {
        const std::int64_t reach = (ref.shape[i] - 1) * ref.strides[i];
        (reach < 0 ? low : high) += reach;
    }
    const auto size = static_cast<std::int64_t>(size_of(ref.dtype));
    std::vector<std::byte> bytes(static_cast<std::size_t>((high - low + 1) * size));
    copy_bytes_async(stream, bytes.data(), buffer + (ref.offset + low) * size, bytes.size());
    stream.synchronize();
    gather_strided(bytes.data() - low * size, out.mutable_bytes().data(), size_of(ref.dtype),
                   ref.shape, ref.strides);
    return out;
}

Ports ports_of(std::span<const void* const> inputs, std::span<void* const> outputs) {
    Ports ports;
    for (const void* address : inputs)
        ports.inputs.push_back(static_cast<std::byte*>(const_cast<void*>(address)));
    for (void* address : outputs) ports.outputs.push_back(static_cast<std::byte*>(address));
    return ports;
}

void check_ports(const Plan& plan, const Ports& ports) {
    if (ports.inputs.size() != plan.inputs.size() || ports.outputs.size() != plan.outputs.size())
        throw GraphError(fmt::format("{} inputs and {} outputs given, {} and {} expected",
                                     ports.inputs.size(), ports.outputs.size(), plan.inputs.size(),
                                     plan.outputs.size()));
    const auto check = [&](const char* what, const std::string& name, const TensorRef& ref,
                           const std::byte* address) {
        if (!address && checked_size(ref.shape) > 0)
            throw GraphError(fmt::format("the address of {} '{}' is null", what, printable(name)));
    };
    for (std::size_t i = 0; i < plan.inputs.size(); i++)
        check("input", plan.graph->inputs()[i].name, plan.inputs[i], ports.inputs[i]);
    for (std::size_t i = 0; i < plan.outputs.size(); i++)
        check("output", plan.graph->outputs()[i].name, plan.outputs[i], ports.outputs[i]);
}

void check_device(Device own, StreamRef stream) {
    if (stream.device() == own) return;
    detail::misuse("Executor::run",
                   fmt::format("the executor is of device {}, the stream of device {}", own.index(),
                               stream.device().index()),
                   __FILE__, __LINE__);
}

// Whether it is dense; throws GraphError if it is another type than the plan's.
bool check_tensor(const char* what, const std::string& name, const DeviceTensor& tensor,
                  const TensorRef& expected) {
    if (tensor.dtype != expected.dtype || tensor.shape != expected.shape ||
        tensor.strides.size() != tensor.shape.size())
        throw GraphError(fmt::format("{} '{}' is {}{}, expected {}{}", what, printable(name),
                                     name_of(tensor.dtype), Shape::of(tensor.shape).to_string(),
                                     name_of(expected.dtype),
                                     Shape::of(expected.shape).to_string()));
    return tensor.is_dense();
}

// The steps that clear what a step counts in: repeating it means repeating them.
std::vector<std::size_t> clears_before(const Plan& plan, std::size_t step) {
    std::vector<std::size_t> clears;
    for (const Operand& operand : plan.steps[step].operands) {
        if (operand.access != Access::ReadWrite) continue;
        for (std::size_t i = step; i-- > 0;)
            if (std::holds_alternative<ClearWork>(plan.steps[i].work) &&
                plan.steps[i].operands[0].tensor.buffer == operand.tensor.buffer) {
                clears.push_back(i);
                break;
            }
    }
    return clears;
}

}  // namespace

Executor::Executor(std::shared_ptr<const Plan> plan, Device device, const ExecutorOptions& options)
    : state_(std::make_unique<State>(std::move(plan), device, options)) {}
Executor::Executor(Executor&&) noexcept = default;
Executor& Executor::operator=(Executor&&) noexcept = default;
Executor::~Executor() = default;

const Plan& Executor::plan() const { return *state_->plan; }

std::vector<Tensor> Executor::run(const std::vector<Tensor>& inputs) {
    State& s = *state_;
    s.check_inputs(inputs);
    const std::lock_guard lock(s.mutex);
    s.stream.wait(s.done);
    s.upload_inputs(inputs);
    s.run_staged(s.stream);
    s.done.record(s.stream);
    return s.download_outputs();
}

void Executor::run(StreamRef stream, std::span<const void* const> inputs,
                   std::span<void* const> outputs) {
    State& s = *state_;
    const Ports ports = ports_of(inputs, outputs);
    check_ports(*s.plan, ports);
    check_device(s.device(), stream);
    const std::lock_guard lock(s.mutex);
    s.run_on(stream, ports);
}

void Executor::run(StreamRef stream, const std::vector<DeviceTensor>& inputs,
                   const std::vector<DeviceTensor>& outputs) {
    State& s = *state_;
    Ports ports;
    for (const DeviceTensor& tensor : inputs)
        ports.inputs.push_back(static_cast<std::byte*>(tensor.address));
    for (const DeviceTensor& tensor : outputs)
        ports.outputs.push_back(static_cast<std::byte*>(tensor.address));
    check_ports(*s.plan, ports);
    check_device(s.device(), stream);
    bool dense = true;
    for (std::size_t i = 0; i < inputs.size(); i++)
        dense &=
            check_tensor("input", s.plan->graph->inputs()[i].name, inputs[i], s.plan->inputs[i]);
    for (std::size_t i = 0; i < outputs.size(); i++)
        dense &= check_tensor("output", s.plan->graph->outputs()[i].name, outputs[i],
                              s.plan->outputs[i]);
    const std::lock_guard lock(s.mutex);
    dense ? s.run_on(stream, ports) : s.run_strided(stream, inputs, outputs);
}

std::vector<std::pair<Value, Tensor>> Executor::run_stored(const std::vector<Tensor>& inputs) {
    State& s = *state_;
    s.check_inputs(inputs);
    std::map<std::uint32_t, const TensorRef*> stored;
    for (const auto& [value, ref] : s.plan->stored) stored[value.index] = &ref;
    const std::lock_guard lock(s.mutex);
    s.stream.wait(s.done);
    s.upload_inputs(inputs);
    std::vector<std::pair<Value, Tensor>> values;
    for (std::size_t i = 0; i < s.launches.size(); i++) {
        queue(s.launches[i], s.stream, s.cudnn.get(), s.bases);
        for (const Value& value : s.plan->steps[i].produces)
            if (const auto found = stored.find(value.index); found != stored.end())
                values.emplace_back(
                    value, read_tensor(s.stream, *found->second, s.bases[found->second->buffer]));
    }
    s.stream.synchronize();
    return values;
}

std::vector<StepTime> Executor::time_steps(int repeats) {
    constexpr int rounds = 5;
    State& s = *state_;
    repeats = std::max(repeats, 1);
    const std::lock_guard lock(s.mutex);
    s.stream.wait(s.done);
    // A repeated step must not start beside itself.
    const struct Restore {
        State& state;
        Overlap overlap = state.setup.overlap;
        ~Restore() { state.set_overlap(overlap); }
    } restore{s};
    s.set_overlap(Overlap::None);
    Event start(s.device()), stop(s.device());
    const auto median_us = [&](const std::vector<std::size_t>& steps) {
        const GraphExec graph =
            capture(s.stream, [&] {
                for (int i = 0; i < repeats; i++)
                    for (const std::size_t step : steps)
                        queue(s.launches[step], s.stream, s.cudnn.get(), s.bases);
            }).instantiate();
        std::vector<double> times;
        for (int round = 0; round <= rounds; round++) {
            start.record(s.stream);
            graph.launch(s.stream);
            stop.record(s.stream);
            stop.synchronize();
            if (round > 0) times.push_back(1000 * static_cast<double>(elapsed_ms(start, stop)));
        }
        std::ranges::nth_element(times, times.begin() + rounds / 2);
        return times[rounds / 2] / repeats;
    };
    s.queue_steps(s.stream, s.bases);
    std::vector<StepTime> result;
    for (std::size_t i = 0; i < s.launches.size(); i++) {
        std::vector<std::size_t> steps = clears_before(*s.plan, i);
        const double before = steps.empty() ? 0 : median_us(steps);
        steps.push_back(i);
        result.push_back({i, std::max(0.0, median_us(steps) - before)});
    }
    return result;
}

std::size_t Executor::device_bytes() const {
    const State& s = *state_;
    return s.arena.bytes() + s.ports_memory.bytes() + s.constant_bytes();
}

ExecutorSetup Executor::setup() const {
    const std::lock_guard lock(state_->mutex);
    return state_->setup;
}

}  // namespace kn::cuda
