// A device "cuda" whose plans run on the host: whole networks and ONNX cases without a GPU.
//
//     kn::register_backend(kn::Device::Kind::Cuda, std::make_shared<kn::cuda::HostBackend>(h200()));
//     auto net = kn::Network::load("model.onnx", {.device = kn::Device::cuda(0)});
#pragma once

#include <string>

#include <kn/cuda_eval/plan.h>
#include <kn/graph/backend.h>

namespace kn::cuda {

class HostBackend : public Backend {
  public:
    explicit HostBackend(DeviceProperties device) : device_(std::move(device)) {}
    bool takes_symbols() const override { return false; }
    std::vector<kn::Device> devices() const override { return {kn::Device::cuda(0)}; }
    std::string why_unavailable() const override { return ""; }
    std::unique_ptr<Executable> prepare(std::shared_ptr<const Graph> graph,
                                        const BackendOptions& options) override;

  private:
    DeviceProperties device_;
};

/// Every stored value of the plan against kn::cpu's of the same graph: a line for the first step
/// that differs by more than the dtype's tolerance, with its kernel; empty if none does.
std::string first_divergence(const Plan& plan, const std::vector<Tensor>& inputs);

}  // namespace kn::cuda
