// The search for faster choices, on networks that are a formula.
#include "executor/tune_search.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include <kn/graph/random.h>

namespace kn::cuda {
namespace {

// A network whose parts take so much each, by their alternatives; and a device on which times are
// seen through noise and falling clocks.
struct Simulated {
    std::vector<std::vector<double>> parts;
    double noise = 0, clocks_fall = 0;
    Random random = Random(1);
    double slowed = 1;
    std::size_t pairs = 0;
    std::vector<Choices> tried = {};
    std::function<double(const Choices&)> beside = [](const Choices&) { return 0.0; };

    double time(const Choices& choices) const {
        double sum = beside(choices);
        for (std::size_t i = 0; i < parts.size(); i++) sum += parts[i][choices[i]];
        return sum;
    }
    double seen(const Choices& choices) {
        slowed += clocks_fall;
        return time(choices) * slowed * (1 + noise * random.normal());
    }
    std::vector<TimedPair> compare(const Choices& a, const Choices& b, std::size_t count) {
        if (tried.empty() || tried.back() != b) tried.push_back(b);
        pairs += count;
        std::vector<TimedPair> result;
        for (std::size_t i = 0; i < count; i++) {
            const double before = seen(a), changed = seen(b) + seen(b);
            result.push_back({before + seen(a), changed});
        }
        return result;
    }
    TuneResult found(
        const std::vector<TunePart>& candidates, const TuneBudget& budget = {},
        std::function<double()> seconds = [] { return 0.0; }) {
        return find_choices(
            candidates,
            [this](const Choices& a, const Choices& b, std::size_t n) { return compare(a, b, n); },
            seconds, budget);
    }
};

// These gains, over and over.
std::vector<TimedPair> pairs_of(const std::vector<double>& gains, std::size_t count = 16) {
    std::vector<TimedPair> pairs;
    for (std::size_t i = 0; i < count; i++) pairs.push_back({2, 2 * (1 - gains[i % gains.size()])});
    return pairs;
}

TEST(TuneJudge, AsksForMoreThanNoise) {
    EXPECT_EQ(judge({}), Verdict::NotFaster);
    EXPECT_EQ(judge(pairs_of({0})), Verdict::NotFaster);
    EXPECT_EQ(judge(pairs_of({.01})), Verdict::Faster);
    EXPECT_EQ(judge(pairs_of({.01}, 8)), Verdict::Unclear) << "too few";
    EXPECT_EQ(judge(pairs_of({.002})), Verdict::NotFaster);
    EXPECT_EQ(judge(pairs_of({-.01, -.011, -.009, -.01})), Verdict::NotFaster);
    EXPECT_EQ(judge(pairs_of({.03, -.02, .01, -.01, .02, 0})), Verdict::Unclear);
    EXPECT_EQ(judge(pairs_of({.01, .0101, .0099, .01, -.5, .01})), Verdict::Faster)
        << "now and then something else happened";
    EXPECT_NEAR(gain_of(pairs_of({.03, .01, .02, .05})), .025, 1e-12);
}

TEST(TuneShortList, IsTheBestOfThreeNearTheFastest) {
    using List = std::vector<std::size_t>;
    EXPECT_EQ(short_list({}), List{});
    EXPECT_EQ(short_list({5}), List{});
    EXPECT_EQ(short_list({5, 5, 5, 5, 5}), (List{1, 2})) << "the network's own is one of three";
    EXPECT_EQ(short_list({9, 7, 5, 5.2, 5.1, 5.15}), (List{2, 4, 5}));
    EXPECT_EQ(short_list({5, 5.3, 4.9, 5.1}), (List{2, 3}));
    EXPECT_EQ(short_list({5, 6, 7}), List{});
}

TEST(TuneSearch, TakesWhatIsFasterInPlaceAndNothingElse) {
    Simulated network{{{3, 2.9, 3.2}, {1, 1, 0.99}, {5, 5.1, 4.5}}, 0.003, 1e-5};
    // The second part's fast alternative makes its neighbour slow.
    network.beside = [](const Choices& c) { return c[1] == 2 ? 0.2 : 0.0; };
    const auto result = network.found({{3, {1, 2}}, {1, {1, 2}}, {5, {1, 2}}});
    EXPECT_EQ(result.choices, (Choices{1, 0, 2}));
    EXPECT_NEAR(result.gain, 1 - 8.4 / 9, 0.003);
    EXPECT_EQ(result.trials.size(), 6u);
}

TEST(TuneSearch, BeginsWithWhatTakesLongest) {
    Simulated network{{{1, 1}, {3, 3, 2.5}, {2, 2}, {0, 0}}};
    const auto result = network.found({{1, {1}}, {3, {1, 2}}, {2, {1}}, {0, {1}}});
    std::vector<std::pair<std::size_t, std::size_t>> order;
    for (const TuneTrial& trial : result.trials) order.emplace_back(trial.part, trial.alternative);
    EXPECT_EQ(order, (std::vector<std::pair<std::size_t, std::size_t>>{
                         {1, 1}, {1, 2}, {2, 1}, {0, 1}, {3, 1}}));
    EXPECT_EQ(network.tried.back(), result.choices) << "and ends with a look at all of it";
}

TEST(TuneSearch, TiesChangeNothing) {
    Simulated network{{{3, 3, 3}, {1, 1, 1}}};
    EXPECT_EQ(network.found({{3, {1, 2}}, {1, {1, 2}}}).choices, (Choices{0, 0}));
    EXPECT_EQ(network.pairs, 4 * 8u) << "a tie without noise is clear at once";
}

// 64 alternatives that change nothing, or are slower by a little, on a noisy device; many seeds.
TEST(TuneSearch, HardlyEverTakesNoiseForGain) {
    for (const double slower : {0.0, 0.002}) {
        double worst = 0;
        int wrong = 0;
        for (std::uint64_t seed = 0; seed < 200; seed++) {
            Simulated network{{}, 0.01, 1e-5, Random(seed)};
            std::vector<TunePart> parts;
            for (int i = 0; i < 32; i++) {
                network.parts.push_back({1, 1 + 32 * slower, 1 + 32 * slower});
                parts.push_back({1, {1, 2}});
            }
            const Choices choices = network.found(parts).choices;
            const double loss = network.time(choices) / network.time(Choices(32, 0)) - 1;
            worst = std::max(worst, loss);
            wrong += choices != Choices(32, 0);
        }
        EXPECT_LT(worst, 0.005) << slower;
        EXPECT_LT(wrong, 20) << slower;
    }
}

TEST(TuneSearch, FindsGainsOfHalfAPercentInSomeNoise) {
    int found = 0;
    for (std::uint64_t seed = 0; seed < 100; seed++) {
        Simulated network{{{100, 99.5}}, 0.003, 1e-5, Random(seed)};
        found += network.found({{1, {1}}}).choices == Choices{1};
    }
    EXPECT_GT(found, 80);
}

// Twenty parts that save 0.2 % of the network each.
TEST(TuneSearch, FindsManySmallGainsTogether) {
    int found = 0;
    for (std::uint64_t seed = 0; seed < 20; seed++) {
        Simulated network{{}, 0.003, 1e-5, Random(seed)};
        std::vector<TunePart> parts;
        for (int i = 0; i < 20; i++) {
            network.parts.push_back({1, 0.96});
            parts.push_back({1, {1}});
        }
        found += network.time(network.found(parts).choices) < 0.97 * 20;
    }
    EXPECT_GT(found, 17);
}

// What was kept looks faster each time by itself, and is slower together.
TEST(TuneSearch, KeepsTheFirstFormWhereTheLastComparisonSaysNo) {
    const Comparison compare = [](const Choices& a, const Choices& b, std::size_t pairs) {
        const bool together = a == Choices{0, 0} && b == Choices{1, 1};
        return std::vector<TimedPair>(pairs, {1, together ? 1.01 : 0.99});
    };
    const auto result = find_choices({{2, {1}}, {1, {1}}}, compare, [] { return 0.0; });
    EXPECT_EQ(result.choices, (Choices{0, 0}));
    EXPECT_EQ(result.gain, 0);
    ASSERT_EQ(result.trials.size(), 2u);
    EXPECT_TRUE(result.trials[0].kept && result.trials[1].kept);
}

TEST(TuneSearch, StaysWithinItsBudget) {
    Simulated network{{{1, 0.9}, {1, 0.9}, {1, 0.9}}};
    const std::vector<TunePart> parts = {{3, {1}}, {2, {1}}, {1, {1}}};
    EXPECT_EQ(network.found(parts, {.trials = 2}).choices, (Choices{1, 1, 0}));
    double now = 0;
    EXPECT_EQ(network.found(parts, {.seconds = 5}, [&] { return now += 2.5; }).choices,
              (Choices{1, 0, 0}));
    EXPECT_EQ(network.found(parts, {.trials = 0}).choices, (Choices{0, 0, 0}));
}

TEST(TuneSearch, PassesByWhatDoesNotRun) {
    const Comparison compare = [](const Choices&, const Choices& b, std::size_t pairs) {
        return b[0] == 1 ? std::vector<TimedPair>{}
                         : std::vector<TimedPair>(pairs, {1, b[0] == 2 ? 0.9 : 1});
    };
    EXPECT_EQ(find_choices({{1, {1, 2}}}, compare, [] { return 0.0; }).choices, Choices{2});
    EXPECT_EQ(find_choices({}, compare, [] { return 0.0; }).choices, Choices{});
}

}  // namespace
}  // namespace kn::cuda
