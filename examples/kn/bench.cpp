// kn bench: the time of one run, and of everything before it.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <sstream>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "model.h"

namespace kn::tool {

namespace {

using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point start) {
    return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

// Milliseconds from this process's start until now, by the kernel's own record of the start (its ticks are 10 ms).
double process_age_ms() {
    std::ifstream file("/proc/self/stat");
    std::string line;
    std::getline(file, line);
    std::istringstream rest(line.substr(std::min(line.rfind(')') + 2, line.size())));
    std::string field;
    for (int i = 0; i < 20; i++) rest >> field;  // field 22 of the line: start time in ticks since boot
    timespec now{};
    ::clock_gettime(CLOCK_BOOTTIME, &now);
    const double ticks = std::strtod(field.c_str(), nullptr);
    return 1e3 * static_cast<double>(now.tv_sec) + 1e-6 * static_cast<double>(now.tv_nsec) -
           1e3 * ticks / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

}  // namespace

int bench(const BenchArgs& args) {
    const NetworkOptions options = network_options(args.model);
    Network network = Network::load(model_file(args.path), options);
    const auto inputs = make_inputs(network, args.path, args.model, {}, 0, 0);
    network.run(inputs);
    const double setup_ms = process_age_ms();
    const SetupTimes setup = network.setup_times();

    constexpr int warm_ups = 3;
    for (int i = 1; i < warm_ups; i++) network.run(inputs);
    std::vector<double> times;
    for (int i = 0; i < args.runs; i++) {
        const auto start = Clock::now();
        network.run(inputs);
        times.push_back(ms_since(start));
    }
    std::sort(times.begin(), times.end());
    const std::size_t middle = times.size() / 2;
    const double median_ms = times.size() % 2 ? times[middle] : (times[middle - 1] + times[middle]) / 2;

    fmt::print("median {:.3f} ms, min {:.3f} ms over {} runs; setup {:.0f} ms (load {:.1f}, optimize {:.1f}, plan {:.1f}); "
               "peak {:.1f} MB\n",
               median_ms, times[0], args.runs, setup_ms, setup.load_ms, setup.optimize_ms,
               setup.plan_ms,
               static_cast<double>(network.peak_bytes()) / 1e6);
    if (!args.json.empty()) {
        const nlohmann::json out = {{"median_ms", median_ms},     {"min_ms", times[0]},   {"setup_ms", setup_ms},
                                    {"load_ms", setup.load_ms},         {"optimize_ms", setup.optimize_ms},
                                    {"plan_ms", setup.plan_ms},         {"peak_bytes", network.peak_bytes()},
                                    {"device", options.device.to_string()}, {"precision", name_of(options.precision)},
                                    {"runs", args.runs}};
        std::ofstream json(args.json);
        json << out.dump(1) << "\n";
        if (!json.flush()) throw UsageError(printable(args.json) + ": cannot be written");
    }
    return done;
}

}  // namespace kn::tool
