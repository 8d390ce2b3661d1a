// KN_CUDA_API marks what a shared kn_cuda_sys exports; everything else stays hidden.
#pragma once

#define KN_CUDA_API __attribute__((visibility("default")))
