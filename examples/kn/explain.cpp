// kn explain: a plan's steps with what they cost at least, and on a GPU what they take.
#include <fstream>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include <kn/cuda_sys/event.h>

#include "common/median.h"
#include "cuda_model.h"
#include "step_sums.h"
#include "timing.h"

namespace kn::tool {

namespace {

struct Timing {
    std::vector<double> step_us;  // by step; empty: not measured
    double run_us = 0;
};

Timing measure(const std::shared_ptr<const cuda::Plan>& plan, cuda::Device gpu,
               const StaticModel& model, const ExplainArgs& args) {
    cuda::Executor executor(plan, gpu, {.tuning = parse_tuning(args.tune)});
    executor.run(model.inputs);
    Timing out;
    out.step_us.resize(plan->steps.size());
    for (const cuda::StepTime& time : executor.time_steps(args.repeats))
        out.step_us.at(time.step) = time.us;
    const cuda::Stream stream(gpu);
    const DeviceTensors inputs(stream, model.inputs), outputs(gpu, plan->outputs);
    const std::vector<void*> in = inputs.addresses(), to = outputs.addresses();
    const std::vector<const void*> from(in.begin(), in.end());
    std::vector<double> runs;
    const cuda::Event begin(gpu), end(gpu);
    for (int i = 0; i < 30; i++) {
        begin.record(stream);
        for (int k = 0; k < 10; k++) executor.run(stream, from, to);
        end.record(stream);
        end.synchronize();
        runs.push_back(cuda::elapsed_ms(begin, end) * 1e3 / 10);
    }
    out.run_us = common::median(runs);
    return out;
}

std::string nodes_of(const cuda::Step& step) {
    std::string out;
    for (std::size_t i = 0; i < step.origins.size() && i < 6; i++)
        out += (i ? ", " : "") + printable(step.origins[i]);
    if (step.origins.size() > 6) out += fmt::format(" and {} more", step.origins.size() - 6);
    return out;
}

struct Sums {
    double roofline_us = 0, measured_us = 0, bytes = 0, flops = 0;
};

Sums print_steps(const cuda::Plan& plan, const Timing& timing,
                 const std::vector<double>& roofline) {
    Sums sums;
    fmt::print("{:>4} {:<12} {:>10} {:>10} {:>9}{} nodes; reason\n", "step", "kind", "MB", "GFLOP",
               "least us",
               timing.step_us.empty() ? "" : fmt::format(" {:>9} {:>6}", "us", "share"));
    for (std::size_t i = 0; i < plan.steps.size(); i++) {
        const cuda::Step& step = plan.steps[i];
        std::string measured;
        if (!timing.step_us.empty()) {
            measured = fmt::format(" {:>9.2f} {:>5.0f}%", timing.step_us[i],
                                   100 * roofline[i] / std::max(timing.step_us[i], 1e-9));
            sums.measured_us += timing.step_us[i];
        }
        const std::string slice =
            step.slice > 0 ? fmt::format("slice {}: ", step.slice) : std::string();
        fmt::print("{:>4} {:<12} {:>10.3f} {:>10.4f} {:>9.2f}{} {}{}; {}\n", i, step.name,
                   static_cast<double>(step.bytes()) / 1e6, static_cast<double>(step.flops) / 1e9,
                   roofline[i], measured, slice, nodes_of(step), step.reason);
        sums.roofline_us += roofline[i];
        sums.bytes += static_cast<double>(step.bytes());
        sums.flops += static_cast<double>(step.flops);
    }
    return sums;
}

void print_sums(const cuda::Plan& plan, const Timing& timing, const Sums& sums) {
    fmt::print(
        "{} steps, {} kernels of ours; {:.1f} MB moved, {:.2f} GFLOP; arena {:.1f} MB, weights "
        "{:.1f} MB\n",
        plan.steps.size(), plan.kernels.size(), sums.bytes / 1e6, sums.flops / 1e9,
        static_cast<double>(plan.arena_bytes) / 1e6,
        static_cast<double>(plan.constant_bytes) / 1e6);
    fmt::print("least time by roofline, step by step: {:.1f} us\n", sums.roofline_us);
    if (timing.step_us.empty()) {
        fmt::print("not measured: no GPU was asked\n");
        return;
    }
    fmt::print("roofline: {:.0f} % of the steps' time\n{}",
               100 * sums.roofline_us / std::max(sums.measured_us, 1e-9),
               to_text(add_up(timing.step_us, timing.run_us)));
}

void write_json(const std::string& path, const cuda::Plan& plan, const Timing& timing,
                const std::vector<double>& roofline) {
    auto steps = nlohmann::json::array();
    for (std::size_t i = 0; i < plan.steps.size(); i++) {
        const cuda::Step& step = plan.steps[i];
        steps.push_back({{"step", i},
                         {"kind", step.name},
                         {"nodes", step.origins},
                         {"reason", step.reason},
                         {"bytes", step.bytes()},
                         {"flops", step.flops},
                         {"roofline_us", roofline[i]}});
        if (step.slice > 0) steps.back()["slice"] = step.slice;
        if (!timing.step_us.empty()) steps.back()["us"] = timing.step_us[i];
    }
    nlohmann::json out = {{"device", plan.device.name},
                          {"precision", name_of(plan.options.precision)},
                          {"arena_bytes", plan.arena_bytes},
                          {"constant_bytes", plan.constant_bytes},
                          {"steps", steps}};
    if (!timing.step_us.empty()) {
        const StepSums sums = add_up(timing.step_us, timing.run_us);
        out["run_us"] = sums.run_us;
        out["steps_us"] = sums.steps_us;
        out["gaps_us"] = sums.gaps_us;
        out["overlap_us"] = sums.overlap_us;
    }
    std::ofstream file(path);
    file << out.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) << "\n";
    if (!file.flush()) throw UsageError(printable(path) + ": cannot be written");
}

}  // namespace

