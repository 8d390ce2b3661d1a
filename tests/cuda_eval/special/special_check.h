// Runs a graph as planned, with our own kernels on the host, and compares with the CPU executor.
#pragma once

#include <set>
#include <string>

#include <gtest/gtest.h>

#include <kn/cuda_eval/plan.h>
#include <kn/cuda_sys/nvrtc.h>
#include <kn/testing/compare.h>

#include "cuda_eval/host_shim/host_shim.h"
#include "cuda_eval/plan/support.h"
#include "graph/cpu_support.h"

namespace kn::cuda::test {

using kn::test::Case;
using kn::test::h200;
using kn::test::random;
using kn::test::Strides;

/// Every operation by our own kernels: no library takes a convolution or attention.
inline Plan plan_without_libraries(const Graph& graph) {
    PlanOptions options;
    for (const PlannerRule& rule : planner_rules())
        if (rule.name == "convolution" || rule.name == "library-attention" ||
            rule.name == "tensor-attention")
            options.disabled_rules.insert(std::string(rule.name));
    return plan(graph, h200(), options);
}

/// All kernels of the plan as the GPU's compiler takes them, in one program.
inline void expect_compiles(const Plan& made) {
    std::string source;
    for (const PlanKernel& kernel : made.kernels) source += kernel.source;
    EXPECT_NO_THROW({
        const CompiledProgram program = compile(source, {.arch = "sm_90"});
        EXPECT_EQ(program.log, "");
    });
}

/// Each output equals the CPU's; `step`: a step of this name must be part of the plan, which is
/// given back.
inline Plan expect_as_cpu(Case& c, const std::vector<Var>& outputs, const std::string& step,
                          double tolerance) {
    for (std::size_t i = 0; i < outputs.size(); ++i)
        c.graph.output("y" + std::to_string(i), outputs[i]);
    const Plan made = plan_without_libraries(c.graph);
    bool found = false;
    for (const Step& s : made.steps) found = found || s.name == step;
    EXPECT_TRUE(found) << "no step " << step << " in\n" << made.to_string();
    const std::vector<Tensor> expected = cpu::run(c.graph, c.inputs);
    const std::vector<Tensor> got = run_plan_on_host(made, c.inputs);
    EXPECT_EQ(got.size(), expected.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
        const auto difference = kn::testing::compare(got[i], expected[i], {tolerance, tolerance});
        EXPECT_TRUE(difference.equal) << "output " << i << ": " << difference.message << "\n"
                                      << c.graph.to_string();
    }
    return made;
}

}  // namespace kn::cuda::test
