// kn bench on a GPU: runs queued one after the other, an event between each two.
#include <future>

#include "bench.h"
#include "cuda_model.h"

#include <kn/cuda_sys/event.h>

namespace kn::tool {

namespace {

/// Milliseconds of each of `count` runs, inputs and outputs on the device.
std::vector<double> time_runs(cuda::Executor& executor, const cuda::Device& gpu,
                              const std::vector<Tensor>& given, int count) {
    const cuda::Stream stream(gpu);
    const DeviceTensors inputs(stream, given);
    const DeviceTensors outputs(gpu, executor.plan().outputs);
    const std::vector<void*> in = inputs.addresses(), out = outputs.addresses();
    const std::vector<const void*> in_const(in.begin(), in.end());
    for (int i = 0; i < warm_ups; i++) executor.run(stream, in_const, out);
    stream.synchronize();
    std::vector<cuda::Event> events;
    for (int i = 0; i <= count; i++) events.emplace_back(gpu);
    events[0].record(stream);
    for (std::size_t i = 1; i < events.size(); i++) {
        executor.run(stream, in_const, out);
        events[i].record(stream);
    }
    stream.synchronize();
    std::vector<double> times_ms;
    for (std::size_t i = 1; i < events.size(); i++)
        times_ms.push_back(cuda::elapsed_ms(events[i - 1], events[i]));
    return times_ms;
}

}  // namespace

int bench_cuda(const BenchArgs& args, const Device& device) {
    BenchResult result;
    const auto note = [&](const char* name, std::chrono::steady_clock::time_point begin) {
        result.timings.push_back({name, begin, ms_since(begin)});
    };
    const auto add = [&](const std::vector<cuda::Phase>& phases) {
        for (const cuda::Phase& p : phases)
            result.timings.push_back({p.name, p.begin, p.ms, p.part});
    };
    const auto entered = std::chrono::steady_clock::now();
    const double age_ms = process_age_ms();
    result.timings.push_back(
        {"process started, libraries linked",
         entered - std::chrono::microseconds(static_cast<std::int64_t>(1e3 * age_ms)), age_ms});
    auto warming =
        std::async(std::launch::async, [&] { return backend_for(device)->warm_up(device); });
    const StaticModel model = static_model(args.path, args.model);
    result.timings.insert(result.timings.end(), model.timings.begin(), model.timings.end());
    auto start = std::chrono::steady_clock::now();
    const auto warm = warming.get();
    const cuda::Device gpu = require_gpu(device);
    gpu.properties();
    note("waiting for driver and properties of the device", start);
    result.setup.load_ms = model.load_ms;
    result.setup.optimize_ms = model.optimize_ms;
    start = std::chrono::steady_clock::now();
    const Tuning tuning = parse_tuning(args.tune);
    const auto plan = make_plan(model, args.model, gpu, tuning);
    result.setup.plan_ms = ms_since(start);
    note("plan", start);
    add(plan->phases);
    start = std::chrono::steady_clock::now();
    cuda::Executor executor(plan, gpu, {.tuning = tuning});
    note("executor", start);
    const auto first = std::chrono::steady_clock::now();
    executor.run(model.inputs);
    add(executor.setup().phases);
    note("first answer", first);
    result.prepare_ms = ms_since(start);
    result.setup_ms = process_age_ms();
    const cuda::ExecutorSetup setup = executor.setup();
    const auto count = [](std::size_t n) { return static_cast<double>(n); };
    result.details = {{"steps", count(plan->steps.size())},
                      {"kernels_compiled", count(setup.kernels_compiled)},
                      {"kernels_from_cache", count(setup.kernels_from_cache)},
                      {"plans_built", count(setup.plans_built)},
                      {"problems_tuned", count(setup.problems_tuned)},
                      {"problems_from_cache", count(setup.problems_from_cache)},
                      {"overlap", static_cast<double>(setup.overlap)}};
    result.times_ms = time_runs(executor, gpu, model.inputs, args.runs);
    result.peak_bytes = executor.device_bytes();
    result.device = device.to_string() + " " + gpu.properties().name;
    print_bench(args, result);
    return done;
}

}  // namespace kn::tool
