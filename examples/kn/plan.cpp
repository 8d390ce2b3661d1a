// kn dump --stage plan: what a GPU would do for a network, from the description of one.
#include "cuda_model.h"

namespace kn::tool {

std::string plan_text(const DumpArgs& args) {
    const Device device = parse_device(args.model.device);
    const bool named = device.kind() == Device::Kind::Cuda;
    const cuda::DeviceProperties gpu =
        args.properties.empty() ? require_gpu(named ? device : Device::cuda(0)).properties()
                                : read_properties(args.properties);
    const auto plan = make_plan(static_model(args.path, args.model), args.model, gpu);
    if (args.format == "text") return plan->to_string();
    return args.format == "json" ? plan->to_json() : plan->to_dot();
}

}  // namespace kn::tool
