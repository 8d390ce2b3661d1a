#include <cuda_runtime_api.h>

#include <string>
#include <vector>

#include "cublas_functions.h"
#include "cudnn_functions.h"
#include "kn/cuda_sys/cublaslt.h"
#include "kn/cuda_sys/cudnn.h"
#include "kn/cuda_sys/device.h"
#include "kn/cuda_sys/nvrtc.h"
#include "nvrtc_functions.h"

#define KN_TEXT_OF(number) #number
#define KN_TEXT(macro) KN_TEXT_OF(macro)

namespace kn::cuda {

namespace detail {

namespace {

constexpr LibraryName nvrtc_name{ErrorSource::Nvrtc, "NVRTC",
                                 CUDART_VERSION >= 13000 ? "libnvrtc.so.13" : "libnvrtc.so.12",
                                 "cuda_nvrtc"};
constexpr LibraryName cublaslt_name{ErrorSource::CublasLt, "cuBLASLt",
                                    "libcublasLt.so." KN_TEXT(CUBLAS_VER_MAJOR), "cublas"};
constexpr LibraryName cublas_name{ErrorSource::Cublas, "cuBLAS",
                                  "libcublas.so." KN_TEXT(CUBLAS_VER_MAJOR), "cublas"};
#define KN_CUDNN_SUFFIX ".so." KN_TEXT(CUDNN_MAJOR)
constexpr LibraryName cudnn_name{ErrorSource::Cudnn, "cuDNN", "libcudnn" KN_CUDNN_SUFFIX, "cudnn"};

}  // namespace

NvrtcApi::NvrtcApi() : OpenLibrary(nvrtc_name) {}
CublasLtApi::CublasLtApi() : OpenLibrary(cublaslt_name) {}
CublasApi::CublasApi() : OpenLibrary(cublas_name) {}
CudnnApi::CudnnApi() : OpenLibrary(cudnn_name) {
    // Without this part the first call of any function would end the process.
    open_part("libcudnn_graph" KN_CUDNN_SUFFIX);
    // Where nobody has it open, cuDNN opens and closes it with every question: 7 ms.
    nvrtc_version();
}

const NvrtcApi& nvrtc() {
    static const NvrtcApi api;
    return api;
}

const CublasLtApi& cublaslt() {
    static const CublasLtApi api;
    return api;
}

const CublasApi& cublas() {
    static const CublasApi api;
    return api;
}

const CudnnApi& cudnn() {
    static const CudnnApi api;
    return api;
}

void check_cudnn_parts() {
    for (const char* part :
         {"libcudnn_heuristic" KN_CUDNN_SUFFIX, "libcudnn_engines_precompiled" KN_CUDNN_SUFFIX,
          "libcudnn_engines_runtime_compiled" KN_CUDNN_SUFFIX})
        cudnn().open_part(part);
}

}  // namespace detail

namespace {

template <class Open>
std::string why_missing(Open open) {
    try {
        open();
        return {};
    } catch (const LibraryMissing& error) {
        return error.info().status_text;
    }
}

template <class Ask>
int version(Ask ask) noexcept {
    try {
        return static_cast<int>(ask());
    } catch (const std::exception&) {
        return 0;
    }
}

}  // namespace

std::string why_no_cudnn() { return why_missing(detail::check_cudnn_parts); }

std::vector<std::string> missing_libraries() {
    std::vector<std::string> list{why_missing(detail::nvrtc), why_missing(detail::cublaslt),
                                  why_missing(detail::cublas), why_no_cudnn()};
    std::erase(list, "");
    return list;
}

int nvrtc_version() noexcept {
    return version([] {
        int major = 0, minor = 0;
        detail::nvrtc().nvrtcVersion(&major, &minor);
        return major * 10000 + minor * 100;
    });
}

int cublaslt_version() noexcept {
    return version([] { return detail::cublaslt().cublasLtGetVersion(); });
}

int cudnn_version() noexcept {
    return version([] { return detail::cudnn().cudnnGetVersion(); });
}

}  // namespace kn::cuda
