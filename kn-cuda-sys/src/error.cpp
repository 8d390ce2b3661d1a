#include "kn/cuda_sys/error.h"

#include "check.h"
#include "kn/cuda_sys/device.h"

namespace kn::cuda {

const char* to_string(ErrorSource library) noexcept {
    switch (library) {
        case ErrorSource::Cudart: return "cudart";
        case ErrorSource::Nvrtc: return "nvrtc";
        case ErrorSource::CublasLt: return "cublasLt";
        case ErrorSource::Cublas: return "cublas";
        case ErrorSource::Cudnn: return "cudnn";
        case ErrorSource::Kn: return "kn";
    }
    return "";
}

namespace {

const char* base_name(const char* path) {
    const char* name = path;
    for (const char* p = path; *p; ++p)
        if (*p == '/') name = p + 1;
    return name;
}

std::string message(const ErrorInfo& info, const std::string& detail) {
    std::string status = info.library == ErrorSource::Kn
                             ? info.status_text
                             : fmt::format("{} ({})", info.status_text, info.status);
    return fmt::format("{}: {}: {} at {}:{}{}{}", to_string(info.library), info.call, status,
                       base_name(info.file), info.line, detail.empty() ? "" : "; ", detail);
}

// After one of these every later call in the context fails with the same status.
bool kills_context(cudaError_t status) {
    switch (status) {
        case cudaErrorECCUncorrectable:
        case cudaErrorNvlinkUncorrectable:
        case cudaErrorIllegalAddress:
        case cudaErrorLaunchTimeout:
        case cudaErrorContextIsDestroyed:
        case cudaErrorAssert:
        case cudaErrorHardwareStackError:
        case cudaErrorIllegalInstruction:
        case cudaErrorMisalignedAddress:
        case cudaErrorInvalidAddressSpace:
        case cudaErrorInvalidPc:
        case cudaErrorLaunchFailure: return true;
        default: return false;
    }
}

}  // namespace

Error::Error(ErrorInfo info, const std::string& detail)
    : std::runtime_error(message(info, detail)), info_(std::move(info)) {}

OutOfMemory::OutOfMemory(ErrorInfo info, std::size_t requested_bytes, const std::string& detail)
    : Error(std::move(info), detail), requested_bytes_(requested_bytes) {}

namespace detail {

void check(cudaError_t status, const char* call, const char* file, int line) {
    if (status == cudaSuccess) return;
    cudaGetLastError();
    ErrorInfo info{ErrorSource::Cudart, call, cudaGetErrorString(status), status, file, line};
    if (status == cudaErrorMemoryAllocation) throw OutOfMemory(std::move(info), 0);
    if (kills_context(status)) {
        int device = -1;
        if (cudaGetDevice(&device) == cudaSuccess) mark_lost(device);
        throw ContextLost(std::move(info),
                          fmt::format("device {} is lost to this process", device));
    }
    throw Error(std::move(info));
}

void misuse(const char* function, const std::string& what, const char* file, int line) {
    throw Error({ErrorSource::Kn, function, what, 0, file, line});
}

void fail(ErrorSource library, const char* call, int status, const char* text, bool out_of_memory,
          const char* file, int line, const std::string& detail) {
    ErrorInfo info{library, call, text, status, file, line};
    if (out_of_memory) throw OutOfMemory(std::move(info), 0, detail);
    throw Error(std::move(info), detail);
}

}  // namespace detail

}  // namespace kn::cuda
