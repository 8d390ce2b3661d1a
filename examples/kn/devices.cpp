// kn devices: what there is to run on.
#include <thread>

#include <fmt/core.h>

#include "commands.h"

#ifdef KN_TOOL_CUDA
#include <kn/cuda_sys/device.h>
#endif

namespace kn::tool {

namespace {

#ifdef KN_TOOL_CUDA
void print_cuda() {
    if (cuda::device_count() == 0) fmt::print("cuda: none ({})\n", cuda::why_unavailable());
    for (int i = 0; i < cuda::device_count(); i++) {
        const cuda::Device device(i);
        const cuda::DeviceProperties& p = device.properties();
        const cuda::MemoryInfo memory = device.memory();
        fmt::print("cuda:{}: {}, compute {}.{}, {} SMs, {:.1f} of {:.1f} GB free\n", i, p.name,
                   p.compute_major, p.compute_minor, p.sm_count,
                   static_cast<double>(memory.free) / 1e9, static_cast<double>(memory.total) / 1e9);
    }
    fmt::print("{}", cuda::to_string(cuda::versions()));
    for (const std::string& why : cuda::missing_libraries()) fmt::print("{}\n", why);
}
#else
void print_cuda() { fmt::print("cuda: none (this build of kn has no CUDA part)\n"); }
#endif

}  // namespace

int devices() {
    fmt::print("kn {}\ncpu: {} threads\n", version(), std::thread::hardware_concurrency());
    print_cuda();
    return done;
}

}  // namespace kn::tool
