#include <cudnn_frontend_version.h>
#include <fmt/core.h>

#include "kn/cuda_sys/cublaslt.h"
#include "kn/cuda_sys/cudnn.h"
#include "kn/cuda_sys/device.h"
#include "kn/cuda_sys/nvrtc.h"

namespace kn::cuda {

namespace {
// CUDA counts major * 1000 + minor * 10 + patch.
int from_cuda(int v) { return v / 1000 * 10000 + v % 1000 / 10 * 100 + v % 10; }
}  // namespace

int cudnn_frontend_version() noexcept { return CUDNN_FRONTEND_VERSION; }

Versions versions() noexcept {
    Versions v;
    int driver = 0, runtime = 0;
    if (cudaDriverGetVersion(&driver) == cudaSuccess) v.driver = from_cuda(driver);
    if (cudaRuntimeGetVersion(&runtime) == cudaSuccess) v.cudart = from_cuda(runtime);
    v.nvrtc = nvrtc_version();
    v.cublaslt = cublaslt_version();
    v.cudnn = cudnn_version();
    v.cudnn_frontend = cudnn_frontend_version();
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
