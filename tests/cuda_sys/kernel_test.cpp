#include <gmock/gmock.h>

#include <cstring>

#include "gpu_test.h"
#include "kn/cuda_sys/event.h"
#include "kn/cuda_sys/graph.h"
#include "kn/cuda_sys/library.h"
#include "kn/cuda_sys/nvrtc.h"

using namespace kn::cuda;
using testing::Each;
using testing::HasSubstr;

namespace {

const char* const source = R"(
#include "shared.h"
__constant__ float factor;
extern "C" __global__ void axpy(float a, const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = apply(a, x[i], y[i]);
}
extern "C" __global__ void scale_by_factor(float* x, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) x[i] *= factor;
}
// Reverses each block's 256 * N values through dynamic shared memory.
template <typename T, int N>
__global__ void reverse(T* x) {
    extern __shared__ char bytes[];
    T* shared = reinterpret_cast<T*>(bytes);
    T* mine = x + blockIdx.x * blockDim.x * N;
    for (int i = threadIdx.x; i < blockDim.x * N; i += blockDim.x) shared[i] = mine[i];
    __syncthreads();
    for (int i = threadIdx.x; i < blockDim.x * N; i += blockDim.x)
        mine[i] = shared[blockDim.x * N - 1 - i];
}
)";

CompileOptions options(const std::string& arch) {
    return {
        .arch = arch,
        .headers =
            {{"shared.h",
              "__device__ inline float apply(float a, float x, float y) { return a * x + y; }"}},
        .name_expressions = {"reverse<float, 2>", "reverse<double, 32>"}};
}

const CompiledProgram& program() {
    static const CompiledProgram compiled = compile(source, options(Device(0).properties().arch()));
    return compiled;
}

Kernel get(const std::string& name) { return Library(program().image).kernel(name); }

}  // namespace

TEST(Nvrtc, CompilesToCubinForAmpereAndHopper) {
    for (const char* arch : {"sm_80", "sm_90", "sm_90a"}) {
        CompiledProgram program = compile(source, options(arch));
        ASSERT_GT(program.image.size(), 1000u) << arch;
        EXPECT_EQ(std::memcmp(program.image.data(),
                              "\x7f"
                              "ELF",
                              4),
                  0)
            << arch;
        EXPECT_EQ(program.lowered_names.at("reverse<float, 2>"), "_Z7reverseIfLi2EEvPT_") << arch;
        EXPECT_EQ(program.log, "") << arch;
    }
}

TEST(Nvrtc, CompilesToPtx) {
    CompiledProgram program = compile(source, options("compute_90"));
    std::string text(reinterpret_cast<const char*>(program.image.data()));
    EXPECT_THAT(text, HasSubstr(".target sm_90"));
    EXPECT_THAT(text, HasSubstr(".entry axpy"));
}

TEST(Nvrtc, ErrorHoldsLogAndNumberedSource) {
    try {
        compile("__global__ void f() {\n  undeclared = 1;\n}\n", {.name = "bad.cu"});
        FAIL();
    } catch (const CompileError& e) {
        EXPECT_THAT(e.log(), HasSubstr("bad.cu(2)"));
        EXPECT_THAT(e.what(), HasSubstr("   2 |   undeclared = 1;"));
        EXPECT_THAT(e.what(), HasSubstr("nvrtc: nvrtcCompileProgram"));
        EXPECT_EQ(e.info().library, ErrorSource::Nvrtc);
    }
}

TEST(Nvrtc, UnknownOptionsAndTargetsAreErrors) {
    EXPECT_THROW(compile("", {.flags = {"--no-such-flag"}}), Error);
    EXPECT_THROW(compile("", {.arch = "gfx90"}), Error);
    EXPECT_THROW(compile("", {.arch = "sm_12345"}), Error);
    EXPECT_THROW(compile("", {.name_expressions = {"no_such<int>"}}), Error);
}

TEST(Nvrtc, KnowsItsTargets) { EXPECT_THAT(compile_targets(), testing::IsSupersetOf({80, 90})); }

TEST(Library, WithoutDriverSaysWhy) {
    if (device_count() > 0) GTEST_SKIP() << "there is a GPU";
    auto cubin = compile("__global__ void f() {}", {}).image;
    try {
        Library library(cubin);
        FAIL();
    } catch (const Error& e) {
        EXPECT_THAT(e.what(), HasSubstr(why_unavailable()));
    }
}

