// Statuses and types that cuBLAS and cuBLASLt share. Internal.
#pragma once

#include "check.h"
#include "cublas_functions.h"
#include "kn/cuda_sys/cublaslt.h"

namespace kn::cuda::detail {

inline const char* cublas_text(cublasStatus_t status) {
    switch (status) {
        case CUBLAS_STATUS_SUCCESS: return "success";
        case CUBLAS_STATUS_NOT_INITIALIZED: return "not initialized (no usable GPU?)";
        case CUBLAS_STATUS_ALLOC_FAILED: return "allocation failed";
        case CUBLAS_STATUS_INVALID_VALUE: return "invalid value";
        case CUBLAS_STATUS_ARCH_MISMATCH: return "not on this architecture";
        case CUBLAS_STATUS_MAPPING_ERROR: return "mapping error";
        case CUBLAS_STATUS_EXECUTION_FAILED: return "execution failed";
        case CUBLAS_STATUS_INTERNAL_ERROR: return "internal error";
        case CUBLAS_STATUS_NOT_SUPPORTED: return "not supported";
        case CUBLAS_STATUS_LICENSE_ERROR: return "license error";
    }
    return "unknown status";
}

inline void check_cublas(ErrorSource library, cublasStatus_t status, const char* call,
                         const char* file, int line) {
    if (status == CUBLAS_STATUS_SUCCESS) return;
    // A failure of the device itself says more than cuBLAS does.
    if (status == CUBLAS_STATUS_EXECUTION_FAILED || status == CUBLAS_STATUS_INTERNAL_ERROR)
        check(cudaGetLastError(), call, file, line);
    fail(library, call, status, cublas_text(status), status == CUBLAS_STATUS_ALLOC_FAILED, file,
         line);
}

inline cudaDataType_t to_cuda(DataType type) {
    switch (type) {
        case DataType::F16: return CUDA_R_16F;
        case DataType::BF16: return CUDA_R_16BF;
        case DataType::F32: return CUDA_R_32F;
        case DataType::F64: return CUDA_R_64F;
        case DataType::I8: return CUDA_R_8I;
        case DataType::U8: return CUDA_R_8U;
        case DataType::I32: return CUDA_R_32I;
        case DataType::I64: return CUDA_R_64I;
        case DataType::Bool: break;
    }
    misuse("Matmul", "bool operands cannot be multiplied", __FILE__, __LINE__);
}

inline cublasComputeType_t to_cublas(MatmulCompute compute) {
    switch (compute) {
        // Pedantic would also forbid the library's own blocking; plain 32F keeps FMA arithmetic.
        case MatmulCompute::F32: return CUBLAS_COMPUTE_32F;
        case MatmulCompute::Tf32: return CUBLAS_COMPUTE_32F_FAST_TF32;
        case MatmulCompute::F16: return CUBLAS_COMPUTE_16F;
        case MatmulCompute::F64: return CUBLAS_COMPUTE_64F;
        case MatmulCompute::I32: return CUBLAS_COMPUTE_32I;
    }
    return CUBLAS_COMPUTE_32F;
}

}  // namespace kn::cuda::detail

#define KN_LT_CHECK(call)                                                                        \
    ::kn::cuda::detail::check_cublas(ErrorSource::CublasLt, ::kn::cuda::detail::cublaslt().call, \
                                     #call, __FILE__, __LINE__)
#define KN_CUBLAS_CHECK(call)                                                                \
    ::kn::cuda::detail::check_cublas(ErrorSource::Cublas, ::kn::cuda::detail::cublas().call, \
                                     #call, __FILE__, __LINE__)
