// OpenBLAS's work buffers under several threads at once.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "cpu/blas.h"

namespace {

TEST(CpuBlas, ThreadsGetBuffersOfTheirOwn) {
    constexpr int threads = 4, rounds = 100000;
    std::atomic<int> shared{0};
    // Fresh buffers are zero pages; those that products have used are not.
    std::vector<void*> buffers;
    for (int t = 0; t < 2 * threads; ++t) buffers.push_back(blas_memory_alloc(0));
    for (void* buffer : buffers) *static_cast<int*>(buffer) = 0;
    for (void* buffer : buffers) blas_memory_free(buffer);
    std::vector<std::jthread> workers;
    for (int t = 0; t < threads; ++t)
        workers.emplace_back([&] {
            for (int i = 0; i < rounds; ++i) {
                // How many hold this buffer now; whoever finds it held already shares it.
                void* buffer = blas_memory_alloc(0);
                std::atomic_ref<int> holders(*static_cast<int*>(buffer));
                if (holders.fetch_add(1) > 0) ++shared;
                holders.fetch_sub(1);
                blas_memory_free(buffer);
            }
        });
    workers.clear();
    EXPECT_EQ(shared, 0) << "times that two threads held one buffer, of " << threads * rounds;
}

}  // namespace
