// Which kernels share a program: those that come out of one have one image.
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include <fmt/core.h>

#include "codegen/emit.h"
#include "executor/kernels.h"
#include "executor/overlap.h"

namespace kn::cuda {
namespace {

PlanKernel kernel(int number, int compile_ms, const std::string& statement = "") {
    const std::string entry = fmt::format("test_{}", number);
    return {
        entry,
        kernel_prelude() + fmt::format("\nKN_KERNEL {}(int* p0) {{\n    {}\n    *p0 = {};\n}}\n",
                                       entry, statement, number),
        {},
        "",
        compile_ms};
}

std::vector<CompiledKernel> compiled(const std::vector<PlanKernel>& kernels) {
    return compile_kernels(kernels,
                           {.arch = "sm_90", .prelude = kernel_prelude(), .few_kernels = 0});
}

std::size_t programs(const std::vector<CompiledKernel>& kernels) {
    std::set<const void*> images;
    for (const CompiledKernel& kernel : kernels) images.insert(kernel.image.get());
    return images.size();
}

TEST(Programs, ShortKernelsShareOneAndLongOnesHaveTheirOwn) {
    const auto all =
        compiled({kernel(0, 5), kernel(1, 700), kernel(2, 5), kernel(3, 700), kernel(4, 5)});
    EXPECT_EQ(programs(all), 3u);
    EXPECT_EQ(all[0].image, all[2].image);
    EXPECT_EQ(all[0].image, all[4].image);
    EXPECT_NE(all[1].image, all[3].image);
    EXPECT_NE(all[0].image, all[1].image);
}

TEST(Programs, FewKernelsHaveTheirOwn) {
    const auto all = compile_kernels({kernel(0, 5), kernel(1, 5)}, {.prelude = kernel_prelude()});
    EXPECT_EQ(programs(all), 2u);
}

TEST(Programs, WhatIsNotSaidGoesByTheText) {
    // More than a program should have, by itself.
    std::string much;
    for (int i = 0; i < 7000; i++) much += "p0[1] += 1;";
    const auto all = compiled({kernel(0, 0), kernel(1, 0, "/*" + much + "*/"), kernel(2, 0)});
    EXPECT_EQ(programs(all), 2u);
    EXPECT_EQ(all[0].image, all[2].image);
}

TEST(Programs, KernelsThatStartEarlyShareOneWithOthers) {
    const auto with_check = [](int number, const char* unwanted) {
        return kernel(number, 5,
                      fmt::format("\n#{} KN_STARTS_EARLY\n#error\n#endif\n"
                                  "    // kn_wait_for_previous()",
                                  unwanted));
    };
    const PlanKernel early = with_wait(with_check(0, "ifndef")), late = with_check(1, "ifdef");
    EXPECT_NE(early.source, with_check(0, "ifndef").source);
    // What does not compile with others is compiled by itself.
    EXPECT_EQ(programs(compiled({early, late})), 1u);
}

}  // namespace
}  // namespace kn::cuda
