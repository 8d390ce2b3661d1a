// Every failure of a CUDA library, as one exception type.
//
//     try {
//         kn::cuda::DeviceBuffer<float> big(kn::cuda::Device(0), count);
//     } catch (const kn::cuda::OutOfMemory& e) {
//         std::puts(e.what());      // "cudart: cudaMalloc(...): out of memory (2) at
//         memory.cpp:31; ..."
//     }
//
// All functions of this library throw Error or one of its subclasses unless they are noexcept.
// After any of them but ContextLost every object stays usable.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <stdexcept>
#include <string>

#include "kn/cuda_sys/export.h"

namespace kn::cuda {

/// Who refused: one of the CUDA libraries, or (Kn) this layer because of a caller's mistake.
enum class ErrorSource { Cudart, Nvrtc, CublasLt, Cublas, Cudnn, Kn };

/// Name as in messages: "cudart", "nvrtc", "cublasLt", "cublas", "cudnn", "kn"; a static string.
KN_CUDA_API const char* to_string(ErrorSource library) noexcept;

/// What every error knows, in the order in which what() prints it.
struct ErrorInfo {
    ErrorSource library = ErrorSource::Kn;
    std::string call;         ///< the failed expression, or for Kn the function that was misused
    std::string status_text;  ///< the library's text for the status, or what the caller did wrong
    int status = 0;           ///< the library's own number; 0 for Kn
    const char* file = "";
    int line = 0;
};

/// A call that failed.
class KN_CUDA_API Error : public std::runtime_error {
  public:
    explicit Error(ErrorInfo info, const std::string& detail = "");
    const ErrorInfo& info() const noexcept { return info_; }

  private:
    ErrorInfo info_;
};

/// Device memory ran out. Nothing was allocated, and a smaller request may work.
class KN_CUDA_API OutOfMemory : public Error {
  public:
    OutOfMemory(ErrorInfo info, std::size_t requested_bytes, const std::string& detail = "");
    /// Bytes asked for; 0 where a library allocated inside.
    std::size_t requested_bytes() const noexcept { return requested_bytes_; }

  private:
    std::size_t requested_bytes_;
};

/// The device's context is gone (an illegal address in a kernel, an uncorrectable memory error...).
/// Every object of that device throws this when used, and is destroyed without touching the
/// context. The process has to be restarted to use the device again.
class KN_CUDA_API ContextLost : public Error {
  public:
    using Error::Error;
};

/// A CUDA library that cannot be loaded, or has no such function. Libraries beside cudart are
/// loaded by their first use, and looked for again by the next one. info().status_text is one
/// sentence with the loader's reason.
class KN_CUDA_API LibraryMissing : public Error {
  public:
    using Error::Error;
};

namespace detail {
/// Throws what fits `status` unless it is cudaSuccess, and clears cudart's last error.
KN_CUDA_API void check(cudaError_t status, const char* call, const char* file, int line);
/// Throws the Error of a caller's mistake.
[[noreturn]] KN_CUDA_API void misuse(const char* function, const std::string& what,
                                     const char* file, int line);
}  // namespace detail

}  // namespace kn::cuda

/// Checks a call of cudart. For code that uses cudart beside this layer.
#define KN_CUDA_CHECK(call) ::kn::cuda::detail::check((call), #call, __FILE__, __LINE__)
