// Plans that were tuned: what is tried, what is kept, and that it computes the same.
#include <algorithm>

#include <kn/cuda_eval/executor.h>

#include "cache/disk_cache.h"
#include "cuda_eval/on_gpu.h"
#include "cuda_eval/plan/support.h"
#include "executor/tile_variants.h"
#include "executor/tuned_choices.h"

namespace kn::test {

namespace {

// Two convolutions and what comes behind them: y in rows of channels, then in another layout.
Graph network(DType dtype = DType::F32) {
    Graph graph;
    const Var x = graph.input("x", dtype, Shape::of({6, 64, 31, 29}));
    const auto layer = [&](const Var& y) {
        return relu(conv(y, weight(graph, {64, 64, 3, 3}, dtype), weight(graph, {64}, dtype),
                         {.pads = {1, 1, 1, 1}}));
    };
    graph.output("y", layer(layer(x)) + x);
    return graph;
}

const cuda::PlanOptions f16{.precision = Precision::F16};

std::string tiles_in(const cuda::Plan& plan) {
    std::string all;
    for (const cuda::Step& step : plan.steps)
        if (!step.tiles.empty()) all += step.tiles + "\n";
    return all;
}

cuda::TunedChoices choices_in(const cuda::Plan& plan) {
    cuda::TunedChoices choices;
    for (const cuda::Step& step : plan.steps)
        if (!step.tiles.empty()) choices.tiles_of[step.problem] = step.tiles;
    return choices;
}

}  // namespace

TEST(TileVariants, DifferInTilesAlone) {
    for (const DType dtype : {DType::F32, DType::F16}) {
        const Graph graph = network(dtype);
        const cuda::Plan first = cuda::plan(graph, h200(), f16);
        const auto variants = cuda::tile_variants(first, graph, 7);
        ASSERT_EQ(variants.size(), 7u) << first.to_string();
        for (const cuda::Plan& variant : variants) {
            EXPECT_TRUE(cuda::interchangeable(first, variant)) << variant.to_string();
            EXPECT_NE(tiles_in(variant), tiles_in(first));
        }
        EXPECT_NE(tiles_in(variants[0]), tiles_in(variants[6]));
    }
}

TEST(TileVariants, OfAnotherNetworkAreNone) {
    const cuda::Plan first = cuda::plan(network(), h200(), f16);
    EXPECT_TRUE(cuda::interchangeable(first, first));
    cuda::Plan other = first;
    other.buffers.back().offset += 256;
    EXPECT_FALSE(cuda::interchangeable(first, other));
    other = first;
    other.steps.pop_back();
    EXPECT_FALSE(cuda::interchangeable(first, other));
    Graph graph;
    graph.output("y", relu(graph.input("x", DType::F32, Shape::of({100}))));
    EXPECT_TRUE(cuda::tile_variants(cuda::plan(graph, h200()), graph, 7).empty());
}

TEST(TunedChoices, ComeBackFromTheirText) {
    cuda::TunedChoices choices;
    EXPECT_EQ(cuda::parse_tuned(to_text(choices)), choices);
    choices.tiles_of = {{"f16 6 x 7, windows", "64x64 3 stages"}, {"f16 1 x 2", "64x32 2 stages"}};
    choices.algorithms_of = {{"conv [1,2] cudnn 9", "engine 3=4"}};
    choices.overlap = cuda::Overlap::Own;
    const std::string text = to_text(choices);
    EXPECT_EQ(cuda::parse_tuned(text), choices);
    // Nothing of what is damaged, or was written otherwise.
    for (const std::string& bad :
         {std::string(), std::string("64x64 3 stages"), text.substr(0, text.size() - 1),
          text + "overlap\tsometimes\t\n", text + "colour\tred\t\n", text + "\n"})
        EXPECT_EQ(cuda::parse_tuned(bad), std::nullopt) << bad;
}

TEST(TunedChoices, SayWhatAPlanShallHave) {
    const Graph graph = network();
    const cuda::Plan first = cuda::plan(graph, h200(), f16);
    cuda::TunedChoices choices = choices_in(cuda::tile_variants(first, graph, 3).at(2));
    choices.overlap = cuda::Overlap::All;
    EXPECT_FALSE(cuda::has_tiles(first, choices));
    const cuda::Plan other = cuda::plan(graph, h200(), cuda::with_choices(first.options, choices));
    EXPECT_TRUE(cuda::has_tiles(other, choices)) << other.to_string();
    EXPECT_EQ(other.options.overlap, cuda::Overlap::All);
    EXPECT_EQ(cuda::with_choices({.overlap = cuda::Overlap::None}, choices).overlap,
              cuda::Overlap::None)
        << "what the caller has set stays";
    choices.tiles_of.begin()->second = "no such tiles";
    EXPECT_FALSE(cuda::has_tiles(
        cuda::plan(graph, h200(), cuda::with_choices(first.options, choices)), choices));
    EXPECT_FALSE(cuda::has_tiles(first, {})) << "none said";
}

TEST(TunedChoices, AreKnownByNetworkAndDevice) {
    const Graph graph = network();
    cuda::DeviceProperties device = h200();
    const auto key = [&](const cuda::PlanOptions& options) {
        return cuda::tuning_key(cuda::plan(graph, device, options), device);
    };
    std::vector<std::string> keys = {key(f16), key({.precision = Precision::TF32}),
                                     key({.precision = Precision::F16, .tiles = 1})};
    EXPECT_EQ(keys[0], key(f16));
    cuda::PlanOptions with_overlap = f16;
    with_overlap.overlap = cuda::Overlap::None;
    keys.push_back(key(with_overlap));
    device.name = "another";
    keys.push_back(key(f16));
    std::ranges::sort(keys);
    EXPECT_EQ(std::ranges::adjacent_find(keys), keys.end());
}

TEST(GpuTunedPlan, IsRightAndKnownTheSecondTime) {
    if (cuda::device_count() == 0) GTEST_SKIP() << cuda::why_unavailable();
    const Graph graph = network();
    const cuda::Device device(0);
    const auto first = cuda::tuned_plan(graph, device, f16);
    const auto second = cuda::tuned_plan(graph, device, f16);
    EXPECT_EQ(first->to_string(), second->to_string());
    EXPECT_EQ(first->options.overlap, second->options.overlap);
    EXPECT_EQ(first->options.algorithms_of, second->options.algorithms_of);
    EXPECT_TRUE(std::ranges::any_of(first->steps,
                                    [](const cuda::Step& step) { return !step.tiles.empty(); }));
    if (cuda::DiskCache::shared()) {
        EXPECT_TRUE(std::ranges::none_of(second->phases, [](const cuda::Phase& phase) {
            return phase.name.starts_with("tuning");
        }));
    }
    InDouble(graph).expect(*first, product_bounds[2]);
    InDouble(graph).expect(*second, product_bounds[2]);
}

// An entry that says what the plan cannot have is written anew.
TEST(GpuTunedPlan, PassesByAnEntryThatDoesNotFit) {
    if (cuda::device_count() == 0) GTEST_SKIP() << cuda::why_unavailable();
    cuda::DiskCache* const cache = cuda::DiskCache::shared();
    if (!cache) GTEST_SKIP() << "there is no cache";
    const Graph graph = network();
    const cuda::Device device(0);
    const cuda::Plan own = cuda::plan(graph, device.properties(), f16);
    const std::string key = cuda::tuning_key(own, device.properties());
    cuda::TunedChoices wrong = choices_in(own);
    ASSERT_FALSE(wrong.tiles_of.empty());
    wrong.tiles_of.begin()->second = "no such tiles";
    for (const std::string& entry : {to_text(wrong), std::string("64x64 3 stages")}) {
        cache->put("tiles", key, entry);
        const auto tuned = cuda::tuned_plan(graph, device, f16);
        const auto kept = cuda::parse_tuned(cache->get("tiles", key).value_or(""));
        ASSERT_TRUE(kept);
        EXPECT_TRUE(cuda::has_tiles(*tuned, *kept)) << tuned->to_string();
    }
}

// With library steps: these have the algorithms that were measured, whatever an executor's tuning.
TEST(GpuTunedPlan, NamesTheAlgorithmsOfLibraries) {
    if (cuda::device_count() == 0) GTEST_SKIP() << cuda::why_unavailable();
    Graph graph;
    const Var x = graph.input("x", DType::F32, Shape::of({256, 512}));
    graph.output("y",
                 matmul(matmul(x, weight(graph, {512, 512}) * 0.05), weight(graph, {512, 256})));
    const cuda::Device device(0);
    const auto tuned = cuda::tuned_plan(graph, device, f16);
    ASSERT_TRUE(std::ranges::any_of(tuned->steps, [](const cuda::Step& step) {
        return std::holds_alternative<cuda::MatMulWork>(step.work);
    })) << tuned->to_string();
    EXPECT_FALSE(tuned->options.algorithms_of.empty());
    for (const Tuning tuning : {Tuning::None, Tuning::Full})
        EXPECT_EQ(cuda::Executor(tuned, device, {.tuning = tuning}).setup().problems_tuned, 0u);
    InDouble(graph).expect(*tuned, product_bounds[2]);
}

}  // namespace kn::test
