// A graph planned, its kernels run on the host, and compared with kn::cpu.
#pragma once

#include <gtest/gtest.h>

#include <functional>

#include <kn/graph/builder.h>
#include <kn/graph/cpu.h>
#include <kn/graph/random.h>
#include <kn/testing/compare.h>
#include <kn/testing/print.h>

#include "cuda_eval/host_shim/host_shim.h"
#include "cuda_eval/plan/support.h"

namespace kn::test {

/// Plans `graph`, runs it on the host with random inputs, and expects what kn::cpu gives.
inline cuda::Plan expect_same(const Graph& graph, std::uint64_t seed = 0,
                              const cuda::PlanOptions& options = {}) {
    cuda::Plan plan = cuda::plan(graph, h200(), options);
    const auto inputs = random_inputs(graph, {}, seed);
    const auto expected = cpu::run(graph, inputs);
    const auto got = cuda::run_plan_on_host(plan, inputs);
    EXPECT_EQ(got.size(), expected.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
        const auto difference =
            testing::compare(got[i], expected[i], testing::default_tolerance(expected[i].dtype()));
        EXPECT_TRUE(difference.equal)
            << graph.outputs()[i].name << ": " << difference.message << "\n"
            << graph.to_string() << "seed " << seed;
    }
    return plan;
}

}  // namespace kn::test
