// Without cuDNN, or with one that has lost a part: run by ctest with tests/fakes/libraries.cpp.
#include <dlfcn.h>
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include <kn/cuda_sys/device.h>

#include "cache/disk_cache.h"
#include "codegen/emit.h"
#include "cuda_eval/gen/check.h"
#include "executor/kernels.h"
#include "lower/library.h"

namespace kn::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class NoCudnn : public ::testing::Test {
  protected:
    void SetUp() override {
        if (cuda::cudnn_version() != 0) GTEST_SKIP() << "cuDNN is there";
    }
};

class BrokenCudnn : public ::testing::Test {
  protected:
    void SetUp() override {
        if (cuda::cudnn_version() == 0 || cuda::why_no_cudnn().empty())
            GTEST_SKIP() << "cuDNN is whole, or not there at all";
    }
};

bool uses_cudnn(const cuda::Plan& plan) {
    return std::ranges::any_of(plan.steps, [](const cuda::Step& s) {
        return std::holds_alternative<cuda::CudnnWork>(s.work);
    });
}

// Reasons of a rule that took nothing.
std::string refusals(const cuda::Plan& plan, const std::string& rule) {
    std::string out;
    for (const cuda::Decision& d : plan.decisions)
        if (d.rule == rule && !d.taken) out += d.reason + "\n";
    return out;
}

// A convolution with its bias and relu, then attention between its pixels.
Graph conv_and_attention(DType dtype) {
    Graph g;
    const Var x = g.input("x", dtype, Shape::of({2, 8, 4, 4}));
    const Var y = relu(conv(x, weight(g, {24, 8, 3, 3}, dtype, 1), weight(g, {24}, dtype, 2),
                            {.pads = {1, 1, 1, 1}}));
    const Var rows = permute(reshape(y, Shape::of({2, 3, 8, 16})), {1, 0, 3, 2});
    const auto part = [&](std::int64_t i) {
        return reshape(slice(rows, 0, i, i + 1), Shape::of({2, 1, 16, 8}));
    };
    g.output("z", attention(part(0), part(1), part(2), {}, 0.35));
    return g;
}

// A fresh folder's cache, and a problem that cuDNN has kernels for.
struct Question {
    std::filesystem::path folder =
        std::filesystem::temp_directory_path() / ("kn-missing-cudnn-" + std::to_string(::getpid()));
    cuda::DiskCache cache{folder, 1 << 20};
    cuda::ConvDesc conv;
    Question() {
        conv.x = cuda::dense_desc(DType::F16, {1, 64, 8, 8}, cuda::channels_last_order(4));
        conv.w = cuda::dense_desc(DType::F16, {64, 64, 1, 1}, cuda::channels_last_order(4));
        conv.y = conv.x;
    }
    ~Question() { std::filesystem::remove_all(folder); }
    cuda::CudnnSupport ask() { return cuda::cudnn_support(conv, h200(), 1 << 20, true, &cache); }
    bool is_stored() const { return std::filesystem::exists(folder); }
};

TEST_F(NoCudnn, KernelsOfOursDoItAllAndThePlanSaysWhy) {
    for (const DType dtype : {DType::F32, DType::F16}) {
        const cuda::Plan plan = expect_same(conv_and_attention(dtype));
        EXPECT_FALSE(uses_cudnn(plan)) << plan.to_string();
        EXPECT_THAT(refusals(plan, "convolution"),
                    AllOf(HasSubstr("cuDNN is not there: "), HasSubstr("libcudnn.so")));
        if (dtype == DType::F16) {
            EXPECT_THAT(refusals(plan, "library-attention"), HasSubstr("cuDNN is not there: "));
        }
    }
}

