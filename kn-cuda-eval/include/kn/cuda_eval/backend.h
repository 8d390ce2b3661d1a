// NVIDIA GPUs as a device of kn::Network. <kn/kn.h> includes this header, and including it is all
// it takes:
//
//     auto net = kn::Network::load("resnet50.onnx", {.device = kn::Device::best()});
//
// A program that includes it has to link kn::cuda_eval (kn::kn does).
#pragma once

#include <kn/cuda_eval/export.h>
#include <kn/graph/backend.h>

namespace kn::cuda {

/// Makes Device::Kind::Cuda known to the process; true. Done once for every program that includes
/// this header. Needs no GPU: where there is none, asking for one throws DeviceError that says why.
KN_CUDA_EVAL_API bool register_backend();

namespace detail {
inline const bool backend_registered = register_backend();
}

}  // namespace kn::cuda
