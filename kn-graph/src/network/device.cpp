#include <kn/graph/device.h>

#include <map>
#include <mutex>

#include <kn/graph/backend.h>

#include "network/cpu_backend.h"

namespace kn {

namespace {

struct Registry {
    std::mutex mutex;
    std::map<Device::Kind, std::shared_ptr<Backend>> backends{
        {Device::Kind::Cpu, make_cpu_backend()}};
};

Registry& registry() {
    static Registry instance;
    return instance;
}

std::shared_ptr<Backend> find(Device::Kind kind) {
    const std::lock_guard lock(registry().mutex);
    const auto found = registry().backends.find(kind);
    return found == registry().backends.end() ? nullptr : found->second;
}

}  // namespace

std::string name_of(Precision precision) {
    switch (precision) {
        case Precision::F32: return "f32";
        case Precision::F64: return "f64";
        case Precision::TF32: return "tf32";
        case Precision::F16: return "f16";
        case Precision::BF16: return "bf16";
    }
    return {};
}

std::string Device::to_string() const {
    return kind_ == Kind::Cpu ? "cpu" : "cuda:" + std::to_string(index_);
}

Device Device::best() {
    if (const auto cuda = find(Kind::Cuda)) {
        const std::vector<Device> devices = cuda->devices();
        if (!devices.empty()) return devices[0];
    }
    return cpu();
}

void register_backend(Device::Kind kind, std::shared_ptr<Backend> backend) {
    const std::lock_guard lock(registry().mutex);
    registry().backends[kind] = std::move(backend);
}

std::shared_ptr<Backend> backend_for(Device device) {
    const auto backend = find(device.kind());
    if (!backend)
        throw DeviceError("there is no device " + device.to_string() +
                          ": this build has no CUDA part");
    const std::vector<Device> devices = backend->devices();
    if (devices.empty())
        throw DeviceError("there is no device " + device.to_string() + ": " +
                          backend->why_unavailable());
    for (const Device& known : devices)
        if (known == device) return backend;
    throw DeviceError("there is no device " + device.to_string() + ": " +
                      std::to_string(devices.size()) + " found");
}

}  // namespace kn