TEST_F(NoCudnn, NetworksOfTheZooArePlannedAndCompile) {
    const std::pair<std::string, Precision> cases[] = {{"sd_unet-dynamo", Precision::F16},
                                                       {"timm_test_resnet-script", Precision::F32},
                                                       {"video_conv3d-dynamo", Precision::BF16}};
    std::vector<cuda::PlanKernel> kernels;
    for (const auto& [name, precision] : cases) {
        const auto plan =
            cuda::plan(*case_graph(test_data() + "/zoo/" + name), h200(), {.precision = precision});
        EXPECT_FALSE(uses_cudnn(plan)) << name;
        kernels.insert(kernels.end(), plan.kernels.begin(), plan.kernels.end());
    }
    std::ranges::sort(kernels, {}, &cuda::PlanKernel::source);
    const auto twice = std::ranges::unique(kernels, {}, &cuda::PlanKernel::source);
    kernels.erase(twice.begin(), twice.end());
    EXPECT_NO_THROW(
        cuda::compile_kernels(kernels, {.arch = "sm_90", .prelude = cuda::kernel_prelude()}));
    fmt::print("{} kernels compiled\n", kernels.size());
}

TEST_F(NoCudnn, WhatNobodyCanDoNamesItAndTheOperation) {
    try {
        cuda::plan(conv_and_attention(DType::F16), h200(),
                   {.disabled_rules = {"own-kernel", "tensor-attention"}});
        FAIL();
    } catch (const UnsupportedError& error) {
        EXPECT_THAT(error.what(), AllOf(HasSubstr("Attention"), HasSubstr("cuDNN is not there: "),
                                        HasSubstr("libcudnn.so")));
    }
}

TEST_F(NoCudnn, IsNotRememberedForNextTime) {
    Question question;
    EXPECT_THAT(question.ask().reason, HasSubstr("cuDNN is not there: "));
    EXPECT_FALSE(question.is_stored());
}

TEST_F(BrokenCudnn, IsNotRememberedForNextTime) {
    Question question;
    const cuda::CudnnSupport support = question.ask();
    EXPECT_FALSE(support.supported);
    EXPECT_THAT(support.reason, AllOf(HasSubstr("cuDNN is not there: "), HasSubstr("libcudnn_")));
    EXPECT_FALSE(question.is_stored());
}

TEST_F(BrokenCudnn, LeavesAllToKernelsOfOurs) {
    const cuda::Plan plan = expect_same(conv_and_attention(DType::F16));
    EXPECT_FALSE(uses_cudnn(plan)) << plan.to_string();
    EXPECT_THAT(refusals(plan, "convolution"), HasSubstr("libcudnn_"));
}

// Each of ctest's tests is a process of its own.
TEST(OnDemand, NetworksOnTheCpuLoadNoLibrary) {
    const auto is_loaded = [](const char* name) {
        return dlopen(name, RTLD_NOW | RTLD_NOLOAD) != nullptr;
    };
    const auto any = [&] {
        return is_loaded("libcudnn.so.9") || is_loaded("libcublasLt.so.13") ||
               is_loaded("libcublasLt.so.12") || is_loaded("libnvrtc.so.13") ||
               is_loaded("libnvrtc.so.12");
    };
    if (any()) GTEST_SKIP() << "an earlier test of this process has loaded one";
    const Graph g = conv_and_attention(DType::F32);
    cpu::run(optimize(g), random_inputs(g, {}, 0));
    EXPECT_FALSE(any());
}

TEST(OnDemand, PlansWithoutConvolutionsAndAttentionLoadNoCudnn) {
    if (dlopen("libcudnn.so.9", RTLD_NOW | RTLD_NOLOAD))
        GTEST_SKIP() << "an earlier test of this process has loaded it";
    Graph g;
    const Var x = g.input("x", DType::F32, Shape::of({64, 64}));
    g.output("y", softmax(matmul(x, weight(g, {64, 64})), -1));
    cuda::plan(g, h200(), {.precision = Precision::F16});
    EXPECT_EQ(dlopen("libcudnn.so.9", RTLD_NOW | RTLD_NOLOAD), nullptr);
}

}  // namespace
}  // namespace kn::test