KN_GPU_TEST(GpuKernel, LaunchesWithTypedArguments) {
    Stream stream{Device(0)};
    std::vector<float> x(1000), y(1000, 1.0f);
    for (int i = 0; i < 1000; ++i) x[i] = static_cast<float>(i);
    auto dx = to_device(stream, x), dy = to_device(stream, y);
    get("axpy").launch(stream, {.grid = {4}, .block = {256}}, 2.0f, dx.span(), dy.span(), 1000);
    auto got = dy.span().to_vector(stream);
    for (int i = 0; i < 1000; ++i) ASSERT_EQ(got[i], 2.0f * i + 1) << i;
}

KN_GPU_TEST(GpuKernel, WrongArgumentsAreRefused) {
    Stream stream{Device(0)};
    DeviceBuffer<float> x(Device(0), 8);
    Kernel axpy = get("axpy");
    LaunchConfig config{.grid = {1}, .block = {32}};
    EXPECT_THROW(axpy.launch(stream, config, 2.0f, x.span(), x.span()), Error);
    EXPECT_THROW(axpy.launch(stream, config, 2.0, x.span(), x.span(), 8), Error);
    EXPECT_THROW(axpy.launch(stream, config), Error);
    EXPECT_THROW(axpy.launch(stream, {.grid = {1}, .block = {4096}}, 2.0f, x.span(), x.span(), 8),
                 Error);
    stream.synchronize();
}

KN_GPU_TEST(GpuKernel, LargeSharedMemoryHasToBeAllowed) {
    Device device(0);
    Stream stream(device);
    Kernel reverse = get(program().lowered_names.at("reverse<double, 32>"));
    std::size_t bytes = 256 * 32 * sizeof(double);
    ASSERT_EQ(bytes, 65536u);
    std::vector<double> host(2 * 256 * 32);
    for (std::size_t i = 0; i < host.size(); ++i) host[i] = static_cast<double>(i);
    auto x = to_device(stream, host);
    reverse.allow_shared_bytes(device, bytes);
    reverse.prefer_shared_carveout(device, 100);
    reverse.launch(stream, {.grid = {2}, .block = {256}, .shared_bytes = bytes}, x.span());
    auto got = x.span().to_vector(stream);
    EXPECT_EQ(got[0], 8191.0);
    EXPECT_EQ(got[8191], 0.0);
    EXPECT_EQ(got[8192], 16383.0);
    EXPECT_THROW(reverse.allow_shared_bytes(device, 10 << 20), Error);
}

KN_GPU_TEST(GpuKernel, AttributesAndOccupancy) {
    Device device(0);
    Kernel axpy = get("axpy");
    KernelAttributes a = axpy.attributes(device);
    EXPECT_GT(a.registers, 0);
    EXPECT_EQ(a.local_bytes, 0u);
    EXPECT_EQ(a.static_shared_bytes, 0u);
    EXPECT_GE(a.max_threads_per_block, 256);
    int blocks = axpy.blocks_per_sm(device, 256, 0);
    EXPECT_GE(blocks, 1);
    EXPECT_LE(blocks * 256, device.properties().max_threads_per_sm);
    EXPECT_LT(axpy.blocks_per_sm(device, 256, 40000), blocks);
}

KN_GPU_TEST(GpuKernel, NamesAndGlobals) {
    Device device(0);
    Stream stream(device);
    Library library(program().image);
    EXPECT_THAT(library.kernel_names(), testing::Contains("axpy"));
    try {
        library.kernel("nothing");
        FAIL();
    } catch (const Error& e) {
        EXPECT_THAT(e.what(), HasSubstr("no kernel \"nothing\"; kernels:"));
        EXPECT_THAT(e.what(), HasSubstr(" axpy"));
    }
    EXPECT_THROW(library.global(device, "nothing"), Error);
    auto factor = library.global(device, "factor");
    ASSERT_EQ(factor.size(), sizeof(float));
    float three = 3.0f;
    copy_bytes_async(stream, factor.data(), &three, sizeof three);
    auto x = to_device(stream, std::vector<float>(100, 2.0f));
    library.kernel("scale_by_factor").launch(stream, {.grid = {1}, .block = {128}}, x.span(), 100);
    EXPECT_THAT(x.span().to_vector(stream), Each(6.0f));
}

