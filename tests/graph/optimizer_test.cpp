// Optimizer rules on views, arithmetic, constants and weights; its driver.
#include <fmt/core.h>
#include <gmock/gmock.h>

#include "optimizer_check.h"

namespace kn {
namespace {

using namespace testing_rules;

// ---- the driver ----

TEST(Optimizer, KeepsInputsOutputsAndMapsValues) {
    Graph g;
    const Var x = input(g, {batch, 3});
    const Var unused = input(g, {2}, "unused");
    const Var dead = exp(x);
    const Var y = relu(x) * 1.0;
    g.output("y", y);
    g.output("same", y);
    g.output("x", x);
    const Optimized result = optimize_with_map(g);
    ASSERT_EQ(result.graph.inputs().size(), 2u);
    EXPECT_EQ(result.graph.inputs()[1].name, "unused");
    EXPECT_EQ(result.map(x), result.graph.inputs()[0].value);
    EXPECT_EQ(result.map(y), result.graph.outputs()[0].value);
    EXPECT_EQ(result.graph.outputs()[1].name, "same");
    EXPECT_EQ(result.graph.outputs()[2].value, result.graph.inputs()[0].value);
    EXPECT_FALSE(result.map.find(dead));
    EXPECT_TRUE(result.map.find(unused));
    EXPECT_EQ(operations(result.graph), (Names{"Binary", "Broadcast"}));
}

TEST(Optimizer, RulesAreDataAndUnknownNamesAreRefused) {
    std::set<std::string_view> names;
    for (const OptimizerRule& rule : optimizer_rules()) {
        EXPECT_FALSE(rule.description.empty()) << rule.name;
        EXPECT_TRUE(names.insert(rule.name).second) << rule.name << " comes twice";
    }
    EXPECT_TRUE(names.count("attention"));
    EXPECT_THROW((void)optimize(Graph(), {.disabled = {"no_such_rule"}}), GraphError);
}

TEST(Optimizer, CarriesOriginsBehindAnyNumberOfOthers) {
    Graph g;
    Var x = g.input("x", DType::F32, {4});
    constexpr int many = 400;
    for (int i = 0; i < many; i++) {
        g.set_origins({fmt::format("/block{}/exp", i)});
        x = exp(x);
    }
    g.set_origins({"/sigmoid"});
    const Var gate = sigmoid(x);
    g.set_origins({"/mul"});
    g.output("y", x * gate);
    const Graph after = optimize(g);
    EXPECT_THAT(after[after.outputs()[0].value].origins,
                ::testing::UnorderedElementsAre("/sigmoid", "/mul"));
    // Of those in front it has none.
    EXPECT_EQ(after.live().size(), static_cast<std::size_t>(many) + 2) << after.to_string();
}

TEST(Optimizer, CarriesOriginsAndConstraints) {
    Graph g;
    const Var x = input(g, {Dim::symbol("n")});
    const Var z = input(g, {Dim::symbol("m")}, "z");
    g.set_origins({"/sigmoid"});
    const Var s = sigmoid(x);
    g.set_origins({"/mul"});
    g.output("y", x * s + z);
    const Graph after = optimize(g);
    bool found = false;
    for (const Value& value : after.live())
        if (const auto* op = after.get_if<op::Unary>(value); op && op->op == UnaryOp::Silu) {
            found = true;
            EXPECT_THAT(after[value].origins, ::testing::UnorderedElementsAre("/sigmoid", "/mul"));
        }
    EXPECT_TRUE(found);
    EXPECT_NO_THROW((void)after.bind({{"n", 3}, {"m", 1}}));
    EXPECT_THROW((void)after.bind({{"n", 3}, {"m", 2}}), GraphError);
}

TEST(Optimizer, OptimisesBodies) {
    Graph body;
    const Var p = body.input("p", DType::F32, {4});
    body.output("q", p * sigmoid(p));
    Graph other;
    other.output("q", other.input("p", DType::F32, {4}));
    Graph g;
    const Var c = g.input("c", DType::Bool, {});
    const Var x = input(g, {4});
    g.output("y", g.add(op::If{c,
                               {x},
                               std::make_shared<const Graph>(std::move(body)),
                               std::make_shared<const Graph>(std::move(other)),
                               {{DType::F32, {4}}}}));
    const Graph after = optimize(g);
    const auto* branch = after.get_if<op::If>(after.outputs()[0].value);
    ASSERT_NE(branch, nullptr);
    EXPECT_EQ(operations(*branch->then_body), (Names{"Unary"}));
    expect_same_numbers(g, after, 1e-6, "If");
}

// ---- views ----

TEST(OptimizerViews, ReshapeChain) {
    expect_rule(
        "reshape_chain",
        [](Graph& g) {
            g.output("y", reshape(reshape(input(g, {batch, 6}), {batch, 2, 3}), {batch * 3, 2}));
        },
        {"Reshape"});
    expect_rule("reshape_chain",
                [](Graph& g) {
                    g.output("y", permute(input(g, {batch, 1, 3}), {1, 0, 2}));
                },
                {"Reshape"});
}

TEST(OptimizerViews, NoOps) {
    expect_rule("no_op",
                [](Graph& g) {
                    const Var x = input(g, {batch, 2});
                    g.output("y", g.add(op::Permute{g.add(op::Reshape{x, {batch, 2}}), {0, 1}}));
                },
                {});
}

TEST(OptimizerViews, PermuteChain) {
    expect_rule("permute_chain",
                [](Graph& g) {
                    g.output("y", permute(permute(input(g, {batch, 2, 3}), {2, 0, 1}), {1, 2, 0}));
                },
                {});
    expect_rule(
        "permute_chain",
        [](Graph& g) {
            g.output("y", permute(permute(input(g, {2, 3, 4, 5}), {3, 1, 0, 2}), {0, 2, 1, 3}));
        },
        {"Permute"});
}

TEST(OptimizerViews, BroadcastChain) {
    expect_rule(
        "broadcast_chain",
        [](Graph& g) {
            g.output("y", broadcast_to(broadcast_to(input(g, {1, 1, 3}), {1, 2, 3}), {5, 2, 3}));
        },
        {"Broadcast"});
    expect_rule("broadcast_chain",
                [](Graph& g) {
                    g.output("y", reshape(broadcast_to(input(g, {2, 1, 3, 1}), {2, 4, 3, 5}),
                                          {2, 2, 2, 3, 5}));
                },
                {"Broadcast", "Reshape"});
    expect_rule("broadcast_chain",
                [](Graph& g) {
                    g.output("y", transpose(broadcast_to(input(g, {2, 1}), {2, 3})));
                },
                {"Reshape", "Broadcast"});
    expect_rule("broadcast_chain",
                [](Graph& g) {
                    g.output("y", slice(broadcast_to(input(g, {4, 1}), {4, 3}), 1, 1, 3));
                },
                {"Broadcast"});
}

TEST(OptimizerViews, SliceChain) {
    expect_rule("slice_chain",
                [](Graph& g) {
                    g.output("y", slice(slice(input(g, {10, 4}), 0, 1, 9, 2), 0, 3, -1, -1));
                },
                {"Slice"});
}

TEST(OptimizerViews, CastChain) {
    expect_rule("cast_chain",
                [](Graph& g) {
                    g.output("y",
                             cast(cast(input(g, {4}, "x", DType::F16), DType::F32), DType::F16));
                },
                {});
    expect_rule("cast_chain",
                [](Graph& g) {
                    g.output("y",
                             cast(cast(input(g, {4}, "x", DType::I32), DType::I64), DType::F32));
                },
                {"Cast"});
    expect_no_rule("cast_chain", [](Graph& g) {
        g.output("y", cast(cast(input(g, {4}), DType::F16), DType::F32));
    });
    expect_no_rule("cast_chain", [](Graph& g) {
        g.output("y", cast(cast(input(g, {4}), DType::I32), DType::F32));
    });
    expect_no_rule("cast_chain", [](Graph& g) {
        g.output("y", cast(cast(input(g, {4}, "x", DType::F16), DType::BF16), DType::F32));
    });
}

TEST(OptimizerViews, ElementwiseBeforeBroadcast) {
    expect_rule("elementwise_before_broadcast",
                [](Graph& g) {
                    g.output("y", exp(broadcast_to(input(g, {batch, 1}), {batch, 5})) +
                                      broadcast_to(input(g, {1, 1}, "z"), {batch, 5}));
                },
                {"Unary", "Broadcast", "Binary", "Broadcast"});
}

TEST(OptimizerViews, ViewSinking) {
    expect_rule("view_sinking",
                [](Graph& g) {
                    const Var x = input(g, {batch, 2, 3, 4});
                    const Var y = exp(permute(x, {0, 2, 3, 1})) * weight(g, {2}, "scale") + 1.0;
                    g.output("y", permute(y, {0, 3, 1, 2}));
                },
                {"Unary", "Broadcast", "Binary", "Broadcast", "Binary"});
    expect_rule("view_sinking",
                [](Graph& g) {
                    const Var x = input(g, {seq * 2, 6});
                    g.output("y", reshape(tanh(reshape(x, {2, seq, 6}) + weight(g, {6}, "bias")),
                                          {seq * 2, 6}));
                },
                {"Broadcast", "Binary", "Unary"});
    expect_rule("view_sinking",
                [](Graph& g) {
                    const Var merged = reshape(input(g, {batch, 2, 3, 4}), {batch * 2, 3, 4});
                    g.output("y", reshape(transpose(merged), {batch, 2, 4, 3}));
                },
                {"Permute"});
}

TEST(OptimizerViews, SliceBeforeReshape) {
    expect_rule("view_sinking",
                [](Graph& g) {
                    const Var x = reshape(input(g, {batch * 3, 8}), {batch, 3, 8});
                    g.output("y", reshape(slice(x, 2, 4, 8), {batch * 3, 4}));
                },
                {"Slice"});
    expect_no_rule("view_sinking", [](Graph& g) {
        g.output("y", slice(reshape(input(g, {batch, 6}), {batch, 3, 2}), 1, 0, 1));
    });
}

TEST(OptimizerViews, ReduceBeforePermute) {
    expect_rule("reduce_before_permute",
                [](Graph& g) {
                    g.output("y", sum(permute(input(g, {2, 3, 4, 5}), {3, 1, 0, 2}), {1, 2}));
                },
                {"Reduce", "Permute"});
    expect_rule("reduce_before_permute",
                [](Graph& g) {
                    g.output("y", mean(permute(input(g, {2, 3, 4}), {0, 2, 1}), {1}));
                },
                {"Reduce"});
}

TEST(OptimizerViews, ConcatParts) {
    expect_rule("concat_parts",
                [](Graph& g) {
                    const Var x = input(g, {batch, 6});
                    const auto parts = split(x, 1, {1, 2, 3});
                    g.output("y", concat({parts[0], concat({parts[1], parts[2]}, 1)}, 1));
                },
                {});
    expect_rule("concat_parts",
                [](Graph& g) {
                    const Var both = concat({input(g, {batch, 3}), input(g, {batch, 4}, "z")}, 1);
                    g.output("y", slice(both, 1, 3, 7) * slice(both, 1, 4, 5));
                },
                {"Slice", "Broadcast", "Binary"});
    expect_no_rule("concat_parts", [](Graph& g) {
        const Var both = concat({input(g, {batch, 3}), input(g, {batch, 4}, "z")}, 1);
        g.output("y", slice(both, 1, 2, 5));
    });
}

TEST(OptimizerViews, GatherToSlice) {
    expect_rule("gather_to_slice",
                [](Graph& g) {
                    g.output("y", gather(input(g, {batch, 5, 3}),
                                         g.constant(Tensor::scalar<std::int64_t>(-2)), 1));
                },
                {"Slice", "Reshape"});
    expect_no_rule("gather_to_slice", [](Graph& g) {
        g.output("y", gather(input(g, {5, seq}), g.constant(Tensor::scalar<std::int64_t>(1)), 1));
    });
}

// ---- sizes and constants ----

TEST(OptimizerConstants, KnownSizes) {
    expect_rule("known_sizes",
                [](Graph& g) {
                    const Var x = input(g, {batch, seq});
                    const Var dims = shape_value(g, {batch, seq});
                    const Var total = slice(dims, 0, 0, 1) * slice(dims, 0, 1, 2);
                    g.output("y", x);
                    g.output("total", total);
                },
                {"ShapeValue"});
}

TEST(OptimizerConstants, IfConstant) {
    expect_rule("if_constant",
                [](Graph& g) {
                    Graph yes, no;
                    yes.output("q", exp(yes.input("p", DType::F32, {4})));
                    no.output("q", no.input("p", DType::F32, {4}));
                    const Var c = g.constant(Tensor::scalar(true));
                    g.output("y", g.add(op::If{c,
                                               {input(g, {4})},
                                               std::make_shared<const Graph>(std::move(yes)),
                                               std::make_shared<const Graph>(std::move(no)),
                                               {{DType::F32, {4}}}}));
                },
                {"Unary"});
}

TEST(OptimizerConstants, FoldingRemembersTheWeights) {
    const Graph after = expect_rule("constant_folding",
                                    [](Graph& g) {
                                        const Var scale =
                                            exp(weight(g, {3}, "gamma")) /
                                            sqrt(abs(weight(g, {3}, "var", 2)) + 1e-5);
                                        g.output("y", input(g, {batch, 3}) * scale);
                                    },
                                    {"Broadcast", "Binary"});
    std::set<std::string> names;
    std::function<void(const ConstantData&)> visit = [&](const ConstantData& data) {
        if (!data.name.empty()) names.insert(data.name);
        if (data.recipe)
            for (const auto& part : data.recipe->inputs) visit(*part);
    };
    for (const Value& value : after.live())
        if (const auto* constant = after.get_if<op::Constant>(value)) visit(*constant->data);
    EXPECT_EQ(names, (std::set<std::string>{"gamma", "var"}));
}

TEST(OptimizerConstants, LargeViewsAndGrowthAreNotFolded) {
    expect_no_rule("constant_folding", [](Graph& g) {
        const Var w = weight(g, {200, 150}, "w");
        g.output("y", matmul(input(g, {2, 150}), transpose(w)));
    });
    expect_no_rule("constant_folding", [](Graph& g) {
        g.output("y",
                 input(g, {300, 300}) + exp(weight(g, {300, 1}, "a") + weight(g, {1, 300}, "b")));
    });
    Graph g;
    const Var w = weight(g, {200, 150}, "w");
    const std::byte* elements = g.get_if<op::Constant>(w)->data->tensor.bytes().data();
    g.output("y", matmul(input(g, {2, 300}), reshape(w, {300, 100})));
    const Graph after = optimize(g);
    bool shared = false;
    for (const Value& value : after.live())
        if (const auto* constant = after.get_if<op::Constant>(value))
            shared |= constant->data->tensor.bytes().data() == elements;
    EXPECT_TRUE(shared) << "a reshaped weight shares its elements";
}

TEST(OptimizerConstants, LayersHaveStoredWeights) {
    Graph g;
    const Var w = full(g, DType::F32, {64, 64, 3, 3}, 0.02);
    g.output("y", conv(conv(input(g, {1, 64, 6, 6}), w), w));
    const Graph after = optimize(g);
    EXPECT_EQ(operations(after), (Names{"Conv", "Conv"}));
    EXPECT_EQ(after.live().size(), 4u) << "the two layers share one constant\n"
                                       << after.to_string();
}

TEST(OptimizerConstants, LookedAtMeansFrozen) {
    Graph g;
    const Var two = g.constant(Tensor::scalar(2.0f), "exponent");
    const Var x = input(g, {4});
    g.output("y", pow(x, two));
    g.output("kept", x - two);
    const Graph after = optimize(g);
    for (const Value& value : after.live()) {
        const auto* constant = after.get_if<op::Constant>(value);
        EXPECT_TRUE(!constant || constant->data->frozen);
    }
    const Graph untouched = [] {
        Graph h;
        h.output("y", input(h, {4}) + h.constant(Tensor::scalar(2.0f), "shift"));
        return optimize(h);
    }();
    for (const Value& value : untouched.live()) {
        const auto* constant = untouched.get_if<op::Constant>(value);
        EXPECT_FALSE(constant && constant->data->frozen);
    }
}

// ---- arithmetic ----

TEST(OptimizerAlgebra, NeutralElements) {
    expect_rule("neutral_elements",
                [](Graph& g) { g.output("y", -(-(input(g, {4}) * 1.0 - 0.0)) / 1.0); }, {});
    expect_rule("neutral_elements",
                [](Graph& g) {
                    const Var c = input(g, {4}, "c", DType::Bool);
                    const Var x = input(g, {4});
                    g.output("y", select(logical_not(logical_and(c, full(g, DType::Bool, {4}, 1))),
                                         x, input(g, {4}, "z")));
                },
                {"Select"});
    expect_rule("neutral_elements",
                [](Graph& g) { g.output("y", input(g, {4}, "x", DType::I32) + 0.0); }, {});
    expect_no_rule("neutral_elements",
                   [](Graph& g) { g.output("y", input(g, {4}) + 0.0); });  // -0 + 0 is 0
}

TEST(OptimizerAlgebra, StrengthReduction) {
    expect_rule("strength_reduction",
                [](Graph& g) { g.output("y", pow(input(g, {4}), scalar(g, DType::F32, 2))); },
                {"Unary"});
    expect_rule("strength_reduction",
                [](Graph& g) { g.output("y", pow(input(g, {4}), scalar(g, DType::F32, 3))); },
                {"Unary", "Binary"});
    expect_rule(
        "strength_reduction",
        [](Graph& g) { g.output("y", pow(abs(input(g, {4})), scalar(g, DType::F32, 0.5))); },
        {"Unary", "Unary"});
    expect_rule("strength_reduction",
                [](Graph& g) { g.output("y", 1.0 / sqrt(exp(input(g, {4})))); },
                {"Unary", "Unary"});
    expect_rule("strength_reduction", [](Graph& g) { g.output("y", input(g, {4}) / 8.0); },
                {"Broadcast", "Binary"});
    expect_rule("strength_reduction",
                [](Graph& g) { g.output("y", input(g, {4}) + -input(g, {4}, "z")); }, {"Binary"});
    expect_no_rule("strength_reduction", [](Graph& g) { g.output("y", input(g, {4}) / 3.0); });
}

TEST(OptimizerAlgebra, ClampFusion) {
    expect_rule("clamp_fusion",
                [](Graph& g) { g.output("y", clamp(clamp(input(g, {64}), -2, 0.5), -1, 3)); },
                {"Broadcast", "Binary", "Broadcast", "Binary"});
    expect_rule("clamp_fusion",
                [](Graph& g) {
                    const Var x = minimum(input(g, {64}), scalar(g, DType::F32, 6));
                    g.output("y", maximum(relu(x), scalar(g, DType::F32, -1)));
                },
                {"Broadcast", "Binary", "Broadcast", "Binary"});
}

TEST(OptimizerAlgebra, AffineMerge) {
    expect_rule("affine_merge",
                [](Graph& g) {
                    g.output("y", (input(g, {batch, 3}) * weight(g, {3}, "a")) *
                                      weight(g, {3}, "b", 2) / 3.0);
                },
                {"Broadcast", "Binary"});
    expect_rule("affine_merge",
                [](Graph& g) {
                    g.output("y", input(g, {batch, 3}) - weight(g, {3}, "a") + 3.0 - 0.5);
                },
                {"Broadcast", "Binary"});
    expect_no_rule("affine_merge", [](Graph& g) {
        const Var y = input(g, {batch, 3}) * weight(g, {3}, "a");
        g.output("y", y);
        g.output("z", y * 3.0);
    });
}

TEST(OptimizerAlgebra, AffineIntoConv) {
    const auto norm = [](Graph& g, Var y, std::int64_t channels) {
        const Shape shape = {channels, 1, 1};
        return (y - reshape(weight(g, {channels}, "mean", 3), shape)) *
                   reshape(weight(g, {channels}, "gamma", 4), shape) +
               reshape(weight(g, {channels}, "beta", 5), shape);
    };
    expect_rule("affine_into_weights",
                [&](Graph& g) {
                    const Var y = conv(input(g, {batch, 4, 5, 5}), weight(g, {6, 2, 3, 3}, "w"),
                                       weight(g, {6}, "b", 2), {.pads = {1, 1, 1, 1}, .groups = 2});
                    g.output("y", norm(g, y, 6));
                },
                {"Conv", "Broadcast", "Binary"});
    expect_rule("affine_into_weights",
                [&](Graph& g) {
                    g.output("y", norm(g,
                                       conv_transpose(input(g, {batch, 4, 5, 5}),
                                                      weight(g, {4, 3, 2, 2}, "w"), {},
                                                      {.strides = {2, 2}}),
                                       3));
                },
                {"ConvTranspose", "Broadcast", "Binary"});
    expect_no_rule("affine_into_weights", [&](Graph& g) {
        const Var y = conv(input(g, {batch, 4, 5, 5}), weight(g, {6, 4, 1, 1}, "w"));
        g.output("y", y);
        g.output("z", y * 2.5);
    });
}

TEST(OptimizerAlgebra, AffineIntoMatMul) {
    expect_rule("affine_into_weights",
                [](Graph& g) {
                    const Var y = linear(input(g, {batch, seq, 4}), weight(g, {4, 6}, "w"),
                                         weight(g, {6}, "b", 2));
                    g.output("y", y * weight(g, {6}, "scale", 3) / 1.5);
                },
                {"Reshape", "MatMul", "Broadcast", "Binary", "Reshape"});
}

}  // namespace
}  // namespace kn
