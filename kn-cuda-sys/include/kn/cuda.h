// The CUDA libraries in modern C++: everything of kn-cuda-sys.
#pragma once

#include "kn/cuda_sys/cublas.h"
#include "kn/cuda_sys/cublaslt.h"
#include "kn/cuda_sys/cudnn.h"
#include "kn/cuda_sys/data_type.h"
#include "kn/cuda_sys/device.h"
#include "kn/cuda_sys/error.h"
#include "kn/cuda_sys/event.h"
#include "kn/cuda_sys/graph.h"
#include "kn/cuda_sys/library.h"
#include "kn/cuda_sys/memory.h"
#include "kn/cuda_sys/nvrtc.h"
#include "kn/cuda_sys/stream.h"
