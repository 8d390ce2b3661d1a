// A kernel that faults takes the context with it, so this runs in a process of its own.
#include <gmock/gmock.h>

#include "gpu_test.h"
#include "kn/cuda.h"

using namespace kn::cuda;

namespace {

template <class F>
bool throws_lost(F&& f) {
    try {
        f();
    } catch (const ContextLost&) {
        return true;
    }
    return false;
}

int lose_the_context() {
    Device device(0);
    auto cubin = compile("extern \"C\" __global__ void f(int* p) { *p = 1; }",
                         {.arch = device.properties().arch()})
                     .image;
    Library library(cubin);
    Kernel kernel = library.kernel("f");
    Stream stream(device);
    Event event(device);
    DeviceBuffer<int> buffer(device, 100);
    HostBuffer<int> host(100);
    CublasLt lt(device);
    CudnnHandle cudnn(device);
    GraphExec graph =
        capture(stream, [&] { buffer.span().fill_bytes_async(stream, 0); }).instantiate();
    kernel.launch(stream, {}, reinterpret_cast<int*>(8));
    int wrong = 0;
    wrong += !throws_lost([&] { stream.synchronize(); });
    wrong += !device.lost();
    wrong += !throws_lost([&] { buffer.span().to_vector(stream); });
    wrong += !throws_lost([&] { event.record(stream); });
    wrong += !throws_lost([&] { graph.launch(stream); });
    wrong += !throws_lost([&] { DeviceBuffer<int>(device, 1); });
    wrong += !throws_lost([&] { kernel.launch(stream, {}, buffer.span()); });
    wrong += !throws_lost([&] { CudnnHandle{device}; });
    return wrong;
}

}  // namespace

TEST(GpuLostContextDeathTest, EveryObjectSaysSoAndNoneCrashes) {
    KN_REQUIRE_GPU();
    testing::FLAGS_gtest_death_test_style = "threadsafe";
    EXPECT_EXIT(std::exit(lose_the_context()), testing::ExitedWithCode(0), "");
}
