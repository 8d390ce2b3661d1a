// A step as one graph does what the sampler on the host does.
#include <cmath>
#include <fstream>

#include <gtest/gtest.h>
#include <kn/graph.h>
#include <kn/graph/builder.h>
#include <kn/graph/cpu.h>
#include <kn/graph/optimizer.h>
#include <kn/graph/precision.h>
#if __has_include(<kn/cuda_eval/plan.h>)
#include <kn/cuda_eval/plan.h>
#endif

#include "stable_diffusion/step_graph.h"

namespace sd {
namespace {

constexpr std::int64_t rows = 2;
const kn::Ints shape = {rows, 2, 2, 2};

// Something like a UNet: two rows of text for each of the sample's when guided.
kn::Graph fake_unet(bool guided) {
    const std::int64_t batch = guided ? 2 * rows : rows;
    kn::Graph graph;
    const kn::Var x = graph.input("x", kn::DType::F16, {batch, 2, 2, 2});
    const kn::Var t = graph.input("timestep", kn::DType::I64, {1});
    const kn::Var text = graph.input("encoder_hidden_states", kn::DType::F32, {batch, 3, 4});
    const kn::Var mean = kn::reshape(kn::mean(text, {1, 2}), {batch, 1, 1, 1});
    const kn::Var wave =
        kn::sin(kn::cast(x, kn::DType::F32) * 2.0 + kn::cast(t, kn::DType::F32) * 0.01);
    graph.output("y", wave + mean);
    return graph;
}

std::vector<float> output_of(const kn::Graph& unet, std::vector<float> x, double timestep,
                             const kn::Tensor& text, bool guided, double guidance) {
    const std::size_t size = x.size();
    kn::Ints full = shape;
    if (guided) {
        full[0] *= 2;
        x.resize(2 * size);
        std::copy_n(x.begin(), size, x.begin() + static_cast<std::ptrdiff_t>(size));
    }
    const auto y = kn::cpu::run(unet, {kn::Tensor::from_span<float>(full, x).cast(kn::DType::F16),
                                       kn::Tensor::from_span<std::int64_t>(
                                           {1}, std::vector<std::int64_t>{static_cast<std::int64_t>(
                                                    static_cast<float>(timestep))}),
                                       text});
    const auto e = y[0].data<float>();
    std::vector<float> out(e.begin(), e.begin() + static_cast<std::ptrdiff_t>(size));
    for (std::size_t i = 0; guided && i < size; i++)
        out[i] = static_cast<float>(e[i] + guidance * (static_cast<double>(e[size + i]) - e[i]));
    return out;
}

struct Case {
    const char* config;
    const char* name;
    int steps;
    bool guided;
};

void PrintTo(const Case& c, std::ostream* out) {
    *out << c.name << ", " << c.steps << " steps" << (c.guided ? ", guided" : "");
}

class StepGraph : public testing::TestWithParam<Case> {};

TEST_P(StepGraph, EqualsTheHost) {
    using namespace diffusion;
    const Case& c = GetParam();
    const Schedule schedule =
        make_schedule(parse_config(c.config, std::string(c.name), "case"), c.steps);
    ASSERT_TRUE(fits_step_graph(schedule));
    const kn::Graph unet = fake_unet(c.guided);
    const StepLayout layout = layout_of(schedule);
    const kn::Graph graph = make_step_graph(unet, "x", layout, c.guided);
    constexpr double guidance = 3.5;
    kn::Random random(3);
    const kn::Tensor text =
        kn::random_tensor(kn::DType::F32, {c.guided ? 2 * rows : rows, 3, 4}, random);
    const kn::Tensor start = kn::random_tensor(kn::DType::F32, shape, random);

    std::map<std::string, kn::Tensor> state;
    for (const std::string& name : layout.state())
        state[name] = kn::Tensor::zeros(kn::DType::F32, shape);
    state["sample"] = start;
    Sampler sampler(schedule, rows);
    std::vector<float> x(start.data<float>().begin(), start.data<float>().end());
    for (std::size_t i = 0; i < schedule.steps.size(); i++) {
        const kn::Tensor noise = kn::random_tensor(kn::DType::F32, shape, random);
        const std::vector<float> e = output_of(
            unet, sampler.scaled(i, x), schedule.steps[i].timestep, text, c.guided, guidance);
        sampler.step(i, e, x, [&](std::span<float> to) {
            std::ranges::copy(noise.data<float>(), to.begin());
        });

        std::vector<kn::Tensor> inputs;
        for (const kn::NamedValue& input : graph.inputs()) {
            if (input.name == "numbers")
                inputs.push_back(
                    kn::Tensor::from_span<float>({static_cast<std::int64_t>(layout.numbers())},
                                                 step_numbers(schedule, layout, i, guidance)));
            else if (input.name == "noise")
                inputs.push_back(noise);
            else
                inputs.push_back(input.name == "encoder_hidden_states" ? text
                                                                       : state.at(input.name));
        }
        const std::vector<kn::Tensor> outputs = kn::cpu::run(graph, inputs);
        ASSERT_EQ(outputs.size(), layout.state().size());
        for (std::size_t k = 0; k < outputs.size(); k++) state[layout.state()[k]] = outputs[k];
        const auto got = state["sample"].data<float>();
        // Halves in front of the network turn one rounding into a step of 2^-11.
        for (std::size_t k = 0; k < x.size(); k++)
            ASSERT_NEAR(got[k], x[k], 4e-3 * std::max(1.0f, std::abs(x[k]))) << "step " << i;
        x.assign(got.begin(), got.end());
    }
}

constexpr const char* sd1 =
    R"({"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "skip_prk_steps": true, "steps_offset": 1})";
