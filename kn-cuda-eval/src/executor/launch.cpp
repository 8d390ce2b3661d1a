#include "executor/launch.h"

#include <algorithm>
#include <array>

namespace kn::cuda {

namespace {

using Addresses = std::span<void* const>;

// Kernels of more operands than fit the stack's array are not slow because of one allocation.
constexpr std::size_t usual_operands = 32;

void queue_kernel(const KernelLaunch& work, StreamRef stream, Addresses addresses) {
    std::vector<void*> arguments;
    arguments.reserve(addresses.size() + work.scalars.size() + work.maps.size());
    for (void* const& address : addresses) arguments.push_back(const_cast<void**>(&address));
    for (const std::int64_t& scalar : work.scalars)
        arguments.push_back(const_cast<std::int64_t*>(&scalar));
    std::vector<std::size_t> sizes(arguments.size(), 8);
    std::vector<TensorMap> maps;
    maps.reserve(work.maps.size());
    for (const OperandMap& map : work.maps) {
        arguments.push_back(&maps.emplace_back(map.layout, addresses[map.operand]));
        sizes.push_back(sizeof(TensorMap));
    }
    work.kernel->launch_raw(stream, work.config, arguments, sizes);
}

void queue_matmul(const MatmulLaunch& work, StreamRef stream, Addresses addresses,
                  std::size_t workspace) {
    const auto at = [&](int slot) {
        return slot < 0 ? nullptr : addresses[static_cast<std::size_t>(slot)];
    };
    const MatmulSlots& slots = work.slots;
    const MatmulPointers pointers{at(slots.a), at(slots.b), at(slots.c), at(slots.d),
                                  at(slots.bias)};
    work.choice.matmul->run(
        stream, work.choice.algo, pointers, work.alpha, work.beta,
        DeviceSpan<std::byte>(stream.device(), static_cast<std::byte*>(at(slots.workspace)),
                              workspace));
}

void queue_cudnn(const CudnnLaunch& work, StreamRef stream, const CudnnHandle& cudnn,
                 Addresses addresses, bool has_workspace, std::size_t workspace) {
    const DeviceSpan<std::byte> scratch(
        stream.device(), has_workspace ? static_cast<std::byte*>(addresses.back()) : nullptr,
        workspace);
    work.plan.run(cudnn, stream, addresses.first(addresses.size() - (has_workspace ? 1 : 0)),
                  scratch);
}

}  // namespace

std::vector<OperandAddress> operand_addresses(const Step& step) {
    std::vector<OperandAddress> result;
    for (const Operand& operand : step.operands)
        result.push_back(
            {operand.tensor.buffer,
             operand.tensor.offset * static_cast<std::int64_t>(size_of(operand.tensor.dtype))});
    return result;
}

bool has_workspace(const Step& step) {
    return !step.operands.empty() && step.operands.back().access == Access::Scratch;
}

std::size_t workspace_bytes(const Step& step) {
    if (!has_workspace(step)) return 0;
    const TensorRef& tensor = step.operands.back().tensor;
    return static_cast<std::size_t>(checked_size(tensor.shape)) * size_of(tensor.dtype);
}

MatmulSlots matmul_slots(const Step& step) {
    const auto& work = std::get<MatMulWork>(step.work);
    MatmulSlots slots;
    int next = 2;
    if (work.beta != 0) slots.c = next++;
    if (work.desc.bias) slots.bias = next++;
    slots.d = next++;
    if (has_workspace(step)) slots.workspace = next++;
    KN_CHECK(static_cast<std::size_t>(next) == step.operands.size(), step.name);
    return slots;
}

Launch without_work(const Step& step) {
    Launch launch;
    launch.operands = operand_addresses(step);
    launch.has_workspace = has_workspace(step);
    launch.workspace_bytes = workspace_bytes(step);
    return launch;
}

void allow_shared_bytes(const Kernel& kernel, std::size_t bytes, Device device) {
    if (bytes > device.properties().shared_per_block &&
        bytes > kernel.attributes(device).max_dynamic_shared_bytes)
        kernel.allow_shared_bytes(device, bytes);
}

KernelLaunch kernel_launch(const KernelWork& work, std::shared_ptr<const Kernel> kernel,
                           Device device) {
    LaunchConfig config;
    config.grid = work.grid;
    config.block = work.block;
    config.cluster = work.cluster;
    config.shared_bytes = work.shared_bytes;
    allow_shared_bytes(*kernel, work.shared_bytes, device);
    return {std::move(kernel), config, work.scalars, work.maps};
}

void queue(const Launch& launch, StreamRef stream, const CudnnHandle* cudnn,
           std::span<std::byte* const> bases) {
    std::array<void*, usual_operands> few;
    std::vector<void*> many;
    std::span<void*> addresses(few.data(), std::min(launch.operands.size(), few.size()));
    if (launch.operands.size() > few.size()) {
        many.resize(launch.operands.size());
        addresses = many;
    }
    for (std::size_t i = 0; i < launch.operands.size(); i++)
        addresses[i] = bases[launch.operands[i].buffer] + launch.operands[i].bytes;
    if (const auto* kernel = std::get_if<KernelLaunch>(&launch.work))
        queue_kernel(*kernel, stream, addresses);
    else if (const auto* matmul = std::get_if<MatmulLaunch>(&launch.work))
        queue_matmul(*matmul, stream, addresses, launch.workspace_bytes);
    else if (const auto* plan = std::get_if<CudnnLaunch>(&launch.work))
        queue_cudnn(*plan, stream, *cudnn, addresses, launch.has_workspace, launch.workspace_bytes);
    else
        fill_bytes_async(stream, addresses[0], 0, std::get<ClearLaunch>(launch.work).bytes);
}

}  // namespace kn::cuda
