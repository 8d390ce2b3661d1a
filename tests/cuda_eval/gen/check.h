// A graph planned, its kernels run on the host, and compared with kn::cpu.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <optional>
#include <type_traits>

#include <kn/graph/builder.h>
#include <kn/graph/cpu.h>
#include <kn/graph/precision.h>
#include <kn/graph/random.h>
#include <kn/testing/compare.h>
#include <kn/testing/print.h>

#include "cuda_eval/host_shim/host_shim.h"
#include "cuda_eval/plan/support.h"

namespace kn::test {

/// A plan in these tiles, where there are some; `forced` is where plans look for them, and is empty
/// again behind it. Few multiprocessors: so that blocks take several tiles.
template <class Tiles>
cuda::Plan plan_in_tiles(const Graph& graph, std::optional<Tiles>& forced,
                         const std::type_identity_t<std::optional<Tiles>>& tiles, int sm_count,
                         const cuda::PlanOptions& options = {}) {
    struct Forced {
        std::optional<Tiles>& place;
        ~Forced() { place.reset(); }
    } at{forced};
    forced = tiles;
    auto device = h200();
    device.sm_count = sm_count;
    return cuda::plan(graph, device, options);
}

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

/// Runs a plan of `graph` on the host with random inputs, and expects what kn::cpu gives in double,
/// but for `of_peak` of each output's largest element.
inline void expect_as_in_double(const cuda::Plan& plan, const Graph& graph, double of_peak) {
    const std::vector<Tensor> inputs = random_inputs(graph);
    const auto exact = cpu::run(to_precision(graph, DType::F64), inputs);
    const auto got = cuda::run_plan_on_host(plan, inputs);
    for (std::size_t i = 0; i < got.size(); ++i) {
        const auto difference = testing::compare(got[i].cast(DType::F32), exact[i].cast(DType::F32),
                                                 {.rtol = 0, .atol_of_peak = of_peak});
        EXPECT_TRUE(difference.equal) << difference.message << "\n" << plan.to_string();
    }
}

}  // namespace kn::test
