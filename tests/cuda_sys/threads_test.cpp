#include <exception>
#include <thread>

#include "gpu_test.h"

namespace {

void run_check(const kn::test::GpuCheck& check) {
    try {
        check.body();
    } catch (const std::exception& e) {
        ADD_FAILURE() << check.name << " threw in a thread: " << e.what();
    }
}

}  // namespace

// Each thread starts at another check, so that different wrappers meet. KN_GPU_CHECKS=REGEX picks
// some of them.
TEST(GpuThreads, AllChecksInFourThreads) {
    KN_REQUIRE_GPU();
    const char* part = std::getenv("KN_GPU_CHECKS");
    std::vector<kn::test::GpuCheck> checks;
    for (const auto& check : kn::test::gpu_checks())
        if (!part || check.name.find(part) != std::string::npos) checks.push_back(check);
    std::vector<std::thread> threads;
    for (std::size_t t = 0; t < 4; ++t)
        threads.emplace_back([&checks, t] {
            for (std::size_t i = 0; i < checks.size(); ++i)
                run_check(checks[(i + t * checks.size() / 4) % checks.size()]);
        });
    for (auto& thread : threads) thread.join();
}

TEST(GpuThreads, ThereAreChecks) { EXPECT_GT(kn::test::gpu_checks().size(), 5u); }
