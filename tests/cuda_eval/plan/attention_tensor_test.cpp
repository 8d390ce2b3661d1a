// Our attention kernel for Hopper's tensor cores: when it is planned, that it compiles, and on a
// GPU that it is right.
#include <cmath>
#include <limits>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <kn/cuda_eval/executor.h>
#include <kn/graph/builder.h>
#include <kn/graph/cpu.h>
#include <kn/graph/precision.h>
#include <kn/graph/random.h>
#include <kn/testing/compare.h>

#include "codegen/emit.h"
#include "cuda_eval/host_shim/host_shim.h"
#include "cuda_eval/plan/support.h"
#include "executor/kernels.h"
#include "lower/attention_tiles.h"

namespace kn::cuda {
namespace {

using kn::test::h200;

struct Form {
    const char* name;
    std::int64_t batch, heads, key_heads, queries, keys, width, value_width;
    kn::CausalMask causal = kn::CausalMask::None;
    DType dtype = DType::F16;
    double scale = 0;
};

void PrintTo(const Form& form, std::ostream* out) { *out << form.name; }

constexpr auto top_left = kn::CausalMask::TopLeft, bottom_right = kn::CausalMask::BottomRight;

const Form forms[] = {
    {"UnetSelf", 1, 2, 2, 1024, 1024, 40, 40},
    {"UnetManyBlocks", 2, 17, 17, 512, 130, 40, 40},
    {"UnetCross", 2, 8, 8, 1024, 77, 40, 40},
    {"UnetWide", 2, 8, 8, 256, 256, 160, 160},
    {"UnetMiddle", 2, 8, 8, 64, 64, 160, 160, kn::CausalMask::None, DType::BF16},
    {"Unet80", 2, 8, 8, 1024, 1024, 80, 80},
    {"Llama", 1, 32, 8, 512, 512, 64, 64, top_left},
    {"ManyBlocks64", 4, 12, 12, 700, 150, 64, 64, top_left},
    {"ShortMany", 10, 12, 12, 197, 197, 64, 64},
    {"LlamaBf16", 1, 8, 2, 200, 333, 64, 64, bottom_right, DType::BF16},
    {"OneHeadOfKeys", 2, 6, 1, 131, 259, 72, 72},
    {"Odd", 3, 5, 5, 77, 63, 24, 24},
    {"OneQuery", 2, 4, 4, 1, 65, 64, 64},
    {"MoreTilesThanStages", 1, 2, 1, 100, 2000, 40, 40},
    {"OneKey", 2, 4, 4, 70, 1, 8, 8},
    {"ValuesNarrower", 1, 3, 3, 150, 90, 96, 56},
    {"ValuesWider", 1, 3, 3, 150, 90, 56, 96},
    {"Wide128", 1, 4, 4, 300, 520, 128, 128, top_left},
    {"Wide192", 1, 2, 2, 200, 200, 192, 192},
    {"Wide136Bf16", 1, 2, 2, 129, 150, 136, 200, kn::CausalMask::None, DType::BF16},
    {"FewerKeysThanQueries", 1, 2, 2, 300, 100, 64, 64, top_left},
    {"MoreKeysThanQueries", 1, 2, 2, 100, 300, 48, 48, top_left},
    {"LastKeys", 1, 2, 2, 100, 300, 48, 48, bottom_right},
    {"RowsThatSeeNothing", 1, 2, 2, 300, 100, 40, 40, bottom_right},
    {"Scaled", 1, 2, 2, 64, 128, 32, 32, kn::CausalMask::None, DType::F16, 0.7},
};

Graph graph_of(const Form& f) {
    Graph graph;
    const Var q = graph.input("q", f.dtype, Shape::of({f.batch, f.heads, f.queries, f.width}));
    const Var k = graph.input("k", f.dtype, Shape::of({f.batch, f.key_heads, f.keys, f.width}));
    const Var v =
        graph.input("v", f.dtype, Shape::of({f.batch, f.key_heads, f.keys, f.value_width}));
    graph.output("y", attention(q, k, v, {}, f.scale, f.causal));
    return graph;
}

PlanOptions ours(Precision precision = Precision::F32) {
    PlanOptions options;
    options.precision = precision;
    options.disabled_rules = {"library-attention"};
    return options;
}

const Step* own_step(const Plan& plan) {
    const Step* found = nullptr;
    for (const Step& step : plan.steps)
        if (step.name == "tensor_attention") found = &step;
    return found;
}

class TensorAttentionForms : public ::testing::TestWithParam<Form> {};

TEST_P(TensorAttentionForms, Compile) {
    const Plan made = plan(graph_of(GetParam()), h200(), ours());
    ASSERT_NE(own_step(made), nullptr) << made.to_string();
    EXPECT_EQ(made.steps.size(), 1u) << made.to_string();
    compile_kernels(made.kernels, {.arch = "sm_90", .prelude = kernel_prelude()});
}

void expect_close(const Graph& graph, const std::vector<Tensor>& inputs, bool on_host = false) {
    if (!on_host && device_count() == 0) GTEST_SKIP() << why_unavailable();
    const auto exact = cpu::run(to_precision(graph, DType::F64), inputs);
    const auto made = std::make_shared<const Plan>(
        cuda::plan(graph, on_host ? h200() : Device(0).properties(), ours()));
    ASSERT_NE(own_step(*made), nullptr) << made->to_string();
    const auto got =
        on_host ? run_plan_on_host(*made, inputs) : Executor(made, Device(0)).run(inputs);
    for (std::size_t i = 0; i < got.size(); i++) {
        // The weights' rounding averages out over keys, that of the result does not.
        const double of_peak = got[i].dtype() == DType::BF16 ? 6e-3 : 1e-3;
        const auto difference = kn::testing::compare(got[i], exact[i].cast(got[i].dtype()),
                                                     {.rtol = 0, .atol_of_peak = of_peak});
        EXPECT_TRUE(difference.equal) << difference.message << "\n" << made->to_string();
    }
}

TEST_P(TensorAttentionForms, GpuAsInDouble) {
    const Graph graph = graph_of(GetParam());
    expect_close(graph, random_inputs(graph));
}

INSTANTIATE_TEST_SUITE_P(, TensorAttentionForms, ::testing::ValuesIn(forms),
                         [](const auto& form) { return form.param.name; });

/// What the host does in a second.
std::vector<Form> small_forms() {
    std::vector<Form> small;
    for (const Form& f : forms)
        if (f.batch * f.heads * f.queries * f.keys * (f.width + f.value_width) < 60'000'000)
            small.push_back(f);
    return small;
}

class TensorAttentionOnHost : public TensorAttentionForms {};

TEST_P(TensorAttentionOnHost, AsInDouble) {
    const Graph graph = graph_of(GetParam());
    expect_close(graph, random_inputs(graph), true);
}

INSTANTIATE_TEST_SUITE_P(, TensorAttentionOnHost, ::testing::ValuesIn(small_forms()),
                         [](const auto& form) { return form.param.name; });

/// Sets the tiles of this thread's plans.
struct ForcedTiles {
    explicit ForcedTiles(const AttentionTiles& tiles) { forced_attention_tiles() = tiles; }
    ForcedTiles(const ForcedTiles&) = delete;
    ForcedTiles& operator=(const ForcedTiles&) = delete;
    ~ForcedTiles() { forced_attention_tiles().reset(); }
};

TEST(TensorAttention, EveryFormOnHost) {
    const Form shapes[] = {{"", 1, 2, 1, 300, 150, 40, 40},
                           {"", 1, 1, 1, 700, 77, 40, 56},
                           {"", 1, 2, 2, 200, 230, 72, 24, bottom_right, DType::BF16}};
    for (const Form& shape : shapes) {
        const Graph graph = graph_of(shape);
        const std::vector<Tensor> inputs = random_inputs(graph);
        TensorAttention attention;
        attention.heads = shape.heads;
        attention.queries = shape.queries;
        attention.keys = shape.keys;
        attention.width = shape.width;
        attention.value_width = shape.value_width;
        if (shape.causal != kn::CausalMask::None) attention.causal_shift = 30;
        int count = 0;
        for (AttentionTiles tiles : sensible_tiles(attention, 2)) {
            if (count++ % 3 != 0) continue;
            SCOPED_TRACE(to_string(tiles));
            const ForcedTiles forced(tiles);
            expect_close(graph, inputs, true);
        }
        EXPECT_GT(count, 8);
    }
}

/// Heads out of one packed product, and joined again: views, so that the step is alone with it.
Graph packed(DType dtype) {
    Graph graph;
    const Var x = graph.input("x", dtype, Shape::of({2, 300, 3 * 4 * 40}));
    const auto part = [&](std::int64_t i) {
        return permute(reshape(slice(x, 2, i * 160, (i + 1) * 160), {2, 300, 4, 40}), {0, 2, 1, 3});
    };
    const Var y = attention(part(0), part(1), part(2));
    graph.output("y", reshape(permute(y, {0, 2, 1, 3}), {2, 300, 160}));
    return graph;
}

TEST(TensorAttention, PackedHeadsAreOneStep) {
    const Plan made = plan(packed(DType::F16), h200(), ours());
    ASSERT_NE(own_step(made), nullptr) << made.to_string();
    EXPECT_EQ(made.steps.size(), 1u) << made.to_string();
}

TEST(TensorAttention, GpuPackedHeads) {
    for (const DType dtype : {DType::F16, DType::BF16}) {
        const Graph graph = packed(dtype);
        expect_close(graph, random_inputs(graph));
    }
}

void expect_infinities_and_nan(bool on_host) {
    const Form form{"", 1, 2, 2, 192, 192, 40, 40, top_left};
    const Graph graph = graph_of(form);
    std::vector<Tensor> inputs = random_inputs(graph);
    const auto set = [&](std::size_t input, std::int64_t row, std::int64_t column, float value) {
        const Tensor wide = inputs[input].cast(DType::F64);
        const auto elements = wide.data<double>();
        std::vector<double> all(elements.begin(), elements.end());
        all[static_cast<std::size_t>(row * 40 + column)] = value;
        inputs[input] = Tensor::from_span<double>(inputs[input].shape(), all).cast(DType::F16);
    };
    constexpr float infinity = std::numeric_limits<float>::infinity();
    set(0, 5, 3, std::numeric_limits<float>::quiet_NaN());    // one row
    set(0, 192 + 7, 0, infinity);                             // in the other head
    set(1, 100, 2, std::numeric_limits<float>::quiet_NaN());  // rows from 100 on
    set(2, 192 + 150, 1, infinity);                           // a column from row 150 on
    const auto expected = cpu::run(graph, inputs).at(0).cast(DType::F64);
    const auto made = std::make_shared<const Plan>(
        plan(graph, on_host ? h200() : Device(0).properties(), ours()));
    const auto got =
        (on_host ? run_plan_on_host(*made, inputs) : Executor(made, Device(0)).run(inputs))
            .at(0)
            .cast(DType::F64);
    for (std::int64_t i = 0; i < got.size(); i++) {
        // An infinite value may spoil rows that do not see it: 0 times infinity.
        const std::int64_t row = i / 40;
        if (row >= 192 && row < 192 + 150 && i % 40 == 1) continue;
        EXPECT_EQ(std::isnan(got.data<double>()[i]), std::isnan(expected.data<double>()[i]))
            << "element " << i;
    }
}

TEST(TensorAttention, InfinitiesAndNanOnHost) { expect_infinities_and_nan(true); }

TEST(TensorAttention, GpuInfinitiesAndNan) {
    if (device_count() == 0) GTEST_SKIP() << why_unavailable();
    expect_infinities_and_nan(false);
}

/// Keys whose scores are `steps[i]` times as large from key 100 i on.
std::vector<Tensor> growing(const Graph& graph, const Form& form, std::vector<double> steps) {
    std::vector<Tensor> inputs = random_inputs(graph);
    const Tensor wide = inputs[1].cast(DType::F64);
    const auto elements = wide.data<double>();
    std::vector<double> all(elements.begin(), elements.end());
    for (std::size_t i = 0; i < all.size(); i++) {
        const auto key =
            i / static_cast<std::size_t>(form.width) % static_cast<std::size_t>(form.keys);
        all[i] *= steps[std::min(key / 100, steps.size() - 1)];
    }
    inputs[1] = Tensor::from_span<double>(wide.shape(), all).cast(form.dtype);
    return inputs;
}

/// Weights by the largest score of earlier tiles are too large for half, for float, or vanish.
void expect_growing_scores(bool on_host) {
    const Form shapes[] = {{"", 1, 2, 2, 100, 500, 40, 40},
                           {"", 1, 2, 1, 200, 500, 72, 40, bottom_right},
                           {"", 1, 1, 1, 100, 500, 64, 64, top_left, DType::BF16}};
    for (const Form& form : shapes) {
        const Graph graph = graph_of(form);
        for (const std::vector<double>& steps :
             {std::vector<double>{0.1, 4, 8, 30, 100}, {0.01, 500, 1}, {300, 0.1, 1000}}) {
            SCOPED_TRACE(fmt::format("width {}, first step {}", form.width, steps[0]));
            const ForcedTiles forced({.groups = 2, .keys = 80, .stages = 2});
            expect_close(graph, growing(graph, form, steps), on_host);
        }
    }
}

TEST(TensorAttention, ScoresThatGrowOnHost) { expect_growing_scores(true); }

TEST(TensorAttention, GpuScoresThatGrow) {
    if (device_count() == 0) GTEST_SKIP() << why_unavailable();
    expect_growing_scores(false);
}

TEST(TensorAttention, RefusedWithAMask) {
    Graph graph;
    const Var x = graph.input("x", DType::F16, Shape::of({1, 4, 512, 64}));
    const Var mask = graph.input("mask", DType::F16, Shape::of({1, 1, 512, 512}));
    graph.output("y", attention(x, x, x, mask));
    const Plan made = plan(graph, h200());
    EXPECT_EQ(own_step(made), nullptr) << made.to_string();
}

}  // namespace
}  // namespace kn::cuda
