// OpenBLAS's work buffers under several threads at once.
#include <gtest/gtest.h>

#include <atomic>
#include <barrier>
#include <set>
#include <thread>
#include <vector>

#include "cpu/blas.h"

namespace {

TEST(CpuBlas, ThreadsThatAskAtOnceGetBuffersOfTheirOwn) {
    constexpr int threads = 4, rounds = 5000;
    std::vector<void*> buffers(threads);
    std::atomic<int> shared{0};
    std::barrier ask(threads);
    const auto check = [&]() noexcept {
        if (std::set<void*>(buffers.begin(), buffers.end()).size() != threads) ++shared;
    };
    std::barrier compare(threads, check);
    std::vector<std::jthread> workers;
    for (int t = 0; t < threads; ++t)
        workers.emplace_back([&, t] {
            for (int i = 0; i < rounds; ++i) {
                ask.arrive_and_wait();
                buffers[static_cast<std::size_t>(t)] = blas_memory_alloc(0);
                compare.arrive_and_wait();
                blas_memory_free(buffers[static_cast<std::size_t>(t)]);
            }
        });
    workers.clear();
    EXPECT_EQ(shared, 0) << "rounds in which two threads got one buffer, of " << rounds;
}

}  // namespace
