// cudart's library functions by their names of toolkit 12.8. Older toolkits take the driver's
// functions of the same shape through cudart's entry-point query, so that nothing links libcuda.
// Internal.
#pragma once

#include <cuda_runtime_api.h>

#include "check.h"

namespace kn::cuda::detail {

#if CUDART_VERSION >= 12080

using LibraryHandle = cudaLibrary_t;

inline cudaError_t library_load(LibraryHandle* library, const void* image) {
    return cudaLibraryLoadData(library, image, nullptr, nullptr, 0, nullptr, nullptr, 0);
}
inline cudaError_t library_unload(LibraryHandle library) { return cudaLibraryUnload(library); }
inline cudaError_t library_kernel(cudaKernel_t* kernel, LibraryHandle library, const char* name) {
    return cudaLibraryGetKernel(kernel, library, name);
}
inline cudaError_t library_global(void** data, std::size_t* bytes, LibraryHandle library,
                                  const char* name) {
    return cudaLibraryGetGlobal(data, bytes, library, name);
}
inline cudaError_t library_kernel_count(unsigned* count, LibraryHandle library) {
    return cudaLibraryGetKernelCount(count, library);
}
inline cudaError_t library_enumerate(cudaKernel_t* kernels, unsigned count, LibraryHandle library) {
    return cudaLibraryEnumerateKernels(kernels, count, library);
}
inline cudaError_t kernel_name(const char** name, cudaKernel_t kernel) {
    return cudaFuncGetName(name, kernel);
}
inline cudaError_t kernel_set_attribute(cudaKernel_t kernel, cudaFuncAttribute attribute, int value,
                                        int device) {
    return cudaKernelSetAttributeForDevice(kernel, attribute, value, device);
}

#else

using LibraryHandle = struct CUlib_st*;

// CUresult and cudaError_t agree in the numbers that matter here.
template <class... Args>
cudaError_t call_driver(const char* name, Args... args) {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found{};
    cudaError_t status = cudaGetDriverEntryPoint(name, &function, cudaEnableDefault, &found);
    if (status != cudaSuccess) return status;
    if (!function) return cudaErrorNotSupported;
    return static_cast<cudaError_t>(reinterpret_cast<int (*)(Args...)>(function)(args...));
}

inline cudaError_t library_load(LibraryHandle* library, const void* image) {
    // The driver's functions do not make the runtime's context.
    if (cudaError_t status = cudaFree(nullptr); status != cudaSuccess) return status;
    void** none = nullptr;
    return call_driver("cuLibraryLoadData", library, image, none, none, 0u, none, none, 0u);
}
inline cudaError_t library_unload(LibraryHandle library) {
    return call_driver("cuLibraryUnload", library);
}
inline cudaError_t library_kernel(cudaKernel_t* kernel, LibraryHandle library, const char* name) {
    return call_driver("cuLibraryGetKernel", kernel, library, name);
}
inline cudaError_t library_global(void** data, std::size_t* bytes, LibraryHandle library,
                                  const char* name) {
    return call_driver("cuLibraryGetGlobal", data, bytes, library, name);
}
inline cudaError_t library_kernel_count(unsigned* count, LibraryHandle library) {
    return call_driver("cuLibraryGetKernelCount", count, library);
}
inline cudaError_t library_enumerate(cudaKernel_t* kernels, unsigned count, LibraryHandle library) {
    return call_driver("cuLibraryEnumerateKernels", kernels, count, library);
}
inline cudaError_t kernel_name(const char** name, cudaKernel_t kernel) {
    return call_driver("cuKernelGetName", name, kernel);
}
inline cudaError_t kernel_set_attribute(cudaKernel_t kernel, cudaFuncAttribute attribute, int value,
                                        int device) {
    return call_driver("cuKernelSetAttribute", static_cast<int>(attribute), value, kernel, device);
}

#endif

}  // namespace kn::cuda::detail
