// What `kn explain` makes of measured times.
#include "kn/step_sums.h"

#include <gtest/gtest.h>

namespace kn::tool {
namespace {

// A language model on an H200 whose layers were measured alone, in data that was still in the
// cache, and the whole run.
TEST(StepSums, GapsAreWhatTheRunTakesMore) {
    const StepSums sums = add_up({2007.0, 410.2}, 2604.5);
    EXPECT_NEAR(sums.steps_us, 2417.2, 1e-9);
    EXPECT_NEAR(sums.gaps_us, 187.3, 1e-9);
    EXPECT_EQ(sums.overlap_us, 0);
    EXPECT_TRUE(sums.fits());
    EXPECT_EQ(to_text(sums),
              "steps measured alone: 2417.2 us\n+ gaps between steps: 187.3 us\n- overlap of "
              "steps:   0.0 us\n"
              "= whole run:          2604.5 us, of which the steps are 93 %\n");
}

TEST(StepSums, OverlapIsWhatTheRunTakesLess) {
    const StepSums sums = add_up({10, 20, 30}, 48);
    EXPECT_EQ(sums.gaps_us, 0);
    EXPECT_EQ(sums.overlap_us, 12);
    EXPECT_FALSE(sums.fits());
    EXPECT_NE(to_text(sums).find("48.0 us, of which the steps are 125 %: more than 15 % off"),
              std::string::npos);
}

TEST(StepSums, NothingIsNothing) {
    const StepSums sums = add_up({}, 0);
    EXPECT_EQ(sums.gaps_us + sums.overlap_us + sums.steps_us, 0);
    EXPECT_TRUE(sums.fits());
}

}  // namespace
}  // namespace kn::tool
