// For toolkits before 12.8: the driver's library functions, found through cudart's entry-point
// query, so that nothing links libcuda. Before 12.8 cudart itself launches no kernels of such
// libraries. Internal.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

namespace kn::cuda::detail {

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
inline cudaError_t kernel_launch(const cudaLaunchConfig_t& config, cudaKernel_t kernel,
                                 void** arguments) {
    CUlaunchConfig raw{};
    raw.gridDimX = config.gridDim.x;
    raw.gridDimY = config.gridDim.y;
    raw.gridDimZ = config.gridDim.z;
    raw.blockDimX = config.blockDim.x;
    raw.blockDimY = config.blockDim.y;
    raw.blockDimZ = config.blockDim.z;
    raw.sharedMemBytes = static_cast<unsigned>(config.dynamicSmemBytes);
    raw.hStream = config.stream;
    // The two attribute structures are the same by design.
    raw.attrs = reinterpret_cast<CUlaunchAttribute*>(config.attrs);
    raw.numAttrs = config.numAttrs;
    void** none = nullptr;
    return call_driver("cuLaunchKernelEx", static_cast<const CUlaunchConfig*>(&raw), kernel,
                       arguments, none);
}
inline cudaError_t kernel_attributes(cudaFuncAttributes* attributes, cudaKernel_t kernel,
                                     int device) {
    auto get = [&](CUfunction_attribute which, auto* value) {
        int raw = 0;
        cudaError_t status =
            call_driver("cuKernelGetAttribute", &raw, static_cast<int>(which), kernel, device);
        *value = static_cast<std::remove_pointer_t<decltype(value)>>(raw);
        return status;
    };
    get(CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, &attributes->maxThreadsPerBlock);
    get(CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, &attributes->sharedSizeBytes);
    get(CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES, &attributes->constSizeBytes);
    get(CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES, &attributes->localSizeBytes);
    get(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, &attributes->maxDynamicSharedSizeBytes);
    return get(CU_FUNC_ATTRIBUTE_NUM_REGS, &attributes->numRegs);
}
inline cudaError_t kernel_blocks_per_sm(int* blocks, cudaKernel_t kernel, int block_threads,
                                        std::size_t shared_bytes) {
    CUfunction function = nullptr;
    cudaError_t status = call_driver("cuKernelGetFunction", &function, kernel);
    if (status != cudaSuccess) return status;
    return call_driver("cuOccupancyMaxActiveBlocksPerMultiprocessor", blocks, function,
                       block_threads, shared_bytes);
}
inline cudaError_t kernel_parameter(cudaKernel_t kernel, std::size_t index, std::size_t* offset,
                                    std::size_t* size) {
    return call_driver("cuKernelGetParamInfo", kernel, index, offset, size);
}

}  // namespace kn::cuda::detail
