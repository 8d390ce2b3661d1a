// KN_CUDA_EVAL_API marks what a shared library of kn-cuda-eval exports.
#pragma once

#define KN_CUDA_EVAL_API __attribute__((visibility("default")))
