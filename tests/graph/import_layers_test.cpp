// Normalisation, recurrent layers, attention and quantised operators: what the ONNX node cases do
// not cover.
#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "graph/one_node.h"

namespace kn::test {
namespace {

using testing::ElementsAre;
using testing::FloatNear;
using testing::HasSubstr;
using testing::Pointwise;

Tensor floats(const Ints& shape, const std::vector<float>& values) {
    return Tensor::from_span<float>(shape, values);
}

TEST(ImportNorm, OneScaleAGroupBefore21) {
    const auto group_norm = [](int opset, const std::vector<float>& scale) {
        const auto count = static_cast<std::int64_t>(scale.size());
        OneNode node("GroupNormalization", opset);
        node.input({1, 4, 2}).constant(floats({count}, scale));
        node.constant(Tensor::zeros(DType::F32, {count})).integer("num_groups", 2);
        return node.run_f32({1, 4, 2}, {-1, 1, -1, 1, -1, 1, -1, 1});
    };
    EXPECT_THAT(group_norm(18, {1, 10}),
                Pointwise(FloatNear(1e-3f), {-1, 1, -1, 1, -10, 10, -10, 10}));
    EXPECT_THAT(group_norm(21, {1, 2, 3, 4}),
                Pointwise(FloatNear(1e-3f), {-1, 1, -2, 2, -3, 3, -4, 4}));
}

TEST(ImportNorm, BatchNormalizationOfEachElementBefore9) {
    OneNode node("BatchNormalization", 7);
    node.input({"n", 1, 2}).integer("spatial", 0).number("epsilon", 0);
    node.constant(floats({1, 2}, {1, 2})).constant(floats({1, 2}, {0, 5}));
    node.constant(floats({1, 2}, {1, 1})).constant(floats({1, 2}, {1, 4}));
    EXPECT_EQ(node.type(), "f32[n, 1, 2]");
    EXPECT_THAT(node.run_f32({1, 1, 2}, {3, 3}), ElementsAre(2, 7));
}

TEST(ImportRecurrent, TwoDirectionsAndLayouts) {
    const auto gru = [](std::int64_t layout) {
        OneNode node("GRU", 14, 2);
        node.input(layout ? std::vector<OneNode::Size>{"b", "t", 3}
                          : std::vector<OneNode::Size>{"t", "b", 3});
        node.constant(Tensor::zeros(DType::F32, {2, 12, 3}));
        node.constant(Tensor::zeros(DType::F32, {2, 12, 4}));
        return node.text("direction", "bidirectional").integer("layout", layout);
    };
    EXPECT_EQ(gru(0).type(0), "f32[t, 2, b, 4]");
    EXPECT_EQ(gru(0).type(1), "f32[2, b, 4]");
    EXPECT_EQ(gru(1).type(0), "f32[b, t, 2, 4]");
    EXPECT_EQ(gru(1).type(1), "f32[b, 2, 4]");
    OneNode old("GRU", 7);
    old.input({1, 1, 1}).constant(Tensor::zeros(DType::F32, {1, 3, 1}));
    old.constant(Tensor::zeros(DType::F32, {1, 3, 1})).integer("layout", 0);
    EXPECT_THAT(old.problem(), HasSubstr("layout"));
}

// With no weights but a bias, an RNN's first state is its activation of the bias.
TEST(ImportRecurrent, AlphaGoesToTheActivationsThatHaveOne) {
    OneNode node("RNN", 14);
    node.input({1, 1, 1}).constant(Tensor::zeros(DType::F32, {2, 1, 1}));
    node.constant(Tensor::zeros(DType::F32, {2, 1, 1})).constant(floats({2, 2}, {-2, 0, -2, 0}));
    node.text("direction", "bidirectional").texts("activations", {"Tanh", "leakyrelu"});
    node.floats("activation_alpha", {0.5f});
    EXPECT_THAT(node.run_f32({1, 1, 1}, {1}), ElementsAre(FloatNear(std::tanh(-2.0f), 1e-6f), -1));
}

OneNode attention(int opset, const std::vector<OneNode::Size>& keys) {
    OneNode node("Attention", opset);
    node.input({"b", 2, "s", 4}).input(keys).input(keys);
    return node;
}

TEST(ImportAttention, SymbolicSizes) {
    EXPECT_EQ(attention(23, {"b", 1, "t", 4}).type(), "f32[b, 2, s, 4]");
    OneNode rows("Attention", 23, 2);
    rows.input({"b", "s", 8}).input({"b", "s", 4}).input({"b", "s", 4}).absent();
    rows.input({"b", 1, "p", 4}).input({"b", 1, "p", 4}).integer("is_causal", 1);
    rows.integer("q_num_heads", 2).integer("kv_num_heads", 1);
    EXPECT_EQ(rows.type(0), "f32[b, s, 8]");
    EXPECT_EQ(rows.type(1), "f32[b, 1, p + s, 4]");
}

TEST(ImportAttention, ARowThatSeesNothingIsZero) {
    const OneNode node = attention(23, {"b", 2, "t", 4}).input({"s", "t"}, DType::Bool);
    const Tensor x = floats({1, 2, 2, 4}, std::vector<float>(16, 1));
    const std::vector<std::uint8_t> seen = {0, 0, 0, 1};
    const Tensor mask = Tensor::from_bytes(DType::Bool, {2, 2}, std::as_bytes(std::span(seen)));
    const Tensor y = node.run({x, x, x, mask})[0];
    for (std::int64_t i = 0; i < 8; ++i) EXPECT_EQ(y.at(i), i < 4 ? 0 : 1) << "element " << i;
}

TEST(ImportAttention, WindowsCameWith25) {
    EXPECT_THAT(attention(24, {1, 2, 3, 4}).integer("left_window_size", 1).problem(),
                HasSubstr("left_window_size"));
    EXPECT_EQ(attention(25, {"b", 2, "s", 4}).integer("left_window_size", 1).type(),
              "f32[b, 2, s, 4]");
}

TEST(ImportQuantize, HalvesRoundToEvenAndSaturate) {
    OneNode node("QuantizeLinear", 10);
    node.input({5}).constant(Tensor::scalar(2.0f));
    const Tensor y = node.run({floats({5}, {1, 3, 5, 1000, -1000})})[0];
    EXPECT_THAT(y.data<std::uint8_t>(), ElementsAre(0, 2, 2, 255, 0));
}

TEST(ImportQuantize, AxesCameWith13) {
    const auto dequantize = [](int opset) {
        OneNode node("DequantizeLinear", opset);
        node.input({2, 2}, DType::I32).constant(floats({2}, {1, 10}));
        return opset >= 13 ? node.integer("axis", 0) : node;
    };
    const Tensor x = Tensor::from_span<std::int32_t>({2, 2}, std::vector<std::int32_t>{1, 2, 3, 4});
    EXPECT_THAT(dequantize(13).run({x})[0].data<float>(), ElementsAre(1, 2, 30, 40));
    EXPECT_THAT(dequantize(21).integer("block_size", -1).problem(), HasSubstr("block_size"));
}

TEST(ImportSignal, LengthsFromTheData) {
    OneNode node("DFT", 20);
    node.input({1, 3, 1}).input({1}, DType::I64).integer("onesided", 1);
    const Tensor x = floats({1, 3, 1}, {1, 2, 3});
    const auto run = [&](std::int64_t length) {
        return node.run({x, Tensor::from_span<std::int64_t>({1}, Ints{length})})[0];
    };
    EXPECT_EQ(run(4).shape(), (Ints{1, 3, 2}));
    EXPECT_FLOAT_EQ(run(4).data<float>()[0], 6);
    EXPECT_EQ(run(2).shape(), (Ints{1, 2, 2}));
    EXPECT_FLOAT_EQ(run(2).data<float>()[2], -1);
}

}  // namespace
}  // namespace kn::test
