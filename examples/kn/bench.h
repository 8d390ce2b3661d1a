// What bench measures, on whatever device.
#pragma once

#include <map>
#include <optional>

#include "model.h"
#include "timing.h"

namespace kn::tool {

constexpr int warm_ups = 3;

struct BenchResult {
    std::vector<double> times_ms;
    double setup_ms = 0;
    SetupTimes setup;
    std::optional<double> prepare_ms;  // of a GPU: compiling, tuning, uploading
    std::size_t peak_bytes = 0;
    std::string device;
    std::map<std::string, double> details;  // further figures of the JSON
    std::vector<SetupLine> timings;         // of a GPU: where the setup went
};
/// A line on stdout, and the JSON file if one is asked for.
void print_bench(const BenchArgs& args, const BenchResult& result);

/// On a GPU; inputs and outputs stay on the device. Throws DeviceError if there is none.
int bench_cuda(const BenchArgs& args, const Device& device);

}  // namespace kn::tool
