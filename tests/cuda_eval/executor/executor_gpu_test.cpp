// The executor on a GPU, with plans written by hand.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <thread>

#include <kn/cuda_eval/executor.h>
#include <kn/cuda_sys/graph.h>
#include <kn/cuda_sys/memory.h>
#include <kn/cuda_sys/nvrtc.h>

#include "hand_plans.h"

namespace kn::cuda {
namespace {

#define KN_REQUIRE_GPU() \
    if (device_count() == 0) GTEST_SKIP() << why_unavailable()

constexpr std::int64_t size = 1000;

Tensor filled(float start, float step = 0) {
    Tensor out(DType::F32, {size});
    float value = start;
    for (float& x : out.mutable_data<float>()) x = value, value += step;
    return out;
}

std::shared_ptr<const Plan> affine(float weight) {
    return std::make_shared<const Plan>(
        test::affine_plan(Device(0).properties(), size, filled(weight)));
}

// 6 w^2 x, element by element.
void expect_affine(const std::vector<float>& y, const Tensor& x, float weight) {
    ASSERT_EQ(y.size(), static_cast<std::size_t>(size));
    for (std::size_t i = 0; i < y.size(); i++)
        ASSERT_EQ(y[i], 6 * weight * weight * x.data<float>()[i]) << "element " << i;
}
void expect_affine(const std::vector<Tensor>& y, const Tensor& x, float weight) {
    ASSERT_EQ(y.size(), 1u);
    const auto data = y[0].data<float>();
    expect_affine(std::vector<float>(data.begin(), data.end()), x, weight);
}

TEST(GpuExecutor, RunsHostTensors) {
    KN_REQUIRE_GPU();
    for (const bool use_graph : {true, false}) {
        Executor executor(affine(2), Device(0), {.use_graph = use_graph});
        for (int i = 0; i < 3; i++) {
            const Tensor x = filled(static_cast<float>(i), 1);
            expect_affine(executor.run({x}), x, 2);
        }
        EXPECT_EQ(executor.setup().graphs_captured, use_graph ? 1u : 0u);
        EXPECT_EQ(executor.device_bytes(), 4 * 4096u);
    }
}

TEST(GpuExecutor, RefusesWrongInputs) {
    KN_REQUIRE_GPU();
    Executor executor(affine(2), Device(0));
    EXPECT_THROW((void)executor.run({}), GraphError);
    EXPECT_THROW((void)executor.run({Tensor(DType::F64, {size})}), GraphError);
    EXPECT_THROW((void)executor.run({Tensor(DType::F32, {size + 1})}), GraphError);
    EXPECT_THROW(executor.run(Stream(Device(0)), std::vector<DeviceTensor>(), {}), GraphError);
    const Tensor x = filled(1, 1);
    expect_affine(executor.run({x}), x, 2);
}

// Each set of addresses is seen several times: staged copies first, then a graph of its own; more
// sets than are kept, and addresses that are not aligned.
TEST(GpuExecutor, RunsDeviceAddresses) {
    KN_REQUIRE_GPU();
    for (const bool use_graph : {true, false}) {
        const Device device(0);
        Executor executor(affine(3), device, {.use_graph = use_graph});
        Stream stream(device), other(device);
        constexpr std::size_t sets = 7, stride = 1024;
        const Tensor x = filled(1, 0.5f);
        DeviceBuffer<float> in(device, sets * stride), out(device, sets * stride);
        for (int round = 0; round < 4; round++)
            for (std::size_t set = 0; set < sets; set++) {
                const std::size_t offset = set * stride + (set == 6 ? 1 : 0);
                const Stream& on = (set + static_cast<std::size_t>(round)) % 2 ? stream : other;
                const auto source = in.span().subspan(offset, size);
                const auto target = out.span().subspan(offset, size);
                source.upload_async(on, x.data<float>());
                target.fill_bytes_async(on, 0);
                const void* from = source.data();
                void* to = target.data();
                executor.run(on, {&from, 1}, {&to, 1});
                expect_affine(target.to_vector(on), x, 3);
            }
        EXPECT_LE(executor.setup().graphs_captured, use_graph ? 5u : 0u);
    }
}

TEST(GpuExecutor, RunsInsideTheCallersCapture) {
    KN_REQUIRE_GPU();
    const Device device(0);
    Executor executor(affine(3), device);
    Stream stream(device);
    const Tensor x = filled(1, 0.5f);
    DeviceBuffer<float> in(device, size), out(device, size);
    in.span().upload_async(stream, x.data<float>());
    stream.synchronize();
    const void* from = in.data();
    void* to = out.data();
    const GraphExec graph = capture(stream, [&] {
                                executor.run(stream, {&from, 1}, {&to, 1});
                            }).instantiate();
    graph.launch(stream);
    expect_affine(out.span().to_vector(stream), x, 3);
    expect_affine(executor.run({x}), x, 3);
}

TEST(GpuExecutor, TakesStridedTensors) {
    KN_REQUIRE_GPU();
    const Device device(0);
    Executor executor(affine(3), device);
    Stream stream(device);
    const Tensor x = filled(1, 0.5f);
    std::vector<float> backwards(2 * size);
    for (std::size_t i = 0; i < size; i++) backwards[2 * (size - 1 - i)] = x.data<float>()[i];
    const auto in = to_device(stream, backwards);
    DeviceBuffer<float> out(device, 3 * size);
    const auto from = DeviceTensor::dense(in.data(), DType::F32, {size, 2})
                          .slice(1, 0, 1)
                          .flipped(0)
                          .permuted({1, 0});
    const auto to =
        DeviceTensor::dense(out.data(), DType::F32, {3 * size}).slice(0, 1, 3 * size, 3);
    const DeviceTensor row{from.address, DType::F32, {size}, {from.strides[1]}};
    const auto check = [&] {
        const std::vector<float> all = out.span().to_vector(stream);
        std::vector<float> y;
        for (std::size_t i = 0; i < size; i++) {
            y.push_back(all[3 * i + 1]);
            EXPECT_EQ(all[3 * i], 0);
        }
        expect_affine(y, x, 3);
    };
    out.span().fill_bytes_async(stream, 0);
    executor.run(stream, {row}, {to});
    check();
    out.span().fill_bytes_async(stream, 0);
    capture(stream, [&] { executor.run(stream, {row}, {to}); }).instantiate().launch(stream);
    check();
    EXPECT_THROW(executor.run(stream, {from}, {to}), GraphError);
}

TEST(GpuExecutor, NeitherAllocatesNorCompilesInRun) {
    KN_REQUIRE_GPU();
    const Device device(0);
    Executor executor(affine(2), device);
    const Tensor x = filled(1, 1);
    (void)executor.run({x});
    const ExecutorSetup before = executor.setup();
    const std::size_t free = device.memory().free;
    for (int i = 0; i < 50; i++) (void)executor.run({x});
    const ExecutorSetup after = executor.setup();
    EXPECT_EQ(device.memory().free, free);
    EXPECT_EQ(after.allocations, before.allocations);
    EXPECT_EQ(after.kernels_compiled, before.kernels_compiled);
    EXPECT_EQ(after.plans_built, before.plans_built);
    EXPECT_EQ(after.graphs_captured, before.graphs_captured);
}

// Kernels that start early must still see all that those before them wrote, and not overwrite what
// those still read.
TEST(GpuExecutor, KeepsOrderWhereKernelsOverlap) {
    KN_REQUIRE_GPU();
    constexpr std::size_t count = 40;
    for (const std::int64_t n : {1000, 3000001}) {
        const auto plan =
            std::make_shared<const Plan>(test::rotate_plan(Device(0).properties(), n, count));
        Tensor x(DType::I32, {n});
        auto values = x.mutable_data<std::int32_t>();
        std::iota(values.begin(), values.end(), 0);
        std::vector<std::int32_t> expected;
        for (std::int64_t i = 0; i < n; i++) {
            std::int64_t at = i;
            for (std::size_t k = 0; k < count; k++) at = (at * 7 + 1) % n;
            expected.push_back(static_cast<std::int32_t>(at) + static_cast<std::int32_t>(count));
        }
        for (const bool use_graph : {true, false})
            for (const Overlap overlap :
                 {Overlap::None, Overlap::Own, Overlap::All, Overlap::Timed}) {
                Executor executor(plan, Device(0), {.use_graph = use_graph, .overlap = overlap});
                for (int round = 0; round < 3; round++) {
                    const auto y = executor.run({x}).at(0);
                    const auto got = y.data<std::int32_t>();
                    const auto wrong = std::ranges::mismatch(expected, got).in1;
                    ASSERT_EQ(wrong, expected.end())
                        << "element " << wrong - expected.begin() << " of " << n << ", graph "
                        << use_graph << ", overlap " << static_cast<int>(overlap);
                }
            }
    }
}

TEST(GpuExecutor, SharesWeightsAndKernels) {
    KN_REQUIRE_GPU();
    const auto plan = affine(2);
    Executor first(plan, Device(0), {.cache = false});
    EXPECT_EQ(first.setup().kernels_compiled, 1u + 4u);  // and those that copy strided tensors
    EXPECT_EQ(first.setup().allocations, 4u);
    Executor second(plan, Device(0), {.cache = false});
    EXPECT_EQ(second.setup().kernels_compiled, 0u);
    EXPECT_EQ(second.setup().allocations, 3u);
    const Tensor x = filled(1, 1);
    { const Executor moved = std::move(first); }
    expect_affine(second.run({x}), x, 2);
}

TEST(GpuExecutor, ServesThreads) {
    KN_REQUIRE_GPU();
    Executor executor(affine(2), Device(0));
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; t++)
        threads.emplace_back([&executor, t] {
            for (int i = 0; i < 20; i++) {
                const Tensor x = filled(static_cast<float>(t), static_cast<float>(i));
                expect_affine(executor.run({x}), x, 2);
            }
        });
    for (std::thread& thread : threads) thread.join();
}

TEST(GpuExecutor, GivesStoredValuesAndTimes) {
    KN_REQUIRE_GPU();
    Executor executor(affine(2), Device(0));
    const Tensor x = filled(1, 1);
    const auto stored = executor.run_stored({x});
    ASSERT_EQ(stored.size(), 2u);
    EXPECT_EQ(stored[0].second.at(10), 2 * 2 * 11);
    EXPECT_EQ(stored[1].second.at(10), 6 * 4 * 11);
    const auto times = executor.time_steps();
    ASSERT_EQ(times.size(), 2u);
    for (const StepTime& time : times) {
        EXPECT_GT(time.us, 0.1);
        EXPECT_LT(time.us, 1000);
    }
    expect_affine(executor.run({x}), x, 2);
}

TEST(GpuExecutor, SaysHowMuchMemoryIsMissing) {
    KN_REQUIRE_GPU();
    const Device device(0);
    Plan plan = test::affine_plan(device.properties(), size, filled(2));
    plan.arena_bytes = device.memory().total * 2;
    const auto too_large = std::make_shared<const Plan>(plan);
    const auto fits = affine(2);
    Executor warm(fits, device);
    const std::size_t free = device.memory().free;
    for (int i = 0; i < 3; i++) try {
            Executor executor(too_large, device);
            FAIL();
        } catch (const OutOfMemory& error) {
            EXPECT_GT(error.requested_bytes(), plan.arena_bytes);
            EXPECT_NE(std::string(error.what()).find("are free"), std::string::npos)
                << error.what();
        }
    EXPECT_GE(device.memory().free, free);
    const Tensor x = filled(1, 1);
    expect_affine(Executor(fits, device).run({x}), x, 2);
}

TEST(GpuExecutor, RefusesPlansForOtherDevices) {
    KN_REQUIRE_GPU();
    Plan plan = test::affine_plan(Device(0).properties(), size, filled(2));
    plan.device.compute_major = 5;
    EXPECT_THROW(Executor(std::make_shared<const Plan>(plan), Device(0)), Error);
    EXPECT_THROW(Executor(nullptr, Device(0)), Error);
}

// A kernel of the caller's that faults takes the context with it: in a process of its own.
int lose_the_context() {
    const Device device(0);
    const auto fits = affine(2);
    Executor executor(fits, device);
    const Tensor x = filled(1, 1);
    (void)executor.run({x});
    const Library library(compile("extern \"C\" __global__ void f(int* p) { *p = 1; }",
                                  {.arch = device.properties().arch()})
                              .image);
    const Kernel faulty = library.kernel("f");
    const Stream stream(device);
    faulty.launch(stream, {}, reinterpret_cast<int*>(8));
    const auto says_so = [](const auto& body) {
        try {
            body();
        } catch (const ContextLost&) {
            return true;
        }
        return false;
    };
    try {
        stream.synchronize();
    } catch (const ContextLost&) {
    }
    return says_so([&] { (void)executor.run({x}); }) &&
                   says_so([&] { (void)executor.run_stored({x}); }) &&
                   says_so([&] { Executor(fits, device); })
               ? 0
               : 1;
}

TEST(GpuExecutorDeathTest, SaysThatTheDeviceIsLost) {
    KN_REQUIRE_GPU();
    testing::FLAGS_gtest_death_test_style = "threadsafe";
    EXPECT_EXIT(std::exit(lose_the_context()), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace kn::cuda
