// cuDNN, opened by its first use. Internal.
#pragma once

#include <cudnn.h>

#include "on_demand.h"

namespace kn::cuda::detail {

struct CudnnApi : OpenLibrary {
    CudnnApi();
    KN_FUNCTION(cudnnBackendCreateDescriptor);
    KN_FUNCTION(cudnnBackendDestroyDescriptor);
    KN_FUNCTION(cudnnBackendExecute);
    KN_FUNCTION(cudnnBackendFinalize);
    KN_FUNCTION(cudnnBackendGetAttribute);
    KN_FUNCTION(cudnnBackendSetAttribute);
    KN_FUNCTION(cudnnCreate);
    KN_FUNCTION(cudnnDestroy);
    KN_FUNCTION(cudnnGetErrorString);
    KN_FUNCTION(cudnnGetLastErrorString);
    KN_FUNCTION(cudnnGetStream);
    KN_FUNCTION(cudnnGetVersion);
    KN_FUNCTION(cudnnSetStream);
};

/// What tells versions and runs plans. Throws LibraryMissing, and tries again the next time.
const CudnnApi& cudnn();

/// Throws LibraryMissing where a part is missing that cuDNN opens by itself: it says then that it
/// has no way to compute a problem.
void check_cudnn_parts();

}  // namespace kn::cuda::detail
