// A plan's kernels, from source to loaded code.
//
// Several short kernels go into one NVRTC program, which shares their prelude; each gets a name and
// a namespace of its own there, so that no two can collide. Programs compile in parallel, the
// longest first. On disk a kernel's key leads to the program that holds it, so that a plan that
// shares some kernels with an earlier one compiles the others only.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <kn/cuda_eval/executor.h>
#include <kn/cuda_sys/library.h>

#include "cache/disk_cache.h"
#include "planner/phases.h"

namespace kn::cuda {

struct CompiledKernel {
    std::string name;  ///< of the entry point in the image
    std::shared_ptr<const std::vector<std::byte>> image;
    bool from_cache = false;
};

struct CompileSetup {
    std::string arch = "sm_90";
    std::string_view prelude = {};       ///< text that sources may begin with
    DiskCache* cache = nullptr;          ///< null: none
    std::size_t kernels_a_program = 24;  ///< at most
    /// For each processor, that are compiled by themselves where there are no more.
    std::size_t few_kernels = 4;
};

/// Compiles what the cache does not have, on all processors; needs no GPU. Equal sources are
/// compiled once. Throws CompileError of the kernel at fault.
std::vector<CompiledKernel> compile_kernels(const std::vector<PlanKernel>& kernels,
                                            const CompileSetup& setup);

/// The same, loaded; kernels that a live caller has already loaded are shared. Thread-safe.
std::vector<std::shared_ptr<const Kernel>> load_kernels(Device device,
                                                        std::vector<PlanKernel> kernels,
                                                        DiskCache* cache, ExecutorSetup& counts,
                                                        PhaseLog& log);

}  // namespace kn::cuda
