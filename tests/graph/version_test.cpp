#include "kn/graph/version.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

namespace {

TEST(Version, LinkedIsTheCompiledOne) {
    EXPECT_EQ(kn::version(),
              fmt::format("{}.{}.{}", KN_VERSION_MAJOR, KN_VERSION_MINOR, KN_VERSION_PATCH));
}

}  // namespace
