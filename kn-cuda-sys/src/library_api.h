// cudart's library functions by their names of toolkit 12.8, with the driver's where the toolkit is
// older. Internal.
#pragma once

#include <cuda_runtime_api.h>

#if CUDART_VERSION < 12080
#include "library_api_driver.h"
#else

namespace kn::cuda::detail {

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
inline cudaError_t kernel_launch(const cudaLaunchConfig_t& config, cudaKernel_t kernel,
                                 void** arguments) {
    return cudaLaunchKernelExC(&config, kernel, arguments);
}
inline cudaError_t kernel_attributes(cudaFuncAttributes* attributes, cudaKernel_t kernel, int) {
    return cudaFuncGetAttributes(attributes, kernel);
}
inline cudaError_t kernel_blocks_per_sm(int* blocks, cudaKernel_t kernel, int block_threads,
                                        std::size_t shared_bytes) {
    return cudaOccupancyMaxActiveBlocksPerMultiprocessor(blocks, kernel, block_threads,
                                                         shared_bytes);
}
inline cudaError_t kernel_parameter(cudaKernel_t kernel, std::size_t index, std::size_t* offset,
                                    std::size_t* size) {
    return cudaFuncGetParamInfo(kernel, index, offset, size);
}
inline cudaError_t kernel_set_attribute(cudaKernel_t kernel, cudaFuncAttribute attribute, int value,
                                        int device) {
    return cudaKernelSetAttributeForDevice(kernel, attribute, value, device);
}

}  // namespace kn::cuda::detail

#endif
