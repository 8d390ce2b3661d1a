#include "kn/cuda_sys/device.h"

#include <gmock/gmock.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "gpu_test.h"

using namespace kn::cuda;
using testing::HasSubstr;

TEST(Device, ReasonIsGivenExactlyWhenThereIsNone) {
    EXPECT_EQ(device_count() == 0, !why_unavailable().empty()) << why_unavailable();
    EXPECT_GE(device_count(), 0);
}

TEST(Device, IndexOutOfRangeIsAnError) {
    for (int index : {-1, device_count(), device_count() + 7}) {
        try {
            Device device(index);
            FAIL() << "device " << index << " was accepted";
        } catch (const Error& e) {
            EXPECT_THAT(e.what(), HasSubstr("no device " + std::to_string(index)));
            EXPECT_EQ(e.info().library, ErrorSource::Kn);
        }
    }
}

TEST(Device, BestWithoutGpuSaysWhy) {
    if (device_count() > 0) GTEST_SKIP() << "there is a GPU";
    try {
        Device::best();
        FAIL();
    } catch (const Error& e) {
        EXPECT_THAT(e.what(), HasSubstr(why_unavailable()));
    }
}

TEST(Device, VersionsAreKnownWithoutDriver) {
    Versions v = versions();
    EXPECT_GE(v.cudart, 120000);
    EXPECT_GE(v.nvrtc, 120000);
    EXPECT_GE(v.cublaslt, 120000);
    EXPECT_GE(v.cudnn, 90000);
    EXPECT_EQ(v.cudnn_frontend, 13200);
    EXPECT_THAT(to_string(v), HasSubstr("cudnn 9."));
}

TEST(DeviceProperties, AreReadFromTheDumpOfAnH200) {
    std::ifstream file(kn::test::data_folder() + "/h200.json");
    std::string text{std::istreambuf_iterator<char>(file), {}};
    DeviceProperties p = device_properties_from_json(text);
    EXPECT_EQ(p.name, "NVIDIA H200");
    EXPECT_EQ(p.arch(), "sm_90");
    EXPECT_EQ(p.sm_count, 132);
    EXPECT_EQ(p.shared_per_block_optin, 232448u);
    EXPECT_EQ(p.shared_per_sm, 233472u);
    EXPECT_EQ(p.max_grid[0], 2147483647);
    EXPECT_TRUE(p.cooperative_launch);
    EXPECT_EQ(nlohmann::json::parse(to_json(p)), nlohmann::json::parse(text));
}

TEST(DeviceProperties, BrokenJsonIsAnError) {
    EXPECT_THROW(device_properties_from_json("{"), Error);
    EXPECT_THROW(device_properties_from_json("{}"), Error);
    EXPECT_THROW(device_properties_from_json("[1]"), Error);
}

TEST(Error, NamesLibraryCallStatusFileAndLine) {
    try {
        KN_CUDA_CHECK(cudaErrorInvalidValue);
        FAIL();
    } catch (const Error& e) {
        EXPECT_THAT(e.what(), HasSubstr("cudart: cudaErrorInvalidValue: invalid argument (1) at "
                                        "device_test.cpp:"));
        EXPECT_EQ(e.info().status, cudaErrorInvalidValue);
    }
}

TEST(Error, OutOfMemoryAndLostContextAreTheirOwnTypes) {
    EXPECT_THROW(KN_CUDA_CHECK(cudaErrorMemoryAllocation), OutOfMemory);
    EXPECT_NO_THROW(KN_CUDA_CHECK(cudaSuccess));
}

KN_GPU_TEST(GpuDevice, PropertiesAreSane) {
    for (int i = 0; i < device_count(); ++i) {
        const DeviceProperties& p = Device(i).properties();
        EXPECT_FALSE(p.name.empty());
        EXPECT_GE(p.compute_major, 5);
        EXPECT_GT(p.sm_count, 0);
        EXPECT_EQ(p.warp_size, 32);
        EXPECT_GE(p.shared_per_block_optin, p.shared_per_block);
        EXPECT_GT(p.total_memory, std::size_t{1} << 30);
        EXPECT_GT(p.l2_bytes, 0u);
        EXPECT_GT(p.clock_khz, 0);
        EXPECT_EQ(p.arch(),
                  "sm_" + std::to_string(p.compute_major) + std::to_string(p.compute_minor));
    }
}

KN_GPU_TEST(GpuDevice, BestIsAtLeastAsGoodAsAll) {
    for (int i = 0; i < device_count(); ++i)
        EXPECT_GE(Device::best().properties().compute_major, Device(i).properties().compute_major);
}

KN_GPU_TEST(GpuDevice, GuardRestoresTheCurrentDevice) {
    Device before = Device::current();
    {
        DeviceGuard guard(Device(device_count() - 1));
        EXPECT_EQ(Device::current(), Device(device_count() - 1));
    }
    EXPECT_EQ(Device::current(), before);
}

KN_GPU_TEST(GpuDevice, MemoryIsReported) {
    MemoryInfo info = Device(0).memory();
    EXPECT_GT(info.free, 0u);
    EXPECT_LE(info.free, info.total);
    Device(0).synchronize();
}
