#include <gtest/gtest.h>

#include <kn/graph/dim.h>
#include <kn/graph/error.h>

namespace kn {
namespace {

const Dim b = Dim::symbol("b"), s = Dim::symbol("s"), h = Dim::symbol("h");

TEST(Dim, EqualSizesCompareEqual) {
    EXPECT_EQ(s + s + 1, 2 * s + 1);
    EXPECT_EQ((b + 1) * (s + 2), b * s + 2 * b + s + 2);
    EXPECT_EQ(b * s - s * b, Dim(0));
    EXPECT_FALSE(b == s);
    EXPECT_EQ((2 * s + 1).to_string(), "2*s + 1");
}

TEST(Dim, DivisionCancels) {
    EXPECT_EQ(floor_div(b * s * 768, b * s), Dim(768));
    EXPECT_EQ(floor_div((s + 1) * 64 * b, (s + 1) * b), Dim(64));
    EXPECT_EQ(floor_div(4 * b + 3, 4), b);
    EXPECT_EQ(floor_div(h + 2 * 3 - 7, 2) + 1, floor_div(h + 1, 2));
    EXPECT_EQ(floor_div(floor_div(h, 2), 2), floor_div(h, 4));
    EXPECT_EQ(ceil_div(h, 2), floor_div(h + 1, 2));
}

TEST(Dim, BoundsAreProved) {
    EXPECT_TRUE(provably_ge(s, 0));
    EXPECT_TRUE(provably_gt(2 * s + 1, s));
    EXPECT_FALSE(provably_ge(s, 1));
    EXPECT_TRUE(provably_ge(mod(s, 8), 0));
    EXPECT_TRUE(provably_ge(s, min(s, b)));
    EXPECT_EQ(max(s, 0), s);
    EXPECT_EQ(min(s + 1, s), s);
}

TEST(Dim, EvaluatesAndSubstitutes) {
    const Dim x = floor_div(h - 1, 2) + max(b, s);
    EXPECT_EQ(x.eval({{"h", 9}, {"b", 3}, {"s", 5}}), 9);
    EXPECT_EQ(x.substitute(Bindings{{"h", 9}}).to_string(), "max(b, s) + 4");
    EXPECT_THROW(static_cast<void>(x.eval({{"h", 1}})), GraphError);
    EXPECT_EQ(floor_div(Dim(-7), 2), Dim(-4));
}

TEST(Dim, Solves) {
    EXPECT_EQ((2 * s + 1).solve(9), (std::pair<std::string, std::int64_t>("s", 4)));
    EXPECT_FALSE((2 * s + 1).solve(8));
    EXPECT_FALSE((s + 3).solve(2));
    EXPECT_FALSE((s + b).solve(2));
}

TEST(Dim, ParsesWhatExportersWrite) {
    EXPECT_EQ(Dim::parse("2*seq + 1"), 2 * Dim::symbol("seq") + 1);
    EXPECT_EQ(Dim::parse("past_len + s"), Dim::symbol("past_len") + s);
    EXPECT_EQ(Dim::parse("floor(h/2)"), floor_div(h, 2));
    EXPECT_EQ(Dim::parse("Max(1, s)"), max(Dim(1), s));
    EXPECT_EQ(Dim::parse("(h + 1)//2"), floor_div(h + 1, 2));
    EXPECT_EQ(Dim::parse("batch-size"), Dim::symbol("batch-size"));
    EXPECT_EQ(Dim::parse("what is this?"), Dim::symbol("what is this?"));
    EXPECT_EQ(Dim::parse("h//0"), Dim::symbol("h//0"));
}

TEST(Dim, TextReadsBack) {
    for (const Dim& x :
         {floor_div(h - 1, 2) * 3 - b, max(b, s + 1) * 2, broadcast_dim(b, s), mod(s, 8)})
        EXPECT_EQ(Dim::parse(x.to_string()), x) << x.to_string();
}

TEST(Dim, OverflowIsAnError) {
    const Dim big = std::int64_t{1} << 62;
    EXPECT_THROW(static_cast<void>(big * 4), GraphError);
    EXPECT_THROW(static_cast<void>(big * s * 4), GraphError);
    EXPECT_THROW(static_cast<void>(floor_div(s, 0)), GraphError);
}

TEST(Dim, BroadcastingAgainChangesNothing) {
    const Dim both = broadcast_dim(b, s);
    EXPECT_EQ(broadcast_dim(both, b), both);
    EXPECT_EQ(broadcast_dim(s, both), both);
    EXPECT_EQ(broadcast_dim(both, broadcast_dim(s, b)), both);
    Dim d = b;
    for (int i = 0; i < 60; ++i) d = broadcast_dim(i % 2 ? b : s, d);
    EXPECT_EQ(broadcast_dim(d, both), d);
    EXPECT_EQ(d.eval({{"b", 1}, {"s", 7}}), 7);
}

TEST(Dim, ExpressionsDoNotGrowWithoutEnd) {
    const auto grow = [](auto step) {
        Dim d = Dim::symbol("n");
        for (int i = 0; i < 60; ++i) d = step(d);
    };
    EXPECT_THROW(grow([](const Dim& d) { return d * d; }), GraphError);
    EXPECT_THROW(grow([](const Dim& d) { return floor_div(d * d, d + 2); }), GraphError);
    EXPECT_THROW(grow([](const Dim& d) { return broadcast_dim(d, d + 1) * 3; }), GraphError);
}

}  // namespace
}  // namespace kn
