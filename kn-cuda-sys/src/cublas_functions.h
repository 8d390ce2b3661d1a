// cuBLASLt and cuBLAS, each opened by its first use. Internal.
#pragma once

#include <cublasLt.h>
#include <cublas_v2.h>

#include "on_demand.h"

namespace kn::cuda::detail {

struct CublasLtApi : OpenLibrary {
    CublasLtApi();
    KN_FUNCTION(cublasLtCreate);
    KN_FUNCTION(cublasLtDestroy);
    KN_FUNCTION(cublasLtGetVersion);
    KN_FUNCTION(cublasLtMatmul);
    KN_FUNCTION(cublasLtMatmulAlgoCheck);
    KN_FUNCTION(cublasLtMatmulAlgoConfigGetAttribute);
    KN_FUNCTION(cublasLtMatmulAlgoGetHeuristic);
    KN_FUNCTION(cublasLtMatmulDescSetAttribute);
    KN_FUNCTION(cublasLtMatmulPreferenceSetAttribute);
    KN_FUNCTION(cublasLtMatrixLayoutSetAttribute);
    // What the header's inline functions call.
    KN_FUNCTION(cublasLtMatmulDescInit_internal);
    KN_FUNCTION(cublasLtMatmulPreferenceInit_internal);
    KN_FUNCTION(cublasLtMatrixLayoutInit_internal);
};

struct CublasApi : OpenLibrary {
    CublasApi();
    KN_FUNCTION(cublasCreate_v2);
    KN_FUNCTION(cublasDestroy_v2);
    KN_FUNCTION(cublasSetStream_v2);
    KN_FUNCTION(cublasSetWorkspace_v2);
#if CUBLAS_VERSION >= 120500
    KN_FUNCTION(cublasGemmGroupedBatchedEx);
#endif
};

/// Throw LibraryMissing, and try again the next time.
const CublasLtApi& cublaslt();
const CublasApi& cublas();

}  // namespace kn::cuda::detail
