// Steps ready to be queued: what remains to be known are the buffers' addresses.
#pragma once

#include <memory>
#include <span>
#include <variant>
#include <vector>

#include <kn/cuda_eval/plan.h>
#include <kn/cuda_sys/cublaslt.h>
#include <kn/cuda_sys/cudnn.h>
#include <kn/cuda_sys/library.h>

namespace kn::cuda {

/// Where an operand starts.
struct OperandAddress {
    std::uint32_t buffer = 0;
    std::int64_t bytes = 0;
};

std::vector<OperandAddress> operand_addresses(const Step& step);

/// Positions in Step::operands; -1: none.
struct MatmulSlots {
    int a = 0, b = 1, c = -1, bias = -1, d = -1, workspace = -1;
};
/// Throws InternalError if the operands are not those that the work asks for.
MatmulSlots matmul_slots(const Step& step);

/// Whether the last operand of a library step is its workspace, and the bytes of it (0 if there is
/// none).
bool has_workspace(const Step& step);
std::size_t workspace_bytes(const Step& step);

/// As Matmul wants it, beside the algorithm chosen.
struct MatmulChoice {
    std::shared_ptr<const Matmul> matmul;
    MatmulAlgo algo;
};

struct KernelLaunch {
    std::shared_ptr<const Kernel> kernel;
    LaunchConfig config;
    std::vector<std::int64_t> scalars;
    std::vector<OperandMap> maps;
};
struct MatmulLaunch {
    MatmulChoice choice;
    MatmulSlots slots;
    double alpha = 1, beta = 0;
};
struct CudnnLaunch {
    CudnnPlan plan;
};
struct ClearLaunch {
    std::size_t bytes = 0;
};

struct Launch {
    std::variant<KernelLaunch, MatmulLaunch, CudnnLaunch, ClearLaunch> work;
    std::vector<OperandAddress> operands;
    bool has_workspace = false;       ///< the last operand of a library step
    std::size_t workspace_bytes = 0;  ///< of it
};

/// All of a step but its work.
Launch without_work(const Step& step);

/// Lets launches of the kernel have so much shared memory, and keeps what others may have.
void allow_shared_bytes(const Kernel& kernel, std::size_t bytes, Device device);

/// Ready to be launched.
KernelLaunch kernel_launch(const KernelWork& work, std::shared_ptr<const Kernel> kernel,
                           Device device);

/// Queues a step on `stream`; `bases` are the addresses of the plan's buffers. Only steps of cuDNN
/// need a handle. Does not block.
void queue(const Launch& launch, StreamRef stream, const CudnnHandle* cudnn,
           std::span<std::byte* const> bases);

}  // namespace kn::cuda