int explain(const ExplainArgs& args) {
    Timing timing;
    const bool here = args.properties.empty();
    const Device device = parse_device(
        args.model.device == "cpu" || args.model.device == "auto" ? "cuda" : args.model.device);
    if (here && cuda::device_count() == 0)
        throw DeviceError("there is no GPU to explain a plan for (" + cuda::why_unavailable() +
                          "); --properties h200, or a file that dump_device wrote, plans for one "
                          "that is elsewhere");
    const cuda::DeviceProperties properties =
        here ? require_gpu(device).properties() : read_properties(args.properties);
    const StaticModel model = static_model(args.path, args.model);
    std::vector<SetupLine> timings = model.timings;
    const auto start = std::chrono::steady_clock::now();
    const auto plan =
        here ? make_plan(model, args.model, require_gpu(device), parse_tuning(args.tune))
             : make_plan(model, args.model, properties);
    timings.push_back({"plan", start, ms_since(start)});
    for (const cuda::Phase& p : plan->phases) timings.push_back({p.name, p.begin, p.ms, p.part});
    if (here) timing = measure(plan, require_gpu(device), model, args);
    std::vector<double> roofline;
    for (const cuda::Step& step : plan->steps)
        roofline.push_back(cuda::roofline_us(step, properties));

    fmt::print("{} on {}\n", args.model.precision, properties.name);
    const Sums sums = print_steps(*plan, timing, roofline);
    print_sums(*plan, timing, sums);
    if (args.timings) print_setup(timings);
    if (args.decisions)
        for (const cuda::Decision& d : plan->decisions)
            fmt::print("{} {} at {}: {}\n", d.taken ? "taken  " : "refused", d.rule,
                       printable(d.where), d.reason);
    if (!args.json.empty()) write_json(args.json, *plan, timing, roofline);
    return done;
}

}  // namespace kn::tool
