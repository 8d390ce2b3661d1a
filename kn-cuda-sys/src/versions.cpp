#include <cublasLt.h>
#include <cudnn.h>
#include <cudnn_frontend_version.h>
#include <fmt/core.h>
#include <nvrtc.h>

#include "kn/cuda_sys/device.h"

namespace kn::cuda {

namespace {
// CUDA counts major * 1000 + minor * 10 + patch.
int from_cuda(int v) { return v / 1000 * 10000 + v % 1000 / 10 * 100 + v % 10; }
}  // namespace

Versions versions() noexcept {
    Versions v;
    int driver = 0, runtime = 0, major = 0, minor = 0;
    if (cudaDriverGetVersion(&driver) == cudaSuccess) v.driver = from_cuda(driver);
    if (cudaRuntimeGetVersion(&runtime) == cudaSuccess) v.cudart = from_cuda(runtime);
    if (nvrtcVersion(&major, &minor) == NVRTC_SUCCESS) v.nvrtc = major * 10000 + minor * 100;
    v.cublaslt = static_cast<int>(cublasLtGetVersion());
    v.cudnn = static_cast<int>(cudnnGetVersion());
    v.cudnn_frontend = CUDNN_FRONTEND_VERSION;
    return v;
}

std::string to_string(const Versions& versions) {
    std::string text;
    auto line = [&text](const char* name, int v) {
        if (v == 0)
            text += fmt::format("{} none\n", name);
        else
            text += fmt::format("{} {}.{}.{}\n", name, v / 10000, v / 100 % 100, v % 100);
    };
    line("driver", versions.driver);
    line("cudart", versions.cudart);
    line("nvrtc", versions.nvrtc);
    line("cublasLt", versions.cublaslt);
    line("cudnn", versions.cudnn);
    line("cudnn_frontend", versions.cudnn_frontend);
    return text;
}

}  // namespace kn::cuda
