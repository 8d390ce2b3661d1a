// Libraries that are missing: run by ctest with tests/fakes/libraries.cpp.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cudnn_cases.h"
#include "kn/cuda_sys/cublaslt.h"
#include "kn/cuda_sys/device.h"
#include "kn/cuda_sys/nvrtc.h"

namespace kn::test {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

class NoLibraries : public testing::Test {
  protected:
    void SetUp() override {
        if (versions().cudnn || versions().nvrtc || versions().cublaslt)
            GTEST_SKIP() << "the libraries are there";
    }
};

template <class F>
std::string message_of(F&& call) {
    try {
        call();
    } catch (const LibraryMissing& error) {
        return error.what();
    }
    return "no LibraryMissing was thrown";
}

TEST_F(NoLibraries, AreListedWithTheLoadersReason) {
    const auto is_missing = [](const char* title, const char* file) {
        return AllOf(HasSubstr(std::string(title) + " is not there: "), HasSubstr(file),
                     HasSubstr("cannot open shared object file"));
    };
    EXPECT_THAT(
        missing_libraries(),
        ElementsAre(is_missing("NVRTC", "libnvrtc.so"), is_missing("cuBLASLt", "libcublasLt.so"),
                    is_missing("cuBLAS", "libcublas.so"), is_missing("cuDNN", "libcudnn.so")));
    EXPECT_THAT(why_no_cudnn(), HasSubstr("libcudnn.so"));
    EXPECT_THAT(to_string(versions()), HasSubstr("cudnn none"));
}

TEST_F(NoLibraries, CallsThatNeedThemSaySo) {
    const DeviceProperties device = h200();
    const ConvDesc conv{.x = channels_last(DataType::F16, {1, 64, 8, 8}),
                        .w = channels_last(DataType::F16, {64, 64, 1, 1}),
                        .y = channels_last(DataType::F16, {1, 64, 8, 8})};
    const std::string stored = "kn-cudnn-plan 91900 eng0 0 0 0 1\n" + to_text(conv) + "\n{}";
    EXPECT_THAT(message_of([&] { list_candidates(conv, device); }),
                HasSubstr("cuDNN is not there: "));
    EXPECT_THAT(message_of([&] { build_plan(conv, device, "eng0"); }),
                HasSubstr("cuDNN is not there: "));
    EXPECT_THAT(message_of([&] { plan_candidates(conv, device); }),
                HasSubstr("cuDNN is not there: "));
    EXPECT_THAT(message_of([&] { load_plan(conv, device, stored); }),
                HasSubstr("cuDNN is not there: "));
    EXPECT_THAT(message_of([&] { compile("", {}); }), HasSubstr("NVRTC is not there: "));
    EXPECT_THAT(message_of([&] { MatmulAlgo().describe(); }), HasSubstr("cuBLASLt is not there: "));
}

// Also run where the loader's own search finds none.
TEST(OnDemand, LibrariesThatWereThereAtBuildTimeAreFound) {
    if (versions().cudnn == 0) GTEST_SKIP() << "they are not there";
    EXPECT_THAT(missing_libraries(), testing::IsEmpty());
    EXPECT_EQ(why_no_cudnn(), "");
}

TEST(OnDemand, WhatCudnnWouldOpenForEveryQuestionStaysOpen) {
    if (cudnn_version() == 0) GTEST_SKIP() << "cuDNN is not there";
    const std::string name = "libnvrtc.so." + std::to_string(CUDART_VERSION / 1000);
    EXPECT_NE(dlopen(name.c_str(), RTLD_LAZY | RTLD_NOLOAD), nullptr) << name;
}

}  // namespace
}  // namespace kn::test
