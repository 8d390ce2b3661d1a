// All of kn: <kn/graph.h>, and <kn/cuda.h> where the CUDA parts were built.
//
//     auto net = kn::Network::load("resnet50.onnx", {.device = kn::Device::best()});
//     auto x = kn::Tensor::from_span<float>({64, 3, 224, 224}, pixels);
//     std::vector<kn::Tensor> y = net.run({x});
#pragma once

#include <kn/graph.h>

#if __has_include(<kn/cuda.h>)
#include <kn/cuda.h>
#endif
#if __has_include(<kn/cuda_eval/backend.h>)
#include <kn/cuda_eval/backend.h>
#include <kn/cuda_eval/executor.h>
#include <kn/cuda_eval/plan.h>
#endif
