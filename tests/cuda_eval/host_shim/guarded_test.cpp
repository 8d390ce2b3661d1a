#include "guarded.h"

#include <gtest/gtest.h>

namespace kn::cuda {
namespace {

// The shim's own eyes: one element beside a buffer is seen where the forbidden page begins, and
// what is thrown passes.
TEST(HostShim, SeesWhatLiesOutside) {
    for (const std::size_t bytes :
         {std::size_t{16}, std::size_t{4000}, std::size_t{4096}, std::size_t{10000}}) {
        const GuardedMemory ends(bytes, true), starts(bytes, false);
        volatile std::byte* const end = ends.data() + (bytes + 15) / 16 * 16;
        volatile std::byte* const start = starts.data();
        EXPECT_TRUE(stays_inside([&] { end[-1] = start[0]; })) << bytes;
        EXPECT_FALSE(stays_inside([&] { (void)end[0]; })) << bytes;
        EXPECT_FALSE(stays_inside([&] { start[-1] = std::byte{1}; })) << bytes;
    }
    EXPECT_THROW((void)stays_inside([] { throw 1; }), int);
}

}  // namespace
}  // namespace kn::cuda
