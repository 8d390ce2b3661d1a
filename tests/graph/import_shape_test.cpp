// Shapes that importers infer: symbols stay symbols, old operator versions, and what is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <kn/graph/builder.h>

#include "graph/one_node.h"

namespace kn::test {
namespace {

using testing::HasSubstr;

constexpr std::int64_t to_the_end = INT64_MAX;

OneNode slice(std::int64_t start, std::int64_t end, std::int64_t step = 1) {
    OneNode node("Slice", 13);
    node.input({"n"}).indices({start}).indices({end}).indices({0}).indices({step});
    return node;
}

TEST(ImportSlice, SymbolicSizes) {
    EXPECT_EQ(slice(0, to_the_end).type(), "f32[n]");
    EXPECT_EQ(slice(0, INT32_MAX).type(), "f32[n]");
    EXPECT_EQ(slice(1, to_the_end).type(), slice(0, -1).type());
    EXPECT_EQ(slice(-1, -to_the_end, -1).type(), "f32[n]");
    EXPECT_EQ(slice(0, 0).type(), "f32[0]");
    for (const std::int64_t n : {0, 1, 2, 5}) {
        const auto length = [&](const OneNode& node) {
            return node.run({Tensor::zeros(DType::F32, {n})})[0].size();
        };
        EXPECT_EQ(length(slice(1, to_the_end)), std::max<std::int64_t>(n - 1, 0)) << "n = " << n;
        EXPECT_EQ(length(slice(-3, 4)),
                  std::min<std::int64_t>(n, 4) - std::max<std::int64_t>(n - 3, 0))
            << "n = " << n;
        EXPECT_EQ(length(slice(to_the_end, -to_the_end, -2)), (n + 1) / 2) << "n = " << n;
        // A start before the first element is moved to it.
        EXPECT_EQ(length(slice(-3, -to_the_end, -1)),
                  std::min<std::int64_t>(n, std::max<std::int64_t>(n - 2, 1)))
            << "n = " << n;
        EXPECT_EQ(length(slice(0, to_the_end, 2)), (n + 1) / 2) << "n = " << n;
    }
}

TEST(ImportSlice, PositionsFromTheData) {
    OneNode node("Slice", 13);
    node.input({"n"}).input({1}, DType::I64).input({1}, DType::I64);
    const auto x = Tensor::from_span<float>({4}, std::vector<float>{0, 1, 2, 3});
    const auto at = [](std::int64_t i) { return Tensor::from_span<std::int64_t>({1}, Ints{i}); };
    const Tensor tail = node.run({x, at(-2), at(9)})[0];
    ASSERT_EQ(tail.shape(), Ints{2});
    EXPECT_EQ(tail.at(0), 2);
    EXPECT_EQ(node.run({x, at(3), at(1)})[0].shape(), Ints{0});
}

TEST(ImportSlice, Refused) {
    EXPECT_THAT(slice(0, 1, 0).problem(), HasSubstr("step of axis 0 is 0"));
    OneNode twice("Slice", 13);
    twice.input({4}).indices({0, 0}).indices({1, 1}).indices({0, -1});
    EXPECT_THAT(twice.problem(), HasSubstr("axis 0 comes twice"));
    OneNode lengths("Slice", 9);
    lengths.input({4}).ints("starts", {0, 0}).ints("ends", {1});
    EXPECT_THAT(lengths.problem(), HasSubstr("differ in length"));
}

OneNode reshape(const std::vector<OneNode::Size>& from, const Ints& to) {
    OneNode node("Reshape", 13);
    node.input(from).indices(to);
    return node;
}

TEST(ImportSlice, CutTablesBroadcastToWhatTheyAreCutFor) {
    // position_ids[:, :seq] of a table of 512 rows, added to [batch, seq]
    Graph graph;
    const Dim seq = Dim::symbol("seq");
    const Var table = graph.input("table", DType::F32, {1, min(seq, 512)});
    const Var x = graph.input("x", DType::F32, {Dim::symbol("batch"), seq});
    EXPECT_EQ((table + x).shape(), x.shape());
    EXPECT_EQ((x + table).shape(), x.shape());
}

TEST(ImportReshape, SymbolicSizes) {
    EXPECT_EQ(reshape({"b", "s", 768}, {0, 0, 12, -1}).type(), "f32[b, s, 12, 64]");
    EXPECT_EQ(reshape({"b", "s", 12, 64}, {0, 0, -1}).type(), "f32[b, s, 768]");
    EXPECT_EQ(reshape({"b", 3, "h", "w"}, {0, 0, -1}).type(), "f32[b, 3, h*w]");
    EXPECT_EQ(reshape({"b", 6}, {-1, 3}).type(), "f32[2*b, 3]");
    EXPECT_THAT(reshape({2, 3}, {-1, -1}).problem(), HasSubstr("more than one dim of -1"));
    EXPECT_THAT(reshape({2, 3}, {4, -1}).problem(), HasSubstr("Reshape"));
    EXPECT_THAT(reshape({2, 3}, {2, 3, 0}).problem(), HasSubstr("dim 2 is copied"));
    EXPECT_THAT(reshape({2, 3}, {-2, 3}).problem(), HasSubstr("-2"));
}

TEST(ImportReshape, ShapeFromTheData) {
    OneNode node("Reshape", 13);
    node.input({"b", 6}).input({3}, DType::I64);
    const auto run = [&](const Ints& to) {
        return node
            .run({Tensor::zeros(DType::F32, {4, 6}), Tensor::from_span<std::int64_t>({3}, to)})[0]
            .shape();
    };
    EXPECT_EQ(run({0, 2, -1}), (Ints{4, 2, 3}));
    EXPECT_EQ(run({-1, 6, 2}), (Ints{2, 6, 2}));
    EXPECT_THROW(run({5, 5, -1}), GraphError);
}

TEST(ImportShape, OldFormsOfAxes) {
    EXPECT_EQ(OneNode("Squeeze", 11).input({"n", 1, 3}).ints("axes", {-2}).type(), "f32[n, 3]");
    EXPECT_EQ(OneNode("Squeeze", 13).input({"n", 1, 3}).indices({1}).type(), "f32[n, 3]");
    EXPECT_EQ(OneNode("Unsqueeze", 11).input({"n"}).ints("axes", {-1, 0}).type(), "f32[1, n, 1]");
    EXPECT_THAT(OneNode("Squeeze", 13).input({"n", 1}).problem(), HasSubstr("whether dim 0"));
    EXPECT_THAT(OneNode("Squeeze", 13).input({2, 1}).ints("axes", {1}).problem(),
                HasSubstr("axes"));
}

TEST(ImportShape, SplitsOfSymbols) {
    OneNode halves("Split", 13, 2);
    halves.input({"n", 6}).integer("axis", 1);
    EXPECT_EQ(halves.type(1), "f32[n, 3]");
    OneNode last_smaller("Split", 18, 3);
    last_smaller.input({7}).integer("num_outputs", 3);
    EXPECT_EQ(last_smaller.type(0), "f32[3]");
    EXPECT_EQ(last_smaller.type(2), "f32[1]");
    EXPECT_THAT(OneNode("Split", 13, 2).input({7}).problem(), HasSubstr("Split"));
}

TEST(ImportShape, GeneratorsOfSymbols) {
    EXPECT_EQ(OneNode("Shape", 15).input({"n", 2, 3}).integer("start", -2).type(), "i64[2]");
    EXPECT_EQ(OneNode("Pad", 13).input({"n", 2}).indices({1, 0, 2, -1}).type(), "f32[n + 3, 1]");
    EXPECT_EQ(OneNode("Expand", 13).input({"n", 1}).indices({2, 1, 5}).type(), "f32[2, n, 5]");
    EXPECT_EQ(OneNode("Tile", 13).input({"n", 2}).indices({2, 3}).type(), "f32[2*n, 6]");
    EXPECT_EQ(OneNode("DepthToSpace", 13).input({"n", 8, "h", 2}).integer("blocksize", 2).type(),
              "f32[n, 2, 2*h, 4]");
}

}  // namespace
}  // namespace kn::test
