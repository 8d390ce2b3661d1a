// Optimizer rules that recognise normalisations, activations, softmax and attention as exporters
// write them.
#include <limits>

#include "optimizer_check.h"

namespace kn {
namespace {

using namespace testing_rules;

Var power(Var x, double exponent) { return pow(x, scalar_like(x, exponent)); }

// ---- activations ----

TEST(OptimizerActivations, Sigmoid) {
    expect_rule("sigmoid_family",
                [](Graph& g) { g.output("y", 1.0 / (1.0 + exp(-input(g, {8})))); }, {"Unary"});
    expect_rule("sigmoid_family",
                [](Graph& g) {
                    const Var x = input(g, {8});
                    g.output("y", x * sigmoid(x));
                },
                {"Unary"});
    expect_rule("sigmoid_family",
                [](Graph& g) {
                    const Var x = input(g, {8});
                    g.output("y", x / (exp(-x) + 1.0));
                },
                {"Unary"});
    expect_rule("sigmoid_family",
                [](Graph& g) {
                    const Var x = input(g, {8});
                    g.output("y", tanh(log(exp(x) + 1.0)) * x);
                },
                {"Unary"});
    expect_no_rule("sigmoid_family",
                   [](Graph& g) { g.output("y", input(g, {8}) * sigmoid(input(g, {8}, "z"))); });
}

TEST(OptimizerActivations, GeluErf) {
    const double root = std::sqrt(2.0);
    const auto erf = [](Var x) { return unary(UnaryOp::Erf, x); };
    const std::vector<std::function<Var(Var)>> forms = {
        [&](Var x) { return x * 0.5 * (erf(x / root) + 1.0); },
        [&](Var x) { return x * (1.0 + erf(x / root)) * 0.5; },
        [&](Var x) { return 0.5 * (x * (erf(x * (1 / root)) + 1.0)); },
        [&](Var x) { return x * (0.5 * (erf(x / root) + 1.0)); },
    };
    for (const auto& form : forms)
        expect_rule("gelu_forms",
                    [&](Graph& g) {
                        g.output("y", form(input(g, {batch, 64})));
                    },
                    {"Unary"});
    expect_no_rule("gelu_forms", [&](Graph& g) {
        const Var x = input(g, {64});
        g.output("y", x * 0.5 * (erf(x / 1.5) + 1.0));
    });
}

TEST(OptimizerActivations, GeluTanh) {
    const double k = std::sqrt(2 / std::acos(-1.0));
    const std::vector<std::function<Var(Var)>> forms = {
        [&](Var x) { return x * 0.5 * (tanh((x + power(x, 3) * 0.044715) * k) + 1.0); },
        [&](Var x) { return 0.5 * x * (1.0 + tanh(k * (x + 0.044715 * x * x * x))); },
        [&](Var x) { return 0.5 * x * (1.0 + tanh(k * x * (1.0 + 0.044715 * x * x))); },
    };
    for (const auto& form : forms)
        expect_rule("gelu_forms",
                    [&](Graph& g) {
                        g.output("y", form(input(g, {batch, 64})));
                    },
                    {"Unary"});
}

// ---- normalisations ----

/// As PyTorch's exporters write a layer norm without its parameters; `square` and `divide` vary.
Var layer_norm_written(Var x, const Ints& axes, bool by_pow, bool by_rsqrt) {
    const Var d = x - mean(x, axes, true);
    const Var deviation = sqrt(mean(by_pow ? power(d, 2) : d * d, axes, true) + 1e-5);
    return by_rsqrt ? d * (1.0 / deviation) : d / deviation;
}

TEST(OptimizerNorms, LayerNorm) {
    for (const bool by_pow : {false, true})
        for (const bool by_rsqrt : {false, true})
            expect_rule("layer_norm",
                        [&](Graph& g) {
                            g.output("y", layer_norm_written(input(g, {batch, seq, 16}), {-1},
                                                             by_pow, by_rsqrt));
                        },
                        {"Norm"});
    expect_rule(
        "layer_norm",
        [&](Graph& g) {
            g.output("y", layer_norm_written(input(g, {batch, 3, 4, 4}), {1, 2, 3}, true, false));
        },
        {"Norm"});
    expect_no_rule("layer_norm", [&](Graph& g) {
        const Var x = input(g, {4, 4});  // equal sizes: only the broadcast axis tells the
                                         // statistics of rows from those of columns
        const Var d = x - reshape(mean(x, {1}), {1, 4});
        g.output("y", d / sqrt(mean(d * d, {1}, true) + 1e-5));
    });
}

TEST(OptimizerNorms, RmsNorm) {
    expect_rule("rms_norm",
                [](Graph& g) {
                    const Var x = input(g, {batch, seq, 16});
                    g.output("y", weight(g, {16}, "w") *
                                      (x * (1.0 / sqrt(mean(power(x, 2), {-1}, true) + 1e-6))));
                },
                {"Norm", "Broadcast", "Binary"});
    expect_no_rule("rms_norm", [](Graph& g) {
        const Var x = input(g, {batch, seq, 16});
        g.output("y", x / sqrt(mean(power(x, 2), {-1}, true) - 1e-6));
    });
}

TEST(OptimizerNorms, HalfCasts) {
    expect_rule(
        "half_casts",
        [](Graph& g) {
            const Var x = cast(input(g, {batch, 16}, "x", DType::F16), DType::F32);
            g.output("y", cast(x * (1.0 / sqrt(mean(power(x, 2), {-1}, true) + 1e-6)), DType::F16));
        },
        {"Norm"}, 1e-3);
    expect_rule(
        "half_casts",
        [](Graph& g) {
            g.output("y", cast(softmax(cast(input(g, {batch, 16}, "x", DType::BF16), DType::F32)),
                               DType::BF16));
        },
        {"Softmax"}, 1e-2);
}

TEST(OptimizerNorms, GroupNormWrittenAsInstanceNorm) {
    expect_rule(
        "unit_scale",
        [](Graph& g) {
            const Var x = input(g, {batch, 6, 4, 4});
            const Var rows =
                normalize(NormKind::MeanVariance, reshape(x, {batch, 3, 32}), {2}, 1e-5);
            const Var one =
                g.constant(Tensor::from_span<float>({1, 3, 1}, std::vector<float>{1, 1, 1}));
            const Var zero =
                g.constant(Tensor::from_span<float>({1, 3, 1}, std::vector<float>{0, 0, 0}));
            g.output("y", reshape(rows * one + zero, x.shape()) * weight(g, {6, 1, 1}, "scale"));
        },
        {"Reshape", "Norm", "Reshape", "Broadcast", "Binary"});
    expect_no_rule("unit_scale", [](Graph& g) {
        const Var ones =
            g.constant(Tensor::from_span<float>({3}, std::vector<float>{1, 1, 1}), "weight");
        g.output("y", layer_norm(input(g, {batch, 2, 3}), ones, {}));
    });
}

TEST(OptimizerNorms, SoftmaxForm) {
    expect_rule("softmax_form",
                [](Graph& g) {
                    const Var x = input(g, {batch, 5, 3});
                    const Var e = exp(x - reduce(ReduceOp::Max, x, {1}, true));
                    g.output("y", e / sum(e, {1}, true));
                },
                {"Softmax"});
}

// ---- attention ----

/// q, k, v of 4 heads of size 8, split from one projection as exporters do.
struct Heads {
    Var q, k, v;
};
Heads heads(Graph& g) {
    const Shape shape = {batch, seq, 4, 8};
    const auto head = [&](const char* name) {
        return permute(reshape(input(g, {batch, seq, 32}, name), shape), {0, 2, 1, 3});
    };
    return {head("q"), head("k"), head("v")};
}

/// The graph's Attention.
const op::Attention* find_attention(const Graph& g) {
    for (const Value& value : g.live())
        if (const auto* op = g.get_if<op::Attention>(value)) return op;
    return nullptr;
}

const Names plain = {"Reshape", "Permute", "Reshape", "Permute", "Reshape", "Permute", "Attention"};

TEST(OptimizerAttention, ScaledScores) {
    const Graph after = expect_rule(
        "attention",
        [](Graph& g) {
            const Heads h = heads(g);
            g.output("y", matmul(softmax(matmul(h.q, transpose(h.k)) / std::sqrt(8.0)), h.v));
        },
        plain);
    ASSERT_NE(find_attention(after), nullptr);
    EXPECT_NEAR(find_attention(after)->scale, 1 / std::sqrt(8.0), 1e-7);
    EXPECT_FALSE(find_attention(after)->mask);
}

TEST(OptimizerAttention, ScaleOnBothSidesAndMask) {
    const double root = 1 / std::sqrt(std::sqrt(8.0));
    const Graph after = expect_rule(
        "attention_scale",
        [&](Graph& g) {
            const Heads h = heads(g);
            const Var k = reshape(transpose(reshape(h.k, {batch * 4, seq, 8})), {batch, 4, 8, seq});
            const Var scores = matmul(h.q * root, k * root);
            const Var mask =
                select(input(g, {batch, 1, 1, seq}, "mask", DType::Bool), scalar(g, DType::F32, 0),
                       scalar(g, DType::F32, std::numeric_limits<float>::lowest()));
            const Var p = softmax(scores + mask);
            g.output("y",
                     matmul(select(unary(UnaryOp::IsNan, p), scalar(g, DType::F32, 0), p), h.v));
        },
        {"Reshape", "Permute", "Reshape", "Permute", "Reshape", "Permute", "Broadcast", "Broadcast",
         "Select", "Attention"});
    ASSERT_NE(find_attention(after), nullptr);
    EXPECT_NEAR(find_attention(after)->scale, 1 / std::sqrt(8.0), 1e-7);
    EXPECT_EQ(after.shape(*find_attention(after)->mask), (Shape{batch, 1, 1, seq}));
}

TEST(OptimizerAttention, RowsThatSeeNothingStayZero) {
    Graph before;
    const Heads h = heads(before);
    const Var mask = select(before.input("mask", DType::Bool, {seq, seq}),
                            scalar(before, DType::F32, 0), scalar(before, DType::F32, -INFINITY));
    const Var p = softmax(matmul(h.q, transpose(h.k)) + mask);
    before.output("y",
                  matmul(select(unary(UnaryOp::IsNan, p), scalar(before, DType::F32, 0), p), h.v));
    const Graph after = optimize(before);
    ASSERT_NE(find_attention(after), nullptr);
    std::vector<Tensor> inputs = random_inputs(before, 5);
    inputs[3] = Tensor::zeros(DType::Bool, inputs[3].shape());
    const Tensor y = cpu::run(after, inputs).at(0);
    for (std::int64_t i = 0; i < y.size(); ++i) ASSERT_EQ(y.at(i), 0) << i;
    expect_same_numbers(before, after, 2e-6, "attention");
}

TEST(OptimizerAttention, MaskedFill) {
    for (const double fill : {-std::numeric_limits<double>::infinity(), -3e38}) {
        const Graph g = [&] {
            Graph before;
            const Heads h = heads(before);
            const Var scores = matmul(h.q, transpose(h.k)) * 0.25;
            const Var hide = before.input("hide", DType::Bool, {seq, seq});
            before.output(
                "y", matmul(softmax(select(hide, scalar(before, DType::F32, fill), scores)), h.v));
            Graph after = optimize(before);
            expect_same_numbers(before, after, 2e-6, "masked fill");
            return after;
        }();
        ASSERT_NE(find_attention(g), nullptr) << fill << "\n" << g.to_string();
        EXPECT_EQ(g.dtype(*find_attention(g)->mask), std::isinf(fill) ? DType::Bool : DType::F32);
    }
}

TEST(OptimizerAttention, ModerateFillsAreNotMasks) {
    expect_no_rule("attention", [](Graph& g) {
        const Heads h = heads(g);
        const Var scores = matmul(h.q, transpose(h.k));
        g.output("y", matmul(softmax(select(input(g, {seq, seq}, "hide", DType::Bool),
                                            scalar(g, DType::F32, -5), scores)),
                             h.v));
    });
}

/// Attention of 5 queries over `keys` positions under a constant mask of -inf where `hides(s, t)`.
template <class Hides>
Graph with_constant_mask(std::int64_t keys, Hides hides) {
    Graph g;
    Tensor mask(DType::F32, {1, 1, 5, keys});
    for (std::int64_t s = 0; s < 5; ++s)
        for (std::int64_t t = 0; t < keys; ++t)
            mask.mutable_data<float>()[static_cast<std::size_t>(s * keys + t)] =
                hides(s, t) ? -INFINITY : 0.0f;
    const Var q = input(g, {batch, 4, 5, 8}, "q");
    const Var k = input(g, {batch, 4, keys, 8}, "k");
    const Var v = input(g, {batch, 4, keys, 8}, "v");
    g.output("y", matmul(softmax(matmul(q, transpose(k)) * 0.3 + g.constant(std::move(mask))), v));
    return g;
}

TEST(OptimizerAttention, ConstantMasksBecomeCausal) {
    const auto check = [](const Graph& before, CausalMask causal, bool mask) {
        const Graph after = optimize(before);
        ASSERT_NE(find_attention(after), nullptr);
        EXPECT_EQ(find_attention(after)->causal, causal) << after.to_string();
        EXPECT_EQ(find_attention(after)->mask.has_value(), mask);
        expect_same_numbers(before, after, 2e-6, "attention_causal");
    };
    check(with_constant_mask(5, [](auto s, auto t) { return t > s; }), CausalMask::TopLeft, false);
    check(with_constant_mask(7, [](auto s, auto t) { return t > s; }), CausalMask::TopLeft, false);
    check(with_constant_mask(7, [](auto s, auto t) { return t > s + 2; }), CausalMask::BottomRight,
          false);
    check(with_constant_mask(7, [](auto, auto) { return false; }), CausalMask::None, false);
    check(with_constant_mask(7, [](auto s, auto t) { return t > s + 1; }), CausalMask::None, true);
}

TEST(OptimizerAttention, GroupedHeads) {
    const Graph after = expect_rule(
        "attention_heads",
        [](Graph& g) {
            const Var q = input(g, {batch, 6, seq, 8}, "q");
            const auto repeated = [&](const char* name) {
                const Var kv = unsqueeze(input(g, {batch, 2, Dim::symbol("total"), 8}, name), {2});
                return reshape(broadcast_to(kv, {batch, 2, 3, Dim::symbol("total"), 8}),
                               {batch, 6, Dim::symbol("total"), 8});
            };
            const Var k = repeated("k");
            g.output("y", matmul(softmax(matmul(q, transpose(k)) * 0.3), repeated("v")));
        },
        {"Attention"});
    ASSERT_NE(find_attention(after), nullptr);
    EXPECT_EQ(after.shape(find_attention(after)->k)[1], Dim(2));
}

TEST(OptimizerAttention, OneHeadForAll) {
    const Graph after = expect_rule("attention_heads",
                                    [](Graph& g) {
                                        const Var q = input(g, {batch, 6, seq, 8}, "q");
                                        const Var k = input(g, {batch, 1, 7, 8}, "k");
                                        g.output("y", matmul(softmax(matmul(q, transpose(k)) * 0.3),
                                                             input(g, {batch, 1, 7, 8}, "v")));
                                    },
                                    {"Attention"});
    ASSERT_NE(find_attention(after), nullptr);
    EXPECT_EQ(after.shape(find_attention(after)->k)[1], Dim(1));
}

TEST(OptimizerAttention, WeightsThatAreAnOutputStay) {
    expect_no_rule("attention", [](Graph& g) {
        const Heads h = heads(g);
        const Var p = softmax(matmul(h.q, transpose(h.k)));
        g.output("y", matmul(p, h.v));
        g.output("weights", p);
    });
}

TEST(OptimizerAttention, BatchedHeadsOfRankThree) {
    expect_rule(
        "attention",
        [](Graph& g) {
            const Var q = input(g, {batch, seq, 8}, "q");
            const Var k = input(g, {batch, 7, 8}, "k");
            g.output("y", matmul(softmax(matmul(q, transpose(k))), input(g, {batch, 7, 5}, "v")));
        },
        {"Reshape", "Reshape", "Reshape", "Attention", "Reshape"});
}

TEST(OptimizerAttention, HalfWithSoftmaxInFloat) {
    expect_rule(
        "attention",
        [](Graph& g) {
            const Var q = input(g, {batch, 2, seq, 8}, "q", DType::F16);
            const Var k = input(g, {batch, 2, seq, 8}, "k", DType::F16);
            const Var mask = input(g, {1, 1, seq, seq}, "mask", DType::F16);
            const Var scores = matmul(q, transpose(k)) * 0.5 + mask;
            const Var p = cast(softmax(cast(scores, DType::F32)), DType::F16);
            g.output("y", matmul(p, input(g, {batch, 2, seq, 4}, "v", DType::F16)));
        },
        {"Attention"}, 4e-3);
}

}  // namespace
}  // namespace kn
