// Where cuDNN cannot do it, kernels of ours can: run by ctest with tests/fakes/libraries.cpp.
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include <kn/cuda_sys/device.h>

#include "cache/disk_cache.h"
#include "cuda_eval/gen/check.h"
#include "lower/library.h"

namespace kn::test {
namespace {

TEST(OldCudnn, LeavesConvolutionsToKernelsOfOurs) {
    if (cuda::versions().cudnn != 90000) GTEST_SKIP() << "cuDNN is not an old one";
    Graph g;
    Random random(3);
    const auto weight = [&](const Ints& shape) {
        return g.constant(random_tensor(DType::F32, shape, random));
    };
    const Var x = g.input("x", DType::F32, Shape::of({2, 3, 9, 9}));
    g.output("y", relu(conv(x, weight({5, 3, 3, 3}), weight({5}),
                            {.strides = {2, 2}, .pads = {1, 1, 1, 1}})));
    const cuda::Plan plan = expect_same(g);
    for (const cuda::Step& step : plan.steps)
        EXPECT_FALSE(std::holds_alternative<cuda::CudnnWork>(step.work)) << step.name;
    const auto refused = [&](const cuda::Decision& d) {
        return d.rule == "convolution" && !d.taken && !d.reason.empty();
    };
    EXPECT_TRUE(std::ranges::any_of(plan.decisions, refused)) << plan.to_string();
}

// That there is no device to ask is no answer for next time.
TEST(OldCudnn, IsNotRememberedForWhatItCouldNotSay) {
    if (cuda::versions().cudnn != 90000) GTEST_SKIP() << "cuDNN is not an old one";
    if (cuda::device_count() > 0) GTEST_SKIP() << "there is a device to ask";
    const auto folder =
        std::filesystem::temp_directory_path() / ("kn-old-cudnn-" + std::to_string(::getpid()));
    cuda::DiskCache cache(folder, 1 << 20);
    cuda::ConvDesc conv;
    conv.x = cuda::dense_desc(DType::F32, {1, 8, 8, 8}, {0, 1, 2, 3});
    conv.w = cuda::dense_desc(DType::F32, {8, 8, 1, 1}, {0, 1, 2, 3});
    conv.y = conv.x;
    EXPECT_FALSE(cuda::cudnn_support(conv, h200(), 1 << 20, false, &cache).supported);
    EXPECT_FALSE(std::filesystem::exists(folder));
    std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace kn::test
