// kn dump --stage plan: what a GPU would do for a network, from the description of one.
#include <fstream>
#include <iterator>

#include <fmt/core.h>

#include "model.h"

namespace kn::tool {

#if __has_include(<kn/cuda_eval/plan.h>)

namespace {

cuda::DeviceProperties described_gpu(const std::string& file) {
    if (file.empty()) return cuda::Device(0).properties();
    std::ifstream in(file);
    if (!in) throw UsageError(printable(file) + ": cannot be read");
    return cuda::device_properties_from_json({std::istreambuf_iterator<char>(in), {}});
}

struct Planned {};

// Stands for the GPU: plans what it is given and ends there.
class Planner : public Backend {
  public:
    Planner(cuda::DeviceProperties gpu, std::string& text, const std::string& format)
        : gpu_(std::move(gpu)), text_(text), format_(format) {}
    bool takes_symbols() const override { return false; }
    std::vector<Device> devices() const override { return {Device::cuda(0)}; }
    std::string why_unavailable() const override { return ""; }
    std::unique_ptr<Executable> prepare(std::shared_ptr<const Graph> graph,
                                        const BackendOptions& options) override {
        const cuda::Plan plan = cuda::plan(*graph, gpu_, {.precision = options.precision});
        text_ = format_ == "text" ? plan.to_string()
                                  : (format_ == "json" ? plan.to_json() : plan.to_dot());
        throw Planned{};
    }

  private:
    cuda::DeviceProperties gpu_;
    std::string& text_;
    std::string format_;
};

}  // namespace

std::string plan_text(const DumpArgs& args) {
    std::string text;
    register_backend(Device::Kind::Cuda,
                     std::make_shared<Planner>(described_gpu(args.gpu), text, args.format));
    ModelFlags flags = args.model;
    flags.device = "cuda";
    auto network = Network::load(model_file(args.path), network_options(flags));
    try {
        network.run(make_inputs(network, args.path, flags, {}, 0, 0));
    } catch (const Planned&) {
    }
    return text;
}

#else

std::string plan_text(const DumpArgs&) {
    throw UsageError("--stage plan: this build has no CUDA planner");
}

#endif

}  // namespace kn::tool
