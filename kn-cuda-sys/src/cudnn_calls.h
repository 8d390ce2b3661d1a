// Lets the cuDNN frontend, which is included after this, call what was opened on demand. Internal.
#pragma once

#include "cudnn_functions.h"
#include "nvrtc_functions.h"

#define cudnnBackendCreateDescriptor ::kn::cuda::detail::cudnn().cudnnBackendCreateDescriptor
#define cudnnBackendDestroyDescriptor ::kn::cuda::detail::cudnn().cudnnBackendDestroyDescriptor
#define cudnnBackendExecute ::kn::cuda::detail::cudnn().cudnnBackendExecute
#define cudnnBackendFinalize ::kn::cuda::detail::cudnn().cudnnBackendFinalize
#define cudnnBackendGetAttribute ::kn::cuda::detail::cudnn().cudnnBackendGetAttribute
#define cudnnBackendSetAttribute ::kn::cuda::detail::cudnn().cudnnBackendSetAttribute
#define cudnnGetErrorString ::kn::cuda::detail::cudnn().cudnnGetErrorString
#define cudnnGetLastErrorString ::kn::cuda::detail::cudnn().cudnnGetLastErrorString
#define cudnnGetStream ::kn::cuda::detail::cudnn().cudnnGetStream
#define cudnnGetVersion ::kn::cuda::detail::cudnn().cudnnGetVersion
#define cudnnSetStream ::kn::cuda::detail::cudnn().cudnnSetStream

#define nvrtcCompileProgram ::kn::cuda::detail::nvrtc().nvrtcCompileProgram
#define nvrtcCreateProgram ::kn::cuda::detail::nvrtc().nvrtcCreateProgram
#define nvrtcDestroyProgram ::kn::cuda::detail::nvrtc().nvrtcDestroyProgram
#define nvrtcGetCUBIN ::kn::cuda::detail::nvrtc().nvrtcGetCUBIN
#define nvrtcGetCUBINSize ::kn::cuda::detail::nvrtc().nvrtcGetCUBINSize
#define nvrtcGetProgramLog ::kn::cuda::detail::nvrtc().nvrtcGetProgramLog
#define nvrtcGetProgramLogSize ::kn::cuda::detail::nvrtc().nvrtcGetProgramLogSize
