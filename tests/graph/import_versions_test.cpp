// Operators whose meaning changed between versions: each old form against numbers worked out by
// hand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "graph/one_node.h"

namespace kn::test {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::FloatNear;
using testing::HasSubstr;
using testing::Pointwise;

TEST(ImportVersions, SoftmaxRunsOverAllTrailingAxesBefore13) {
    const std::vector<float> equal(8, 0.0f);
    EXPECT_THAT(OneNode("Softmax", 12).input({2, 2, 2}).run_f32({2, 2, 2}, equal),
                testing::Each(0.25f));
    EXPECT_THAT(OneNode("Softmax", 13).input({2, 2, 2}).run_f32({2, 2, 2}, equal),
                testing::Each(0.5f));
    EXPECT_THAT(OneNode("Hardmax", 11).input({1, 2, 2}).run_f32({1, 2, 2}, {1, 3, 2, 0}),
                ElementsAre(0, 1, 0, 0));
    EXPECT_THAT(OneNode("Hardmax", 13).input({1, 2, 2}).run_f32({1, 2, 2}, {1, 3, 2, 0}),
                ElementsAre(0, 1, 1, 0));
}

TEST(ImportVersions, ClipBoundsWereAttributes) {
    const OneNode old = OneNode("Clip", 6 + 1).input({3}).number("min", -1).number("max", 1);
    EXPECT_THAT(old.run_f32({3}, {-5, 0.5, 5}), ElementsAre(-1, 0.5, 1));
    EXPECT_THAT(OneNode("Clip", 7).input({2}).number("min", 0).run_f32({2}, {-5, 5}),
                ElementsAre(0, 5));
    EXPECT_THAT(OneNode("Clip", 11).input({3}).number("min", -1).problem(), HasSubstr("min"));
}

TEST(ImportVersions, AxesOfReductionsWereAttributes) {
    const std::vector<float> x = {1, 2, 3, 4};
    EXPECT_THAT(OneNode("ReduceSum", 11).input({2, 2}).ints("axes", {0}).run_f32({2, 2}, x),
                ElementsAre(4, 6));
    EXPECT_THAT(OneNode("ReduceSum", 13).input({2, 2}).indices({-1}).run_f32({2, 2}, x),
                ElementsAre(3, 7));
    EXPECT_THAT(OneNode("ReduceMax", 17).input({2, 2}).ints("axes", {1}).run_f32({2, 2}, x),
                ElementsAre(2, 4));
    EXPECT_THAT(OneNode("ReduceMax", 18).input({2, 2}).ints("axes", {1}).problem(),
                HasSubstr("axes"));
    const OneNode noop =
        OneNode("ReduceSumSquare", 18).input({2, 2}).integer("noop_with_empty_axes", 1);
    EXPECT_THAT(noop.run_f32({2, 2}, x), ElementsAre(1, 4, 9, 16));
}

TEST(ImportVersions, ReductionsOfNothing) {
    const auto over_nothing = [](const char* op) {
        return OneNode(op, 18).input({0}).run_f32({0}, {}).at(0);
    };
    EXPECT_EQ(over_nothing("ReduceSum"), 0);
    EXPECT_EQ(over_nothing("ReduceProd"), 1);
    EXPECT_EQ(over_nothing("ReduceL2"), 0);
    EXPECT_EQ(over_nothing("ReduceMax"), -INFINITY);
    EXPECT_EQ(over_nothing("ReduceMin"), INFINITY);
    EXPECT_EQ(over_nothing("ReduceLogSumExp"), -INFINITY);
    EXPECT_TRUE(std::isnan(over_nothing("ReduceMean")));
}

TEST(ImportVersions, PadsAndSlicesWereAttributes) {
    const OneNode pad = OneNode("Pad", 10).input({2}).ints("pads", {1, -1}).number("value", 7);
    EXPECT_THAT(pad.run_f32({2}, {1, 2}), ElementsAre(7, 1));
    const OneNode slice = OneNode("Slice", 9).input({4}).ints("starts", {-3}).ints("ends", {1000});
    EXPECT_THAT(slice.run_f32({4}, {0, 1, 2, 3}), ElementsAre(1, 2, 3));
}

TEST(ImportVersions, DropoutIsAsAtInference) {
    EXPECT_EQ(OneNode("Dropout", 7, 2).input({"n"}).number("ratio", 0.5).type(1), "f32[n]");
    EXPECT_EQ(OneNode("Dropout", 10, 2).input({"n"}).type(1), "bool[n]");
    OneNode training("Dropout", 13);
    training.input({2}).constant(Tensor::scalar(0.5f)).constant(Tensor::scalar(true));
    EXPECT_THAT(training.problem(), HasSubstr("training_mode"));
}

TEST(ImportVersions, TopKWasAnAttribute) {
    EXPECT_THAT(OneNode("TopK", 9, 2).input({4}).integer("k", 2).run_f32({4}, {1, 4, 2, 3}),
                ElementsAre(4, 3));
    const OneNode smallest = OneNode("TopK", 11, 2).input({4}).indices({2}).integer("largest", 0);
    EXPECT_THAT(smallest.run_f32({4}, {1, 4, 2, 3}), ElementsAre(1, 2));
}

TEST(ImportVersions, MixedTypesOfPow) {
    const OneNode roots = OneNode("Pow", 12).input({3}, DType::I32).constant(Tensor::scalar(0.5f));
    const Tensor y =
        roots.run({Tensor::from_span<std::int32_t>({3}, std::vector<std::int32_t>{4, 8, 9})})[0];
    EXPECT_EQ(y.dtype(), DType::I32);
    EXPECT_EQ(y.int_at(0), 2);
    EXPECT_EQ(y.int_at(1), 2);
    EXPECT_EQ(y.int_at(2), 3);
}

struct EinsumCase {
    const char* equation;
    std::vector<std::vector<OneNode::Size>> inputs;
    const char* type;
};

TEST(ImportEinsum, Shapes) {
    const std::vector<EinsumCase> cases = {
        {"bhqd,bhkd->bhqk", {{"b", 8, "q", 64}, {"b", 8, "k", 64}}, "f32[b, 8, q, k]"},
        {"...ij,...jk", {{5, 1, "i", 4}, {3, 4, 2}}, "f32[5, 3, i, 2]"},
        {"ii->i", {{3, 3}}, "f32[3]"},
        {"ba,bc", {{"b", 2}, {"b", 3}}, "f32[2, 3]"},
        {"i,j,k->kji", {{2}, {3}, {4}}, "f32[4, 3, 2]"},
    };
    for (const EinsumCase& one : cases) {
        OneNode node("Einsum", 12);
        node.text("equation", one.equation);
        for (const auto& input : one.inputs) node.input(input);
        EXPECT_EQ(node.type(), one.type) << one.equation;
    }
}

TEST(ImportEinsum, Refused) {
    const auto problem = [](const char* equation) {
        return OneNode("Einsum", 12).text("equation", equation).input({2, 3}).problem();
    };
    EXPECT_THAT(problem("ij,jk->ik"), HasSubstr("2 terms for 1 inputs"));
    EXPECT_THAT(problem("i1->i"), HasSubstr("cannot be read"));
    EXPECT_THAT(problem("ij->ik"), HasSubstr("output names"));
    EXPECT_THAT(problem("ij->ii"), HasSubstr("output names"));
    EXPECT_THAT(problem("ijk->i"), HasSubstr("does not fit"));
    EXPECT_THAT(problem("ii->i"), HasSubstr("one index"));
}

}  // namespace
}  // namespace kn::test
