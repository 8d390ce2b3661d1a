#include "cuda_eval/parity/parity.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>

#include <kn/cuda_eval/executor.h>
#include <kn/cuda_sys/device.h>
#include <kn/graph/optimizer.h>
#include <kn/graph/precision.h>

#include "cuda_eval/host_shim/host_shim.h"
#include "cuda_eval/plan/support.h"
#include "kn/step_compare.h"

namespace kn::test {

namespace {

Tensor from_doubles(DType dtype, const Ints& shape, const std::vector<double>& values) {
    return Tensor::from_span<double>(shape, values).cast(dtype);
}

std::vector<Tensor> run_on_gpu(const Graph& graph, const std::vector<Tensor>& inputs,
                               Precision precision) {
    const cuda::Device device(0);
    const auto plan = std::make_shared<const cuda::Plan>(
        cuda::plan(graph, device.properties(), {.precision = precision}));
    // The hardest order for the kernels: each may start before the one in front of it has ended.
    cuda::Executor executor(plan, device, {.tuning = Tuning::None, .overlap = cuda::Overlap::All});
    return executor.run(inputs);
}

std::vector<Tensor> run_in_shim(const Graph& graph, const std::vector<Tensor>& inputs,
                                Precision precision) {
    return cuda::run_plan_on_host(cuda::plan(graph, h200(), {.precision = precision}), inputs);
}

// The first step that is wrong, in words; on a GPU only.
std::string blame(const Graph& graph, const std::vector<Tensor>& inputs, Precision precision) {
    if (cuda::device_count() == 0) return "";
    const cuda::Device device(0);
    const auto plan = std::make_shared<const cuda::Plan>(
        cuda::plan(graph, device.properties(), {.precision = precision}));
    cuda::Executor executor(plan, device, {.tuning = Tuning::None});
    for (const tool::StepError& error :
         tool::compare_steps(*plan, inputs, executor.run_stored(inputs)))
        if (!error.fits)
            return "\nfirst wrong step: " + std::to_string(error.step) + " " +
                   plan->steps[error.step].name + ", " + error.message + "\n" + plan->to_string();
    return "\nno single step is wrong";
}

}  // namespace

bool small_only() { return std::getenv("KN_PARITY_SMALL") != nullptr; }

std::vector<Tensor> in_f64(const Graph& graph, const std::vector<Tensor>& inputs) {
    return cpu::run(to_precision(graph, DType::F64), inputs);
}

Tensor special_values(DType dtype, Ints shape) {
    const double infinity = std::numeric_limits<double>::infinity();
    const double list[] = {
        0.0,  -0.0, 1.0,   -1.0, infinity, -infinity, std::numeric_limits<double>::quiet_NaN(),
        0.5,  2.5,  -2.5,  1e-7, 65504,    -65504,    1e-30,
        88.8, -104, 3.0e4, 1e30, -1e30,    3.14159,   100};
    std::vector<double> values(static_cast<std::size_t>(Tensor(DType::Bool, shape).size()));
    for (std::size_t i = 0; i < values.size(); i++) values[i] = list[i % std::size(list)];
    return from_doubles(dtype, shape, values);
}

Tensor Parity::elements(DType dtype, const Ints& shape, Fill fill, std::int64_t limit) {
    std::vector<double> values(static_cast<std::size_t>(Tensor(DType::Bool, shape).size()));
    const bool whole = !is_float(dtype);
    for (double& value : values) {
        switch (fill) {
            case Fill::Normal:
                value = whole ? std::floor(random_.uniform() * 41) - 20 : random_.normal();
                break;
            case Fill::Positive:
                value =
                    whole ? std::floor(random_.uniform() * 20) + 1 : 0.05 + 3 * random_.uniform();
                break;
            case Fill::Unit:
                value = whole ? std::floor(random_.uniform() * 2) : 1.98 * random_.uniform() - 0.99;
                break;
            case Fill::Small: value = 0.1 * random_.normal(); break;
            case Fill::Index:
                value = std::floor(random_.uniform() * static_cast<double>(limit));
                break;
        }
        if (dtype == DType::Bool) value = random_.uniform() < 0.5 ? 0 : 1;
    }
    return from_doubles(dtype, shape, values);
}

Var Parity::input(DType dtype, const Ints& shape, Fill fill, std::int64_t limit) {
    return input(elements(dtype, shape, fill, limit));
}

Var Parity::input(Tensor tensor) {
    inputs_.push_back(tensor);
    return graph.input("x" + std::to_string(inputs_.size() - 1), tensor.dtype(),
                       Shape::of(tensor.shape()));
}

Var Parity::weight(DType dtype, const Ints& shape, Fill fill) {
    return graph.constant(elements(dtype, shape, fill, 2));
}

void Parity::output(Var value, Loses loses) {
    graph.output("y" + std::to_string(loses_.size()), value);
    loses_.push_back(loses);
}

std::vector<Leg> legs(const std::vector<Precision>& policies, bool gpu_only) {
    std::vector<Leg> out = {
        {"CPU raw", Precision::F32,
         [](const Graph& g, const std::vector<Tensor>& x) { return cpu::run(g, x); }},
        {"CPU optimised", Precision::F32,
         [](const Graph& g, const std::vector<Tensor>& x) { return cpu::run(optimize(g), x); }}};
    const bool gpu = cuda::device_count() > 0;
    if (!gpu && gpu_only) return out;
    const std::string name = gpu ? "GPU" : "host shim";
    const auto run = gpu ? run_on_gpu : run_in_shim;
    out.push_back(
        {name + " raw", Precision::F32, [run](const Graph& g, const std::vector<Tensor>& x) {
             return run(g, x, Precision::F32);
         }});
    out.push_back(
        {name + " optimised", Precision::F32, [run](const Graph& g, const std::vector<Tensor>& x) {
             return run(optimize(g), x, Precision::F32);
         }});
    for (const Precision p : policies)
        if (gpu || p != Precision::TF32)
            out.push_back({name + " optimised " + name_of(p), p,
                           [run, p](const Graph& g, const std::vector<Tensor>& x) {
                               return run(optimize(g), x, p);
                           }});
    return out;
}

void Parity::check() {
    const std::vector<Tensor> exact = in_f64(graph, inputs_);
    for (const Leg& leg : legs(policies_, gpu_only_)) {
        std::vector<Tensor> got;
        try {
            got = leg.run(graph, inputs_);
        } catch (const std::exception& error) {
            ADD_FAILURE() << leg.name << ": " << error.what() << "\n" << graph.to_string();
            continue;
        }
        bool blamed = false;
        for (std::size_t i = 0; i < got.size(); i++) {
            const Value value = graph.outputs()[i].value;
            const auto tolerance = parity_tolerance(loses_[i], got[i].dtype(), leg.precision);
            const auto difference =
                testing::compare(got[i], exact[i].cast(got[i].dtype()), tolerance);
            if (difference.equal) continue;
            const bool device = leg.name.rfind("GPU", 0) == 0;
            ADD_FAILURE() << leg.name << ", output " << i << " = "
                          << to_string(graph[value].operation) << ": " << difference.message
                          << (device && !blamed
                                  ? blame(leg.name == "GPU raw" ? graph.clone() : optimize(graph),
                                          inputs_, leg.precision)
                                  : "");
            blamed = true;
        }
    }
}

}  // namespace kn::test
