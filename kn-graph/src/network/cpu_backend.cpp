#include "network/cpu_backend.h"

#include <kn/graph/cpu.h>

namespace kn {

namespace {

class CpuExecutable : public Executable {
  public:
    CpuExecutable(std::shared_ptr<const Graph> graph, int threads)
        : executor_(std::move(graph), {.threads = threads}) {}
    std::vector<Tensor> run(const std::vector<Tensor>& inputs) override {
        return executor_.run(inputs);
    }
    std::size_t peak_bytes() const override { return executor_.peak_bytes(); }

  private:
    cpu::Executor executor_;
};

class CpuBackend : public Backend {
  public:
    bool takes_symbols() const override { return true; }
    std::vector<Device> devices() const override { return {Device::cpu()}; }
    std::string why_unavailable() const override { return {}; }
    std::unique_ptr<Executable> prepare(std::shared_ptr<const Graph> graph,
                                        const BackendOptions& options) override {
        return std::make_unique<CpuExecutable>(std::move(graph), options.threads);
    }
};

}  // namespace

std::shared_ptr<Backend> make_cpu_backend() { return std::make_shared<CpuBackend>(); }

}  // namespace kn
