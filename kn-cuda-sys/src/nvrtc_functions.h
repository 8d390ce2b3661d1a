// NVRTC, opened by its first use. Internal.
#pragma once

#include <nvrtc.h>

#include "on_demand.h"

namespace kn::cuda::detail {

struct NvrtcApi : OpenLibrary {
    NvrtcApi();
    KN_FUNCTION(nvrtcAddNameExpression);
    KN_FUNCTION(nvrtcCompileProgram);
    KN_FUNCTION(nvrtcCreateProgram);
    KN_FUNCTION(nvrtcDestroyProgram);
    KN_FUNCTION(nvrtcGetCUBIN);
    KN_FUNCTION(nvrtcGetCUBINSize);
    KN_FUNCTION(nvrtcGetErrorString);
    KN_FUNCTION(nvrtcGetLoweredName);
    KN_FUNCTION(nvrtcGetNumSupportedArchs);
    KN_FUNCTION(nvrtcGetPTX);
    KN_FUNCTION(nvrtcGetPTXSize);
    KN_FUNCTION(nvrtcGetProgramLog);
    KN_FUNCTION(nvrtcGetProgramLogSize);
    KN_FUNCTION(nvrtcGetSupportedArchs);
    KN_FUNCTION(nvrtcVersion);
};

/// Throws LibraryMissing, and tries again the next time.
const NvrtcApi& nvrtc();

}  // namespace kn::cuda::detail
