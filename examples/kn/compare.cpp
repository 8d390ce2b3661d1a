// kn compare: the GPU's stored values against the CPU's, step by step.
#include <fstream>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "cuda_model.h"
#include "step_compare.h"

namespace kn::tool {

namespace {

std::string nodes_of(const cuda::Step& step) {
    std::string out;
    for (const std::string& origin : step.origins)
        out += (out.empty() ? "" : ", ") + printable(origin);
    return out.empty() ? "(no ONNX node)" : out;
}

void write_json(const std::string& path, const cuda::Plan& plan,
                const std::vector<StepError>& errors) {
    auto list = nlohmann::json::array();
    for (const StepError& e : errors)
        list.push_back({{"step", e.step},
                        {"name", plan.steps[e.step].name},
                        {"value", e.value.index},
                        {"own", e.own},
                        {"gathered", e.gathered},
                        {"fits", e.fits},
                        {"nodes", plan.steps[e.step].origins},
                        {"message", e.message}});
    std::ofstream file(path);
    file << list.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) << "\n";
    if (!file.flush()) throw UsageError(printable(path) + ": cannot be written");
}

}  // namespace

int compare(const CompareArgs& args) {
    const Device device = parse_device(args.model.device == "cpu" ? "cuda" : args.model.device);
    if (device.kind() == Device::Kind::Cpu)
        throw DeviceError("there is no GPU to compare with: " + cuda::why_unavailable());
    const cuda::Device gpu = require_gpu(device);
    const StaticModel model =
        static_model(args.path, args.model, args.inputs, args.data_set, args.seed);
    const auto plan = make_plan(model, args.model, gpu.properties());
    cuda::Executor executor(plan, gpu, {.tuning = parse_tuning(args.tune)});
    const auto errors = compare_steps(*plan, model.inputs, executor.run_stored(model.inputs),
                                      {args.rtol, args.atol});
    if (!args.json.empty()) write_json(args.json, *plan, errors);

    const StepError* first = nullptr;
    double own = 0, gathered = 0;
    for (const StepError& e : errors) {
        if (!e.fits && !first) first = &e;
        own = std::max(own, e.own);
        gathered = std::max(gathered, e.gathered);
        const cuda::Step& step = plan->steps[e.step];
        if (args.all)
            fmt::print("{} step {} {} %{}: own error {:.3g}, gathered {:.3g} of the peak; {}\n",
                       e.fits ? "ok  " : "OFF ", e.step, step.name, e.value.index, e.own,
                       e.gathered, nodes_of(step));
    }
    fmt::print(
        "{} steps, {} stored values: a step's own error is at most {:.3g}, the gathered error at "
        "most {:.3g} of the peak\n",
        plan->steps.size(), errors.size(), own, gathered);
    if (!first) return done;
    const cuda::Step& step = plan->steps[first->step];
    fmt::print(
        "first divergence: step {} {} (%{}), own error {:.3g}, gathered {:.3g} of the peak\n  "
        "nodes: {}\n  reason: {}\n  {}\n",
        first->step, step.name, first->value.index, first->own, first->gathered, nodes_of(step),
        step.reason, first->message);
    return failed;
}

}  // namespace kn::tool
