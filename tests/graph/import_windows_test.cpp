// Convolution, pooling and resizing: sizes that stay symbolic, old operator versions, and what is
// refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "graph/one_node.h"

namespace kn::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Tensor ones(const Ints& shape) {
    Tensor x(DType::F32, shape);
    for (float& value : x.mutable_data<float>()) value = 1;
    return x;
}

OneNode conv(const char* auto_pad, std::int64_t stride) {
    OneNode node("Conv", 11);
    node.input({"n", 1, "h"}).constant(ones({1, 1, 3}));
    node.text("auto_pad", auto_pad).ints("strides", {stride});
    return node;
}

TEST(ImportConv, SymbolicSizes) {
    EXPECT_EQ(conv("VALID", 1).type(), "f32[n, 1, h - 2]");
    EXPECT_EQ(conv("SAME_UPPER", 1).type(), "f32[n, 1, h]");
    for (const std::int64_t h : {1, 2, 5, 6, 7}) {
        const Tensor y = conv("SAME_LOWER", 2).run({ones({2, 1, h})})[0];
        EXPECT_EQ(y.shape(), (Ints{2, 1, (h + 1) / 2})) << "h = " << h;
    }
}

TEST(ImportConv, WhereAutoPadPutsTheOddElement) {
    OneNode upper = conv("SAME_UPPER", 2), lower = conv("SAME_LOWER", 2);
    EXPECT_THAT(upper.run_f32({1, 1, 4}, {1, 2, 3, 4}), ElementsAre(6, 7));
    EXPECT_THAT(lower.run_f32({1, 1, 4}, {1, 2, 3, 4}), ElementsAre(3, 9));
}

TEST(ImportConv, Refused) {
    OneNode kernel("Conv", 11);
    kernel.input({1, 1, 5}).constant(ones({1, 1, 3})).ints("kernel_shape", {2});
    EXPECT_THAT(kernel.problem(), HasSubstr("kernel_shape"));
    OneNode pads("Conv", 11);
    pads.input({1, 1, 5}).constant(ones({1, 1, 3})).ints("pads", {-1, 0});
    EXPECT_THAT(pads.problem(), HasSubstr("pads has the entry -1"));
}

TEST(ImportConvTranspose, OutputShapeDecidesThePads) {
    OneNode node("ConvTranspose", 11);
    node.input({1, 1, "h"})
        .constant(ones({1, 1, 3}))
        .ints("strides", {2})
        .ints("output_shape", {6});
    EXPECT_EQ(node.type(), "f32[1, 1, 6]");
    // 1 1 1+2 2 2+3 3 3 loses its first element.
    EXPECT_THAT(node.run_f32({1, 1, 3}, {1, 2, 3}), ElementsAre(1, 3, 2, 5, 3, 3));
}

OneNode pool(const char* op, int opset, const Ints& kernel) {
    OneNode node(op, opset);
    node.input({1, 1, "h"}).ints("kernel_shape", kernel);
    return node;
}

TEST(ImportPool, CeilModeCoversTheEnd) {
    const OneNode max = pool("MaxPool", 10, {2}).ints("strides", {2}).integer("ceil_mode", 1);
    EXPECT_THAT(max.run_f32({1, 1, 5}, {1, 5, 2, 3, 4}), ElementsAre(5, 3, 4));
    EXPECT_THAT(max.run_f32({1, 1, 4}, {1, 5, 2, 3}), ElementsAre(5, 3));
    // A window that would lie in the padding alone is dropped.
    const OneNode padded =
        pool("MaxPool", 10, {2}).ints("strides", {3}).ints("pads", {0, 1}).integer("ceil_mode", 1);
    EXPECT_THAT(padded.run_f32({1, 1, 3}, {1, 5, 2}), ElementsAre(5));
    EXPECT_THAT(pool("MaxPool", 9, {2}).integer("ceil_mode", 1).problem(), HasSubstr("ceil_mode"));
}

TEST(ImportPool, WhatTheAverageCounts) {
    const auto average = [](std::int64_t count_pads) {
        return pool("AveragePool", 11, {3})
            .ints("strides", {2})
            .ints("pads", {1, 0})
            .integer("ceil_mode", 1)
            .integer("count_include_pad", count_pads)
            .run_f32({1, 1, 5}, {6, 6, 6, 6, 6});
    };
    EXPECT_THAT(average(0), ElementsAre(6, 6, 6));
    EXPECT_THAT(average(1), ElementsAre(4, 6, 6));
}

TEST(ImportPool, IndicesOfTheMaximum) {
    OneNode node("MaxPool", 12, 2);
    node.input({1, 1, 2, 2}).ints("kernel_shape", {1, 2}).integer("storage_order", 1);
    const auto y =
        node.run({Tensor::from_span<float>({1, 1, 2, 2}, std::vector<float>{1, 2, 4, 3})});
    EXPECT_THAT(y.at(1).data<std::int64_t>(), ElementsAre(2, 1));
}

TEST(ImportResize, SymbolicSizes) {
    const auto scaled = [](float scale) {
        OneNode node("Resize", 13);
        node.input({"n", 3, "h"})
            .absent()
            .constant(Tensor::from_span<float>({3}, std::vector<float>{1, 1, scale}));
        return node;
    };
    EXPECT_EQ(scaled(2).type(), "f32[n, 3, 2*h]");
    EXPECT_EQ(scaled(0.5f).type(), "f32[n, 3, h//2]");
    EXPECT_EQ(scaled(0.6f).run({ones({1, 3, 5})})[0].shape(), (Ints{1, 3, 3}));
    EXPECT_THAT(scaled(0.123457f).problem(), HasSubstr("must be fixed"));
    EXPECT_THAT(scaled(-1).problem(), HasSubstr("scale -1"));
}

TEST(ImportResize, BeforeVersion11) {
    OneNode down("Resize", 10);
    down.input({4}).constant(Tensor::from_span<float>({1}, std::vector<float>{0.6f}));
    EXPECT_THAT(down.run_f32({4}, {1, 2, 3, 4}), ElementsAre(1, 3));
    OneNode up("Upsample", 7);
    up.input({2}).floats("scales", {2});
    EXPECT_THAT(up.run_f32({2}, {1, 2}), ElementsAre(1, 1, 2, 2));
}

TEST(ImportResize, SizesFromTheData) {
    OneNode node("Resize", 13);
    node.input({1, 2}).absent().absent().input({2}, DType::I64).text("mode", "linear");
    const Tensor x = Tensor::from_span<float>({1, 2}, std::vector<float>{0, 4});
    const Tensor y = node.run({x, Tensor::from_span<std::int64_t>({2}, Ints{1, 4})})[0];
    EXPECT_THAT(y.data<float>(), ElementsAre(0, 1, 3, 4));
}

}  // namespace
}  // namespace kn::test
