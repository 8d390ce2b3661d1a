// kn devices: what there is to run on.
#include <thread>

#include <fmt/core.h>

#include "commands.h"

namespace kn::tool {

int devices() {
    fmt::print("kn {}\n", version());
    fmt::print("cpu: {} threads\n", std::thread::hardware_concurrency());
    try {
        const auto backend = backend_for(Device::cuda(0));
        for (const Device& device : backend->devices()) fmt::print("{}\n", device.to_string());
    } catch (const DeviceError& error) {
        fmt::print("cuda: {}\n", error.what());
    }
    return done;
}

}  // namespace kn::tool
