// kn::Network on a GPU, and what it says where there is none.
#include <gtest/gtest.h>

#include <kn/cuda_eval/backend.h>
#include <kn/cuda_sys/device.h>
#include <kn/graph/builder.h>
#include <kn/graph/network.h>

#include <thread>

namespace kn {
namespace {

Graph small_network() {
    Graph g;
    const Var x = g.input("x", DType::F32, {Dim::symbol("batch"), 3});
    g.output("y", relu(x) * 2.0);
    return g;
}

TEST(CudaBackend, IsRegistered) {
    try {
        const auto backend = backend_for(Device::cuda(0));
        EXPECT_FALSE(backend->takes_symbols());
        EXPECT_GT(cuda::device_count(), 0);
        EXPECT_EQ(Device::best().kind(), Device::Kind::Cuda);
    } catch (const DeviceError& error) {
        EXPECT_EQ(cuda::device_count(), 0);
        EXPECT_NE(std::string(error.what()).find(cuda::why_unavailable()), std::string::npos)
            << error.what();
        EXPECT_EQ(Device::best(), Device::cpu());
    }
    EXPECT_THROW(backend_for(Device::cuda(1000)), DeviceError);
}

TEST(GpuBackend, RunsANetworkForSeveralSizesAndThreads) {
    if (cuda::device_count() == 0) GTEST_SKIP() << cuda::why_unavailable();
    Network network(small_network(), {.device = Device::best()});
    std::vector<std::thread> threads;
    for (std::int64_t batch = 1; batch <= 4; batch++)
        threads.emplace_back([&network, batch] {
            for (int i = 0; i < 5; i++) {
                Tensor x(DType::F32, {batch, 3});
                float value = -2;
                for (float& v : x.mutable_data<float>()) v = value++;
                const auto y = network.run({x});
                ASSERT_EQ(y.at(0).shape(), (Ints{batch, 3}));
                for (std::int64_t j = 0; j < x.size(); j++)
                    EXPECT_EQ(y[0].at(j), std::max(0.0, x.at(j)) * 2);
            }
        });
    for (std::thread& thread : threads) thread.join();
    EXPECT_GT(network.peak_bytes(), 0u);
}

}  // namespace
}  // namespace kn
