#pragma once

#define KN_CUDA_EVAL_API __attribute__((visibility("default")))