KN_GPU_TEST(GpuKernel, BrokenImageIsAnError) {
    std::vector<std::byte> garbage(4096, std::byte{42});
    EXPECT_THROW(Library{garbage}, Error);
    EXPECT_THROW(Library{std::span<const std::byte>()}, Error);
    auto broken = program().image;
    std::fill(broken.begin() + 16, broken.end(), std::byte{0xff});
    EXPECT_THROW(Library{broken}.kernel("axpy"), Error);
}

KN_GPU_TEST(GpuKernel, PtxLoadsToo) {
    const DeviceProperties& p = Device(0).properties();
    Stream stream{Device(0)};
    auto ptx = compile(source, options("compute_" + p.arch().substr(3)));
    auto x = to_device(stream, std::vector<float>(32, 1.0f));
    auto y = to_device(stream, std::vector<float>(32, 1.0f));
    Library(ptx.image).kernel("axpy").launch(stream, {.grid = {1}, .block = {32}}, 4.0f, x.span(),
                                             y.span(), 32);
    EXPECT_THAT(y.span().to_vector(stream), Each(5.0f));
}

KN_GPU_TEST(GpuGraph, CapturedWorkRunsPerLaunch) {
    Device device(0);
    Stream stream(device);
    Kernel axpy = get("axpy");
    auto x = to_device(stream, std::vector<float>(256, 1.0f));
    auto y = to_device(stream, std::vector<float>(256, 0.0f));
    auto record = [&](float a) {
        return capture(stream, [&] {
            EXPECT_TRUE(stream.capturing());
            axpy.launch(stream, {.grid = {1}, .block = {256}}, a, x.span(), y.span(), 256);
            axpy.launch(stream, {.grid = {1}, .block = {256}}, a, x.span(), y.span(), 256);
        });
    };
    CapturedGraph graph = record(1.0f);
    EXPECT_EQ(graph.node_count(), 2u);
    EXPECT_THAT(y.span().to_vector(stream), Each(0.0f));
    GraphExec exec = graph.instantiate();
    exec.upload(stream);
    exec.launch(stream);
    exec.launch(stream);
    EXPECT_THAT(y.span().to_vector(stream), Each(4.0f));
    EXPECT_TRUE(exec.update(record(10.0f)));
    exec.launch(stream);
    EXPECT_THAT(y.span().to_vector(stream), Each(24.0f));
    CapturedGraph other = capture(stream, [&] { y.span().fill_bytes_async(stream, 0); });
    EXPECT_FALSE(exec.update(other));
}

KN_GPU_TEST(GpuGraph, ThrowingBodyLeavesTheStreamUsable) {
    Device device(0);
    Stream stream(device);
    auto y = to_device(stream, std::vector<float>(16, 1.0f));
    EXPECT_THROW(capture(stream,
                         [&] {
                             y.span().fill_bytes_async(stream, 0);
                             throw std::runtime_error("no");
                         }),
                 std::runtime_error);
    EXPECT_FALSE(stream.capturing());
    EXPECT_THAT(y.span().to_vector(stream), Each(1.0f));
    EXPECT_THROW(capture(StreamRef(device, nullptr), [] {}), Error);
}

KN_GPU_TEST(GpuGraph, SideStreamsJoinTheCapture) {
    Device device(0);
    Stream main(device), side(device);
    Event fork(device, Event::Timing::Off), join(device, Event::Timing::Off);
    DeviceBuffer<int> x(device, 64), y(device, 64);
    CapturedGraph graph = capture(main, [&] {
        fork.record(main);
        side.wait(fork);
        x.span().fill_bytes_async(main, 1);
        y.span().fill_bytes_async(side, 2);
        join.record(side);
        main.wait(join);
    });
    EXPECT_EQ(graph.node_count(), 2u);
    graph.instantiate().launch(main);
    EXPECT_THAT(x.span().to_vector(main), Each(0x01010101));
    EXPECT_THAT(y.span().to_vector(main), Each(0x02020202));
}
