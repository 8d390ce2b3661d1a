#include "cuda_model.h"

#include <algorithm>
#include <fstream>
#include <iterator>

namespace kn::tool {

extern const char* const h200_json;

cuda::Device require_gpu(const Device& device) {
    if (cuda::device_count() == 0)
        throw DeviceError("there is no device " + device.to_string() + ": " +
                          cuda::why_unavailable());
    if (device.index() >= cuda::device_count())
        throw DeviceError("there is no device " + device.to_string() + ": " +
                          std::to_string(cuda::device_count()) + " found");
    return cuda::Device(device.index());
}

Tuning parse_tuning(const std::string& text) {
    if (text == "none") return Tuning::None;
    if (text == "fast") return Tuning::Fast;
    if (text == "full") return Tuning::Full;
    throw UsageError("--tune " + printable(text) + ": expected none, fast or full");
}

cuda::DeviceProperties read_properties(const std::string& name) {
    if (name == "h200") return cuda::device_properties_from_json(h200_json);
    std::ifstream file(name);
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    if (!file)
        throw UsageError("--properties " + printable(name) +
                         ": no such file (and the only built-in name is h200)");
    try {
        return cuda::device_properties_from_json(text);
    } catch (const cuda::Error& error) {
        throw UsageError("--properties " + printable(name) + ": " + error.what());
    }
}

namespace {

cuda::PlanOptions options_of(const ModelFlags& flags) {
    return {.precision = parse_precision(flags.precision), .slices = flags.slices};
}

}  // namespace

std::shared_ptr<const cuda::Plan> make_plan(const StaticModel& model, const ModelFlags& flags,
                                            const cuda::DeviceProperties& device) {
    return std::make_shared<const cuda::Plan>(cuda::plan(model.graph, device, options_of(flags)));
}

std::shared_ptr<const cuda::Plan> make_plan(const StaticModel& model, const ModelFlags& flags,
                                            cuda::Device gpu, Tuning tuning) {
    if (tuning != Tuning::Full) return make_plan(model, flags, gpu.properties());
    return cuda::tuned_plan(model.graph, gpu, options_of(flags));
}

DeviceTensors::DeviceTensors(cuda::StreamRef stream, const std::vector<Tensor>& tensors) {
    for (const Tensor& tensor : tensors) {
        memory_.emplace_back(stream.device(), std::max<std::size_t>(tensor.byte_size(), 1));
        cuda::copy_bytes_async(stream, memory_.back().data(), tensor.bytes().data(),
                               tensor.byte_size());
    }
    stream.synchronize();
}

DeviceTensors::DeviceTensors(cuda::Device device, const std::vector<cuda::TensorRef>& tensors) {
    for (const cuda::TensorRef& tensor : tensors) {
        std::size_t bytes = size_of(tensor.dtype);
        for (const std::int64_t n : tensor.shape) bytes *= static_cast<std::size_t>(n);
        memory_.emplace_back(device, std::max<std::size_t>(bytes, 1));
    }
}

std::vector<void*> DeviceTensors::addresses() const {
    std::vector<void*> out;
    for (const cuda::DeviceMemory& memory : memory_) out.push_back(memory.data());
    return out;
}

}  // namespace kn::tool