constexpr const char* clipped = R"({"clip_sample": true, "clip_sample_range": 0.5})";
constexpr const char* runge_kutta = R"({"prediction_type": "v_prediction"})";
constexpr const char* single = R"({"solver_order": 3, "algorithm_type": "sde-dpmsolver++"})";
constexpr const char* order_3 = R"({"solver_order": 3})";
constexpr const char* third = R"({"solver_order": 3, "algorithm_type": "sde-dpmsolver++"})";

INSTANTIATE_TEST_SUITE_P(
    Schedulers, StepGraph,
    testing::Values(Case{sd1, "pndm", 6, true}, Case{runge_kutta, "pndm", 5, false},
                    Case{sd1, "ddim", 4, true}, Case{clipped, "ddim", 4, false},
                    Case{sd1, "euler", 5, true}, Case{sd1, "euler-a", 5, false},
                    Case{sd1, "dpm++", 6, true}, Case{third, "dpm++", 7, true},
                    Case{sd1, "lcm", 4, true}, Case{clipped, "heun", 4, true},
                    Case{sd1, "lms", 6, true}, Case{sd1, "kdpm2", 4, false},
                    Case{sd1, "kdpm2-a", 4, true}, Case{clipped, "ddpm", 5, true},
                    Case{single, "dpm++-single", 7, true}, Case{order_3, "deis", 7, false},
                    Case{order_3, "unipc", 7, true}, Case{sd1, "tcd", 4, true}));

#if __has_include(<kn/cuda_eval/plan.h>)
// The tiny UNet's whole step has a plan for a GPU that need not be there; halves stay within the
// UNet.
TEST(StepPlan, WholeStepsHaveAPlan) {
    std::ifstream file(KN_TEST_DATA "/h200.json");
    const auto properties =
        kn::cuda::device_properties_from_json({std::istreambuf_iterator<char>(file), {}});
    const kn::Graph unet = kn::optimize(kn::load_onnx(KN_TINY_SD "/unet/model.onnx"));
    std::vector<kn::Ints> shapes;
    for (const kn::NamedValue& input : unet.inputs())
        shapes.push_back(input.name == "sample"     ? kn::Ints{2, 4, 16, 16}
                         : input.name == "timestep" ? kn::Ints{1}
                                                    : kn::Ints{2, 77, 96});
    const kn::Graph bound = kn::optimize(unet.bind(unet.infer_bindings(shapes)));
    const auto schedule = diffusion::make_schedule(
        diffusion::read_config(KN_TINY_SD "/scheduler/scheduler_config.json"), 20);
    const StepLayout layout = layout_of(schedule);
    std::size_t bytes[2] = {};
    for (const bool half : {false, true}) {
        const kn::Graph lowered =
            half ? kn::optimize(kn::to_precision(bound, kn::DType::F16)) : bound.clone();
        const auto plan =
            kn::cuda::plan(make_step_graph(lowered, "sample", layout, true), properties);
        ASSERT_EQ(plan.outputs.size(), layout.state().size());
        for (const kn::cuda::TensorRef& output : plan.outputs)
            EXPECT_EQ(output.dtype, kn::DType::F32);
        bytes[half] = plan.constant_bytes;
    }
    EXPECT_LT(bytes[1], 0.6 * static_cast<double>(bytes[0]));
}
#endif

}  // namespace
}  // namespace sd
