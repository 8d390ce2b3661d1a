// The step that is wrong is named, and only that one, although the steps behind it give wrong
// numbers too.
#include "kn/step_compare.h"

#include "cuda_eval/host_shim/host_shim.h"
#include "cuda_eval/parity/parity.h"
#include "cuda_eval/plan/support.h"

namespace kn::test {
namespace {

using Stored = std::vector<std::pair<Value, Tensor>>;

Stored run_stored(const cuda::Plan& plan, const std::vector<Tensor>& inputs) {
    Stored out;
    cuda::run_plan_on_host(plan, inputs, [&](std::size_t step, const cuda::ReadTensor& read) {
        for (const Value& value : plan.steps[step].produces)
            for (const auto& [stored, tensor] : plan.stored)
                if (stored == value) out.emplace_back(value, read(tensor));
    });
    return out;
}

Parity network() {
    Parity p;
    const Var x = p.input(DType::F32, {4, 24});
    Var y = x;
    for (int i = 0; i < 3; i++)
        y = gelu(
            linear(y, p.weight(DType::F32, {24, 24}, Fill::Small), p.weight(DType::F32, {24})));
    p.output(softmax(y, -1), Loses::Product);
    return p;
}

TEST(StepCompare, AllStepsOfARightRunFit) {
    const Parity p = network();
    for (const Precision precision : {Precision::F32, Precision::F16}) {
        const cuda::Plan plan = cuda::plan(optimize(p.graph), h200(), {.precision = precision});
        const auto errors = tool::compare_steps(plan, p.inputs(), run_stored(plan, p.inputs()));
        EXPECT_GE(errors.size(), plan.steps.size());
        for (const auto& error : errors)
            EXPECT_TRUE(error.fits) << "step " << error.step << ": " << error.message;
    }
}

TEST(StepCompare, NamesTheStepThatWentWrong) {
    const Parity p = network();
    // Several steps, so that there is something between them.
    const cuda::Plan plan =
        cuda::plan(optimize(p.graph), h200(), {.disabled_rules = {"small products"}});
    Stored stored = run_stored(plan, p.inputs());
    ASSERT_GE(stored.size(), 3u);
    // The second value is spoilt; what comes later is computed anew from it, as a device would.
    auto spoilt = stored[1].second.mutable_data<float>();
    spoilt[5] += 0.5f;
    Graph rest = extract(*plan.graph, {{"spoilt", stored[1].first}}, {{"y", stored.back().first}});
    stored.back().second = cpu::run(rest, {stored[1].second})[0];
    std::vector<std::size_t> wrong;
    for (const auto& error : tool::compare_steps(plan, p.inputs(), stored))
        if (!error.fits) wrong.push_back(error.step);
    ASSERT_FALSE(wrong.empty());
    const auto& produces = plan.steps[wrong[0]].produces;
    EXPECT_TRUE(std::find(produces.begin(), produces.end(), stored[1].first) != produces.end())
        << plan.to_string();
}

TEST(StepCompare, SecondResultsAreComputedByTheirOperation) {
    Parity p;
    const TopKResult top = top_k(tanh(p.input(DType::F32, {4, 24})), 5, 1);
    p.graph.output("values", top.values * 2.0);
    p.graph.output("indices", top.indices);
    const cuda::Plan plan = cuda::plan(p.graph, h200());
    const auto errors = tool::compare_steps(plan, p.inputs(), run_stored(plan, p.inputs()));
    EXPECT_GE(errors.size(), 3u);
    for (const auto& error : errors)
        EXPECT_TRUE(error.fits) << "step " << error.step << ": " << error.message;
}

// 2.5 may become 2 or 3, where rounding in front of it decides; 1.2 may not become 2.
TEST(StepCompare, ANumberBetweenTwoIntegersGoesEitherWay) {
    Parity p;
    const Tensor x = Tensor::from_span<float>({3}, std::vector<float>{2.5f, 1.2f, -0.4f});
    p.graph.output("y", unary(UnaryOp::Round, p.input(x)) * 0.1);
    const cuda::Plan plan = cuda::plan(p.graph, h200());
    for (const auto& [element, fits] : {std::pair<std::size_t, bool>{0, true}, {1, false}}) {
        Stored stored = run_stored(plan, {x});
        stored.at(0).second.mutable_data<float>()[element] += 0.1f;
        const auto errors = tool::compare_steps(plan, {x}, stored);
        ASSERT_EQ(errors.size(), 1u);
        EXPECT_EQ(errors[0].fits, fits) << "element " << element;
    }
}

}  // namespace
}  // namespace kn::test
