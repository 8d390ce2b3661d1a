// Pieces of work on several threads: each once, errors, teams that stay.
#include "executor/in_parallel.h"

#include <atomic>
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace kn::cuda {
namespace {

TEST(ThreadTeam, DoesEachPieceOfEachWorkOnce) {
    for (const std::size_t threads : {1, 2, 7}) {
        ThreadTeam team(threads);
        for (const std::size_t count : {0, 1, 2, 5, 100, 3, 1000}) {
            std::vector<std::atomic<int>> done(count);
            team.run(count, [&](std::size_t i) { done[i]++; });
            for (const std::atomic<int>& each : done) EXPECT_EQ(each, 1);
        }
    }
}

TEST(ThreadTeam, ThrowsTheFirstErrorWhenAllIsDone) {
    ThreadTeam team(3);
    for (int turn = 0; turn < 3; turn++) {
        std::atomic<int> done = 0;
        try {
            team.run(50, [&](std::size_t i) {
                done++;
                if (i % 20 == 7) throw std::runtime_error(std::to_string(i));
            });
            FAIL();
        } catch (const std::runtime_error& error) {
            EXPECT_STREQ(error.what(), "7");
        }
        EXPECT_EQ(done, 50);
    }
    team.run(1, [](std::size_t) {});
}

TEST(ThreadTeam, EndsWithoutWork) { ThreadTeam team(4); }

TEST(InParallel, SumsUp) {
    std::atomic<std::size_t> sum = 0;
    in_parallel(1000, [&](std::size_t i) { sum += i; });
    EXPECT_EQ(sum, 499500u);
}

}  // namespace
}  // namespace kn::cuda
