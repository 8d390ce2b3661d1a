#include <nlohmann/json.hpp>

#include <kn/cuda_eval/plan.h>

namespace kn::cuda {

namespace {

using Json = nlohmann::ordered_json;

Json to_json_value(const TensorRef& tensor) {
    Json out = {{"buffer", tensor.buffer},
                {"dtype", std::string(name_of(tensor.dtype))},
                {"shape", tensor.shape},
                {"strides", tensor.strides},
                {"offset", tensor.offset}};
    if (tensor.rounded_to_tf32) out["rounded_to_tf32"] = true;
    return out;
}

Json to_json_value(const Step& step, const DeviceProperties& device) {
    Json operands = Json::array();
    for (const Operand& operand : step.operands) {
        static constexpr const char* names[] = {"read", "write", "read-write", "scratch"};
        Json entry = to_json_value(operand.tensor);
        entry["role"] = operand.role;
        entry["access"] = names[static_cast<int>(operand.access)];
        operands.push_back(std::move(entry));
    }
    Json out = {{"name", step.name},
                {"reason", step.reason},
                {"origins", step.origins},
                {"operands", operands},
                {"flops", step.flops},
                {"bytes", step.bytes()},
                {"roofline_us", roofline_us(step, device)}};
    if (step.slice > 0) out["slice"] = step.slice;
    Json values = Json::array();
    for (const Value& value : step.produces) values.push_back(value.index);
    out["produces"] = values;
    if (const auto* kernel = std::get_if<KernelWork>(&step.work)) {
        out["work"] = {{"kernel", kernel->kernel},
                       {"grid", {kernel->grid.x, kernel->grid.y, kernel->grid.z}},
                       {"block", {kernel->block.x, kernel->block.y, kernel->block.z}},
                       {"cluster", kernel->cluster.x},
                       {"shared_bytes", kernel->shared_bytes},
                       {"scalars", kernel->scalars}};
    } else if (const auto* matmul = std::get_if<MatMulWork>(&step.work)) {
        const MatmulDesc& d = matmul->desc;
        out["work"] = {{"matmul", {d.m, d.n, d.k}},
                       {"batch", d.batch},
                       {"transpose", {d.transpose_a, d.transpose_b}},
                       {"bias", d.bias},
                       {"beta", matmul->beta},
                       {"types", {to_string(d.a_type), to_string(d.b_type), to_string(d.d_type)}}};
    } else if (const auto* cudnn = std::get_if<CudnnWork>(&step.work)) {
        out["work"] = {{"cudnn", to_text(cudnn->problem)}, {"tensor_cores", cudnn->tensor_cores}};
    } else {
        out["work"] = {{"clear", true}};
    }
    return out;
}

}  // namespace

std::string Plan::to_json() const {
    Json out = {{"device", device.name},
                {"arch", device.arch()},
                {"precision", name_of(options.precision)},
                {"arena_bytes", arena_bytes},
                {"constant_bytes", constant_bytes}};
    if (slices > 1) out["slices"] = slices;
    for (const Step& step : steps) out["steps"].push_back(to_json_value(step, device));
    for (const Buffer& b : buffers) {
        static constexpr const char* names[] = {"input", "output", "constant", "arena"};
        out["buffers"].push_back({{"kind", names[static_cast<int>(b.kind)]},
                                  {"name", b.name},
                                  {"bytes", b.bytes},
                                  {"index", b.index},
                                  {"offset", b.offset},
                                  {"first_step", b.first_step},
                                  {"last_step", b.last_step}});
    }
    for (const PlanKernel& kernel : kernels)
        out["kernels"].push_back({{"entry", kernel.entry}, {"source", kernel.source}});
    for (const Decision& d : decisions)
        out["decisions"].push_back(
            {{"rule", d.rule}, {"taken", d.taken}, {"where", d.where}, {"reason", d.reason}});
    return out.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace kn::cuda
