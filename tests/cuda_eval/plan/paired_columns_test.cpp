// When a product by a weight computes the rotary embeddings behind it.
#include <gtest/gtest.h>

#include <kn/graph/optimizer.h>

#include "cuda_eval/plan/support.h"
#include "cuda_eval/rotary.h"

namespace kn::cuda {
namespace {

using test::h200, test::Rotary, test::step_names, test::weight;

constexpr std::int64_t head = 64;

/// Attention of a decoder's layer; cos and sin are constants, or the caller's.
Graph attention_layer(Rotary form, bool norm, std::int64_t width = 1024, bool own_angles = false) {
    Graph graph;
    const std::int64_t length = 512, heads = width / head, kv_heads = heads / 4;
    const DType dtype = DType::F16;
    const Var x = graph.input("x", dtype, Shape::of({1, length, width}));
    const Ints table = {1, 1, length, test::table_width(head, form)};
    const auto angles = [&](const char* name, std::uint64_t seed) {
        return own_angles ? graph.input(name, dtype, Shape::of(table))
                          : weight(graph, table, dtype, seed);
    };
    const Var cos = angles("cos", 1), sin = angles("sin", 2);
    const Var rows = norm ? rms_norm(x, weight(graph, {width}, dtype, 3)) : x;
    const auto project = [&](std::int64_t count, std::uint64_t seed) {
        const Var y = matmul(rows, weight(graph, {width, count * head}, dtype, seed));
        return permute(reshape(y, Shape::of({1, length, count, head})), {0, 2, 1, 3});
    };
    const Var q = test::rotate(project(heads, 4), cos, sin, form),
              k = test::rotate(project(kv_heads, 5), cos, sin, form), v = project(kv_heads, 6);
    op::Attention attention{q, k, v, {}, 0.125, kn::CausalMask::TopLeft};
    const Var o = permute(graph.var(graph.add(attention)), {0, 2, 1, 3});
    graph.output("y", x + matmul(reshape(o, x.shape()), weight(graph, {width, width}, dtype, 7)));
    return optimize(graph);
}

const std::vector<std::string> three_steps = {"tensor_product", "tensor_attention",
                                              "tensor_product"};

TEST(PairedColumnsPlan, QueriesKeysAndValuesAreOneStep) {
    for (const Rotary form : {Rotary::Turned, Rotary::Halves, Rotary::Interleaved})
        for (const bool norm : {true, false})
            for (const bool own_angles : {true, false}) {
                const Plan plan = cuda::plan(attention_layer(form, norm, 1024, own_angles), h200());
                EXPECT_EQ(step_names(plan), three_steps) << plan.to_string();
                EXPECT_EQ(plan.steps[0].produces.size(), 3u);
                EXPECT_EQ(plan.steps[0].reason.find("takes on the way") != std::string::npos, norm);
            }
}

TEST(PairedColumnsPlan, TheRuleCanBeLeftOut) {
    const Plan plan = cuda::plan(attention_layer(Rotary::Turned, true), h200(),
                                 {.disabled_rules = {"paired columns"}});
    EXPECT_EQ(step_names(plan), (std::vector<std::string>{"tensor_product", "pointwise",
                                                          "tensor_attention", "tensor_product"}))
        << plan.to_string();
}

// Tiles that have all of k keep few multiprocessors busy.
TEST(PairedColumnsPlan, LongRowsAndFewColumnsAreTheLibrarys) {
    Graph graph;
    const Var x = graph.input("x", DType::F16, Shape::of({1, 512, 8192}));
    const Var y =
        reshape(matmul(x, weight(graph, {8192, 128}, DType::F16)), Shape::of({1, 512, 2, head}));
    const Ints table = {1, 512, 1, head};
    graph.output("y", test::rotate(y, weight(graph, table, DType::F16),
                                   weight(graph, table, DType::F16), Rotary::Turned));
    const Plan plan = cuda::plan(graph, h200());
    EXPECT_TRUE(test::refusals(plan, "paired columns").ends_with("apart")) << plan.to_string();
}

}  // namespace
}  // namespace kn::cuda
