// kn bench: the time of one run, and of everything before it.
#include <unistd.h>

#include <fstream>
#include <sstream>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "bench.h"
#include "common/median.h"

namespace kn::tool {

double process_age_ms() {
    std::ifstream file("/proc/self/stat");
    std::string line;
    std::getline(file, line);
    std::istringstream rest(line.substr(std::min(line.rfind(')') + 2, line.size())));
    std::string field;
    for (int i = 0; i < 20; i++)
        rest >> field;  // field 22 of the line: start time in ticks since boot
    timespec now{};
    ::clock_gettime(CLOCK_BOOTTIME, &now);
    const double ticks = std::strtod(field.c_str(), nullptr);
    return 1e3 * static_cast<double>(now.tv_sec) + 1e-6 * static_cast<double>(now.tv_nsec) -
           1e3 * ticks / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

void print_setup(const std::vector<SetupLine>& lines) {
    const double now_ms = process_age_ms();
    fmt::print("{:>9} {:>9}  (ms; stretches overlap)\n", "begin", "length");
    for (const SetupLine& line : lines)
        fmt::print("{:>9} {:>9.1f}  {}\n",
                   line.part ? "" : fmt::format("{:.1f}", now_ms - ms_since(line.begin)), line.ms,
                   line.name);
}

void print_bench(const BenchArgs& args, const BenchResult& r) {
    const double median_ms = common::median(r.times_ms);
    const double min_ms = *std::ranges::min_element(r.times_ms);
    fmt::print(
        "median {:.3f} ms, min {:.3f} ms over {} runs; setup {:.0f} ms (load {:.1f}, optimize "
        "{:.1f}, plan {:.1f}{}); "
        "peak {:.1f} MB\n",
        median_ms, min_ms, r.times_ms.size(), r.setup_ms, r.setup.load_ms, r.setup.optimize_ms,
        r.setup.plan_ms, r.prepare_ms ? fmt::format(", prepare {:.1f}", *r.prepare_ms) : "",
        static_cast<double>(r.peak_bytes) / 1e6);
    if (args.timings) print_setup(r.timings);
    if (args.json.empty()) return;
    nlohmann::json out = {{"median_ms", median_ms},
                          {"min_ms", min_ms},
                          {"setup_ms", r.setup_ms},
                          {"load_ms", r.setup.load_ms},
                          {"optimize_ms", r.setup.optimize_ms},
                          {"plan_ms", r.setup.plan_ms},
                          {"peak_bytes", r.peak_bytes},
                          {"device", r.device},
                          {"precision", args.model.precision},
                          {"runs", args.runs}};
    if (r.prepare_ms) out["prepare_ms"] = *r.prepare_ms;
    for (const auto& [name, value] : r.details) out[name] = value;
    const double now_ms = process_age_ms();
    for (const SetupLine& line : r.timings)
        out["timings"].push_back({{"name", line.name},
                                  {"begin_ms", now_ms - ms_since(line.begin)},
                                  {"ms", line.ms},
                                  {"part", line.part}});
    std::ofstream json(args.json);
    json << out.dump(1) << "\n";
    if (!json.flush()) throw UsageError(printable(args.json) + ": cannot be written");
}

int bench(const BenchArgs& args) {
    const NetworkOptions options = network_options(args.model);
    if (options.device.kind() == Device::Kind::Cuda) return bench_cuda(args, options.device);
    Network network = Network::load(model_file(args.path), options);
    const auto inputs =
        make_inputs(network.info(), network.input_names(), args.path, args.model, {}, 0, 0);
    BenchResult result;
    network.run(inputs);
    result.setup_ms = process_age_ms();
    result.setup = network.setup_times();
    for (int i = 1; i < warm_ups; i++) network.run(inputs);
    for (int i = 0; i < args.runs; i++) {
        const auto start = std::chrono::steady_clock::now();
        network.run(inputs);
        result.times_ms.push_back(ms_since(start));
    }
    result.peak_bytes = network.peak_bytes();
    result.device = options.device.to_string();
    print_bench(args, result);
    return done;
}

}  // namespace kn::tool
