#include "kn/cuda_sys/memory.h"

#include <gmock/gmock.h>

#include <numeric>

#include "gpu_test.h"
#include "kn/cuda_sys/event.h"

using namespace kn::cuda;
using testing::Each;
using testing::HasSubstr;

namespace {
std::vector<int> iota(std::size_t n, int start) {
    std::vector<int> v(n);
    std::iota(v.begin(), v.end(), start);
    return v;
}
}  // namespace

TEST(Memory, HostBufferWorksWithoutDriver) {
    HostBuffer<int> buffer(1000);
    EXPECT_EQ(buffer.pinned(), device_count() > 0);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % 256, 0u);
    for (std::size_t i = 0; i < buffer.size(); ++i) buffer[i] = static_cast<int>(i);
    HostBuffer<int> moved = std::move(buffer);
    EXPECT_EQ(buffer.data(), nullptr);
    EXPECT_EQ(moved[999], 999);
    EXPECT_EQ(HostBuffer<int>(0).data(), nullptr);
}

TEST(Memory, SizesThatOverflowAreRefused) {
    EXPECT_THROW(HostBuffer<double>(~std::size_t{0} / 2), Error);
}

KN_GPU_TEST(GpuMemory, RoundTripThroughPageableAndPinned) {
    Device device(0);
    Stream stream(device);
    auto host = iota(100003, 7);
    DeviceBuffer<int> x(device, host.size());
    x.span().upload_async(stream, host);
    HostBuffer<int> pinned(host.size());
    EXPECT_TRUE(pinned.pinned());
    x.span().download_async(stream, pinned.span());
    stream.synchronize();
    EXPECT_TRUE(std::equal(host.begin(), host.end(), pinned.data()));
    EXPECT_EQ(x.span().to_vector(stream), host);
    pinned[5] = -1;
    x.span().upload_async(stream, pinned.span());
    EXPECT_EQ(x.span().to_vector(stream)[5], -1);
}

KN_GPU_TEST(GpuMemory, DeviceToDeviceAndFill) {
    Device device(0);
    Stream stream(device);
    auto x = to_device(stream, iota(1000, 0));
    DeviceBuffer<int> y(device, 1000);
    y.span().fill_bytes_async(stream, 0xff);
    y.span().subspan(10, 20).copy_async(stream, x.span().subspan(500, 20));
    auto got = y.span().to_vector(stream);
    EXPECT_EQ(got[9], -1);
    EXPECT_EQ(got[10], 500);
    EXPECT_EQ(got[29], 519);
    EXPECT_EQ(got[30], -1);
}

KN_GPU_TEST(GpuMemory, BetweenDevices) {
    if (device_count() < 2) return;
    Stream s0{Device(0)}, s1{Device(1)};
    auto host = iota(5000, 3);
    auto x = to_device(s0, host);
    DeviceBuffer<int> y(Device(1), host.size());
    y.span().copy_async(s0, x.span());
    s0.synchronize();
    EXPECT_EQ(y.span().to_vector(s1), host);
    EXPECT_EQ(Device::current(), Device(0));
}

KN_GPU_TEST(GpuMemory, RowsWithPitches) {
    Stream stream{Device(0)};
    auto host = iota(12, 0);  // 3 rows of 4
    DeviceBuffer<int> image(Device(0), 30);
    image.span().fill_bytes_async(stream, 0);
    copy_rows_async(stream, image.data(), 10 * sizeof(int), host.data(), 4 * sizeof(int),
                    3 * sizeof(int), 3);
    auto got = image.span().to_vector(stream);
    EXPECT_EQ(got[0], 0);
    EXPECT_EQ(got[2], 2);
    EXPECT_EQ(got[3], 0);
    EXPECT_EQ(got[10], 4);
    EXPECT_EQ(got[22], 10);
    EXPECT_THROW(copy_rows_async(stream, image.data(), 4, host.data(), 16, 8, 2), Error);
}

