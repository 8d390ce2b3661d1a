// KN_GPU_TEST(Suite, Name) { ... }: a test that is skipped, with the reason, where there is no GPU.
// Every one is also run from four threads at once by threads_test.cpp, so its body keeps to itself.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "kn/cuda_sys/device.h"

namespace kn::test {

/// The folder tests/data: where it was at build time, or where the environment variable
/// KN_TEST_DATA says it is now.
inline std::string data_folder() {
    const char* moved = std::getenv("KN_TEST_DATA");
    return moved ? moved : KN_TEST_DATA;
}

struct GpuCheck {
    std::string name;
    void (*body)();
};

inline std::vector<GpuCheck>& gpu_checks() {
    static std::vector<GpuCheck> checks;
    return checks;
}

struct RegisterGpuCheck {
    RegisterGpuCheck(const char* name, void (*body)()) { gpu_checks().push_back({name, body}); }
};

}  // namespace kn::test

#define KN_REQUIRE_GPU() \
    if (kn::cuda::device_count() == 0) GTEST_SKIP() << kn::cuda::why_unavailable()

#define KN_GPU_TEST(suite, name)                                                           \
    static void suite##_##name##_body();                                                   \
    static const kn::test::RegisterGpuCheck suite##_##name##_check{#suite "." #name,       \
                                                                   suite##_##name##_body}; \
    TEST(suite, name) {                                                                    \
        KN_REQUIRE_GPU();                                                                  \
        suite##_##name##_body();                                                           \
    }                                                                                      \
    static void suite##_##name##_body()