KN_GPU_TEST(GpuMemory, MoreThanTheCardHasIsOutOfMemoryAndLessWorks) {
    Device device(0);
    Stream stream(device);
    std::size_t total = device.memory().total;
    try {
        DeviceMemory memory(device, total + (std::size_t{1} << 30));
        FAIL() << "allocated more than the card has";
    } catch (const OutOfMemory& e) {
        EXPECT_EQ(e.requested_bytes(), total + (std::size_t{1} << 30));
        EXPECT_THAT(e.what(), HasSubstr("out of memory"));
    }
    DeviceBuffer<int> smaller(device, std::size_t{1} << 24);
    smaller.span().fill_bytes_async(stream, 1);
    EXPECT_THAT(smaller.span().subspan(0, 100).to_vector(stream), Each(0x01010101));
}

KN_GPU_TEST(GpuMemory, MismatchesSayWhatIsWrong) {
    Stream stream{Device(0)};
    DeviceBuffer<int> x(Device(0), 10);
    std::vector<int> nine(9);
    EXPECT_THROW(x.span().upload_async(stream, nine), Error);
    EXPECT_THROW(x.span().subspan(5, 6), Error);
    EXPECT_THROW(x.span().subspan(11, 0), Error);
    EXPECT_NO_THROW(x.span().subspan(10, 0));
}

KN_GPU_TEST(GpuMemory, ArenaCutsAlignedSpans) {
    Arena arena(Device(0), 4096);
    auto a = arena.allocate<char>(100);
    auto b = arena.allocate<double>(10);
    EXPECT_EQ(reinterpret_cast<char*>(b.data()) - a.data(), 256);
    EXPECT_EQ(arena.used(), 512u);
    EXPECT_THROW(arena.allocate<char>(4000), OutOfMemory);
    EXPECT_EQ(arena.used(), 512u);
    EXPECT_EQ(arena.at<char>(256, 1).data(), reinterpret_cast<char*>(b.data()));
    EXPECT_THROW(arena.at<int>(4094, 1), Error);
    EXPECT_THROW(arena.at<int>(6, 1), Error);
    arena.reset();
    EXPECT_EQ(arena.allocate<char>(4096).size(), 4096u);
}

KN_GPU_TEST(GpuMemory, MovedFromBuffersAreEmpty) {
    DeviceMemory x(Device(0), 100);
    void* data = x.data();
    DeviceMemory y = std::move(x);
    EXPECT_EQ(x.data(), nullptr);
    EXPECT_EQ(y.data(), data);
    x = std::move(y);
    EXPECT_EQ(x.data(), data);
    EXPECT_EQ(DeviceMemory(Device(0), 0).data(), nullptr);
}

KN_GPU_TEST(GpuStream, EventsOrderStreams) {
    Device device(0);
    Stream first(device), second(device, 100);
    auto host = iota(1 << 20, 1);
    HostBuffer<int> pinned(host.size());
    std::copy(host.begin(), host.end(), pinned.data());
    DeviceBuffer<int> x(device, host.size()), y(device, host.size());
    Event uploaded(device, Event::Timing::Off);
    x.span().upload_async(first, pinned.span());
    uploaded.record(first);
    second.wait(uploaded);
    y.span().copy_async(second, x.span());
    EXPECT_EQ(y.span().to_vector(second), host);
    EXPECT_TRUE(second.done());
    EXPECT_TRUE(uploaded.done());
    EXPECT_FALSE(second.capturing());
}

KN_GPU_TEST(GpuStream, ElapsedTimeIsPositive) {
    Device device(0);
    Stream stream(device);
    Event start(device), stop(device);
    DeviceBuffer<char> x(device, 1 << 26);
    start.record(stream);
    x.span().fill_bytes_async(stream, 0);
    stop.record(stream);
    stop.synchronize();
    EXPECT_GT(elapsed_ms(start, stop), 0.0f);
    EXPECT_LT(elapsed_ms(start, stop), 10000.0f);
}

KN_GPU_TEST(GpuStream, ObjectsOfTwoDevicesDoNotMix) {
    if (device_count() < 2) return;
    Event event{Device(0)};
    Stream stream{Device(1)};
    EXPECT_THROW(event.record(stream), Error);
}
