// Our product kernel: when it is planned, and that it compiles.
#include <array>

#include <gtest/gtest.h>

#include <kn/cuda_eval/executor.h>
#include <kn/graph/builder.h>
#include <kn/graph/cpu.h>
#include <kn/graph/precision.h>
#include <kn/graph/random.h>
#include <kn/testing/compare.h>

#include "codegen/emit.h"
#include "cuda_eval/on_gpu.h"
#include "cuda_eval/plan/support.h"
#include "cuda_eval/product_bounds.h"
#include "executor/kernels.h"
#include "lower/product_tiles.h"

namespace kn::cuda {
namespace {

using test::h200, test::product_bounds, test::ProductBound, test::weight;

/// The only step that is our product, if there is one; all kernels compile.
const Step* product_step(const Plan& plan) {
    compile_kernels(plan.kernels, {.arch = "sm_90", .prelude = kernel_prelude()});
    const Step* found = nullptr;
    for (const Step& step : plan.steps)
        if (step.name.starts_with("tensor_")) found = &step;
    return found;
}

TEST(TensorProductPlan, ALayerIsOneStepWithAllBehindIt) {
    Graph graph;
    const Var x = graph.input("x", DType::F32, Shape::of({8, 128, 768}));
    graph.output("y", gelu(linear(x, weight(graph, {768, 3072}), weight(graph, {3072}))));
    const Plan plan = cuda::plan(graph, h200());
    const Step* step = product_step(plan);
    ASSERT_NE(step, nullptr) << plan.to_string();
    EXPECT_EQ(plan.steps.size(), 1u) << plan.to_string();
    EXPECT_EQ(step->flops, 2ll * 1024 * 768 * 3072);
    EXPECT_EQ(plan.kernels.at(0).arch, "sm_90a");
}

TEST(TensorProductPlan, AConvolutionWithResidualAndActivation) {
    Graph graph;
    const Var x = graph.input("x", DType::F32, Shape::of({32, 64, 28, 28}));
    const Var w = weight(graph, {64, 64, 3, 3});
    const Var y = conv(x, w, weight(graph, {64}), {.pads = {1, 1, 1, 1}});
    graph.output("y", silu(conv(relu(y), w, {}, {.pads = {1, 1, 1, 1}}) + y));
    for (const Precision precision : {Precision::F32, Precision::TF32, Precision::F16}) {
        PlanOptions options;
        options.precision = precision;
        const Plan plan = cuda::plan(graph, h200(), options);
        EXPECT_NE(product_step(plan), nullptr) << plan.to_string();
    }
}

TEST(TensorProductPlan, StridedWindowsAndSmallImages) {
    Graph graph;
    const Var x = graph.input("x", DType::F32, Shape::of({128, 64, 31, 31}));
    const Var y =
        conv(x, weight(graph, {72, 64, 3, 3}), {}, {.strides = {2, 2}, .pads = {1, 1, 0, 0}});
    graph.output("y", conv(y, weight(graph, {96, 72, 1, 1}), {}, {}));
    const Plan plan = cuda::plan(graph, h200());
    EXPECT_NE(product_step(plan), nullptr) << plan.to_string();
}

// 72 channels are rows of a dense image, but fill no slab of windows: a crop has to be copied
// first.
TEST(TensorProductPlan, OneByOneOfACrop) {
    Graph graph;
    const Var x = graph.input("x", DType::F32, Shape::of({64, 30, 30, 72}));
    const Var crop = slice(permute(relu(x), {0, 3, 1, 2}), 3, 2, 28);
    graph.output("y", conv(crop, weight(graph, {64, 72, 1, 1}), {}, {}));
    graph.output("z", relu(x));
    const Plan plan = cuda::plan(graph, h200());
    EXPECT_NE(product_step(plan), nullptr) << plan.to_string();
}

TEST(TensorProductPlan, RefusedWhereTheLibrariesAreBetter) {
    Graph graph;
    const Var x = graph.input("x", DType::F32, Shape::of({8, 768}));
    graph.output("y", matmul(x, weight(graph, {768, 768})));
    const Plan small = cuda::plan(graph, h200());
    EXPECT_EQ(product_step(small), nullptr) << small.to_string();
    PlanOptions options;
    options.precision = Precision::F16;
    EXPECT_EQ(product_step(cuda::plan(graph, h200(), options)), nullptr);
}

TEST(TensorProductPlan, FewFiltersOfOneWave) {
    const auto planned = [](const Ints& x_shape, std::int64_t filters, DType dtype) {
        Graph graph;
        const Var x = graph.input("x", dtype, Shape::of(x_shape));
        graph.output("y", conv(x, weight(graph, {filters, x_shape[1], 3, 3}, dtype),
                               weight(graph, {filters}, dtype), {.pads = {1, 1, 1, 1}}));
        return cuda::plan(graph, h200());
    };
    EXPECT_NE(product_step(planned({2, 320, 64, 64}, 4, DType::F16)), nullptr);
    EXPECT_NE(product_step(planned({1, 128, 32, 32}, 6, DType::F16)), nullptr);  // ParityConv's
    EXPECT_EQ(product_step(planned({2, 320, 128, 128}, 4, DType::F16)), nullptr);
    EXPECT_EQ(product_step(planned({2, 320, 64, 64}, 4, DType::F32)), nullptr);
}

TEST(TensorProductPlan, HalfProductsWithMoreBehindThemThanTheLibrariesHave) {
    const auto own = [](auto tail) {
        Graph graph;
        const Var x = graph.input("x", DType::F16, Shape::of({1024, 768}));
        graph.output("y", tail(matmul(x, cast(weight(graph, {768, 3072}), DType::F16))));
        PlanOptions options;
        options.precision = Precision::F16;
        return product_step(cuda::plan(graph, h200(), options)) != nullptr;
    };
    EXPECT_TRUE(own([](Var y) { return gelu(y); }));
    EXPECT_TRUE(own([](Var y) { return y + y.graph->input("r", DType::F16, y.graph->shape(y)); }));
    EXPECT_FALSE(own([](Var y) { return relu(y); }));
}

TEST(TensorProductPlan, LongSumsOfFewTilesByTheLibrary) {
    const auto own = [](std::int64_t m, std::int64_t n, std::int64_t k) {
        Graph graph;
        const Var x = graph.input("x", DType::F16, Shape::of({m, k}));
        const Var r = graph.input("r", DType::F16, Shape::of({m, n}));
        graph.output("y", matmul(x, weight(graph, {k, n}, DType::F16)) + r);
        return product_step(cuda::plan(graph, h200())) != nullptr;
    };
    EXPECT_FALSE(own(512, 1280, 5120));
    EXPECT_FALSE(own(1024, 768, 3072));
    EXPECT_TRUE(own(8192, 320, 1280));   // few k
    EXPECT_TRUE(own(256, 4096, 4096));   // many columns
    EXPECT_TRUE(own(4096, 1024, 4096));  // many tiles
}

// Float32 has few tiles where images are small: k is split.
TEST(TensorProductPlan, SmallImagesInFloat32) {
    Graph graph;
    const Var x = graph.input("x", DType::F32, Shape::of({1, 36, 14, 14}));
    graph.output("y", conv(x, weight(graph, {256, 36, 3, 3}), {}, {.pads = {1, 1, 1, 1}}));
    const Plan plan = cuda::plan(graph, h200());
    const Step* step = product_step(plan);
    ASSERT_NE(step, nullptr) << plan.to_string();
    EXPECT_NE(step->reason.find("k in "), std::string::npos) << step->reason;
}

// What is mostly read and written goes through shared memory by the copy engine.
TEST(TensorProductPlan, ResidualsOfHalfTypesAreStaged) {
    Graph graph;
    const Var x = graph.input("x", DType::F16, Shape::of({128, 56, 56, 64}));
    const Var r = graph.input("r", DType::F16, Shape::of({128, 56, 56, 256}));
    const Var w = cast(weight(graph, {256, 64, 1, 1}), DType::F16);
    const Var y = conv(permute(x, {0, 3, 1, 2}), w, {}, {}) + permute(r, {0, 3, 1, 2});
    graph.output("y", permute(relu(y), {0, 2, 3, 1}));
    PlanOptions options;
    options.precision = Precision::F16;
    const Plan plan = cuda::plan(graph, h200(), options);
    const Step* step = product_step(plan);
    ASSERT_NE(step, nullptr) << plan.to_string();
    EXPECT_NE(step->reason.find("staged"), std::string::npos) << step->reason;
}

TensorProduct product_of(std::int64_t m, std::int64_t n, std::int64_t k) {
    TensorProduct product;
    product.m = m;
    product.n = n;
    product.k = product.row_stride = k;
    product.lanes = 8;
    return product;
}

TEST(ProductTiles, FitAMultiprocessor) {
    const DeviceProperties device = h200();
    for (const auto& [m, n, k] :
         {std::array{1, 32, 64}, std::array{196, 256, 2304}, std::array{100000, 1000, 4096}}) {
        TensorProduct product = product_of(m, n, k);
        auto all = sensible_tiles(product, device, false);
        const auto staged = sensible_tiles(product, device, true);
        ASSERT_FALSE(all.empty());
        all.insert(all.end(), staged.begin(), staged.end());
        for (const ProductTiles& tiles : all) {
            SCOPED_TRACE(to_string(tiles));
            product.tiles = tiles;
            product.lanes = tiles.staged ? 2 : 8;
            EXPECT_LE(product.shared_bytes(), device.shared_per_block_optin);
            EXPECT_LE((product.shared_bytes() + 1024) * static_cast<std::size_t>(tiles.blocks),
                      device.shared_per_sm);
            EXPECT_LE(product.cluster(), 8);
            EXPECT_EQ(product.grid(device.sm_count).x % static_cast<unsigned>(product.cluster()),
                      0u);
            // Sums and as many registers again at most, of the 65536 of a multiprocessor.
            EXPECT_LE(tiles.rows * tiles.columns * tiles.blocks, 32768);
            EXPECT_EQ(product.why_not(), std::nullopt);
        }
    }
}

TEST(ProductTiles, StagedAreWholePanels) {
    TensorProduct product = product_of(1000, 512, 512);
    product.lanes = 2;
    product.tiles = {.rows = 128, .columns = 96, .staged = true};
    EXPECT_NE(product.why_not(), std::nullopt);
    product.tiles.columns = 128;
    EXPECT_EQ(product.why_not(), std::nullopt);
    product.tiles.splits = 2;
    EXPECT_NE(product.why_not(), std::nullopt);
}

// What the model has to see: few rows and a long k are split, many tiles are not; large products
// take large tiles.
TEST(ProductTiles, SuitTheProblem) {
    const DeviceProperties device = h200();
    EXPECT_GT(choose_tiles(product_of(128, 1280, 11520), device, true).splits, 1);
    const ProductTiles large = choose_tiles(product_of(16384, 256, 2304), device, false);
    EXPECT_EQ(large.splits, 1);
    EXPECT_EQ(large.rows * large.columns, 128 * 256);
    EXPECT_FALSE(large.staged);
    EXPECT_TRUE(choose_tiles(product_of(401408, 256, 64), device, true).staged);
}

// What bench_products found fastest on an H200; of one image, what is known to be fast there.
TEST(ProductTiles, AreThoseThatWereMeasured) {
    const auto chosen = [](TensorProduct product) {
        return to_string(choose_tiles(product, h200(), true));
    };
    EXPECT_EQ(chosen(product_of(8192, 2560, 320)), "128x128 in turns staged 5 stages");
    EXPECT_EQ(chosen(product_of(8192, 320, 1280)), "128x160 5 stages");
    EXPECT_EQ(chosen(product_of(3136, 64, 256)), "64x32 8 stages");
    EXPECT_EQ(chosen(product_of(196, 1024, 256)), "64x32 8 stages");
    EXPECT_EQ(chosen(product_of(512, 1280, 11520)), "128x192 k in 4 5 stages");
    EXPECT_EQ(chosen(product_of(2048, 640, 5760)), "64x160 7 stages");
    TensorProduct exact = product_of(1024, 3072, 768);
    exact.type = DataType::F32;
    exact.exact = true;
    exact.y_bytes = 4;
    EXPECT_NE(chosen(exact).find("128x96"), std::string::npos) << chosen(exact);
}

TEST(ProductTiles, AreThoseThatOptionsAskFor) {
    const TensorProduct product = product_of(512, 1280, 11520);
    const auto chosen = [&](const PlanOptions& options) {
        return to_string(choose_tiles(product, h200(), true, options));
    };
    const std::string first = chosen({}), second = chosen({.tiles = 1});
    EXPECT_NE(first, second);
    EXPECT_EQ(chosen({.tiles_of = {{problem_of(product, true), second}}}), second);
    EXPECT_EQ(chosen({.tiles_of = {{problem_of(product, false), second}}}), first);
    EXPECT_EQ(chosen({.tiles_of = {{problem_of(product, true), "1x1"}}}), first);
    EXPECT_NE(chosen({.tiles = 100'000}), "");
    EXPECT_NE(problem_of(product, true), problem_of(product_of(512, 1280, 11584), true));
}

/// On the GPU in every precision, against the CPU in double.
void expect_right(const Graph& graph) {
    if (device_count() == 0) GTEST_SKIP() << why_unavailable();
    const test::InDouble in_double(graph);
    for (const ProductBound& bound : product_bounds) {
        PlanOptions options;
        options.precision = bound.precision;
        const Plan plan = cuda::plan(graph, Device(0).properties(), options);
        if (bound.precision == Precision::F32) {
            EXPECT_NE(product_step(plan), nullptr);
        }
        in_double.expect(plan, bound);
    }
}

TEST(GpuTensorProduct, RowsThatDoNotFillATile) {
    Graph graph;
    const Var x = graph.input("x", DType::F32, Shape::of({1003, 748}));
    graph.output("y", gelu(linear(x, weight(graph, {748, 1030}), weight(graph, {1030}))));
    expect_right(graph);
}

TEST(GpuTensorProduct, WindowsWithPaddingStrideAndDilation) {
    Graph graph;
    const Var x = graph.input("x", DType::F32, Shape::of({17, 64, 37, 29}));
    const Var y = conv(x, weight(graph, {136, 64, 3, 3}), weight(graph, {136}),
                       {.strides = {2, 1}, .dilations = {1, 2}, .pads = {1, 2, 0, 1}});
    graph.output("y", relu(y) * 0.5);
    expect_right(graph);
}

TEST(GpuTensorProduct, ResidualsAndOneByOne) {
    Graph graph;
    const Var x = graph.input("x", DType::F32, Shape::of({9, 64, 40, 40}));
    const Var y = conv(x, weight(graph, {64, 64, 1, 1}), weight(graph, {64}), {});
    graph.output("y", silu(y + x));
    expect_right(graph);
}

TEST(GpuTensorProduct, SumsOfTwoConvolutions) {
    Graph graph;
    const Var x = graph.input("x", DType::F32, Shape::of({9, 64, 20, 20}));
    const Var also = graph.input("also", DType::F32, Shape::of({9, 72, 39, 40}));
    const Var y = conv(x, weight(graph, {136, 64, 3, 3}), {}, {.pads = {1, 1, 1, 1}}) +
                  conv(also, weight(graph, {136, 72, 1, 1}), {}, {.strides = {2, 2}});
    graph.output("y", silu(y));
    expect_right(graph);
}

// Every way to cut a convolution up, where nothing divides anything, with both epilogues.
TEST(GpuTensorProduct, EveryTile) {
    if (device_count() == 0) GTEST_SKIP() << why_unavailable();
    Graph graph;
    const Var x = graph.input("x", DType::F16, Shape::of({3, 72, 23, 21}));
    const Var w = cast(weight(graph, {136, 72, 3, 3}), DType::F16);
    const Var r = graph.input("r", DType::F16, Shape::of({3, 22, 11, 136}));
    const Var y = conv(x, w, {}, {.strides = {1, 2}, .pads = {1, 1, 0, 1}});
    graph.output("y", permute(silu(y + permute(r, {0, 3, 1, 2})), {0, 2, 3, 1}));
    const std::vector<Tensor> inputs = random_inputs(graph);
    const auto expected = cpu::run(to_precision(graph, DType::F64), inputs);
    PlanOptions options;
    options.precision = Precision::F16;
    const DeviceProperties device = Device(0).properties();
    const TensorProduct product = product_of(3 * 22 * 11, 136, 9 * 128);
    auto all = sensible_tiles(product, device, false);
    const auto staged = sensible_tiles(product, device, true);
    all.insert(all.end(), staged.begin(), staged.end());
    for (const ProductTiles& tiles : all) {
        SCOPED_TRACE(to_string(tiles));
        forced_tiles() = tiles;
        const auto plan = std::make_shared<const Plan>(cuda::plan(graph, device, options));
        forced_tiles().reset();
        const Step* step = product_step(*plan);
        ASSERT_NE(step, nullptr);
        EXPECT_NE(step->reason.find(to_string(tiles)), std::string::npos) << step->reason;
        const auto got = Executor(plan, Device(0)).run(inputs);
        const auto difference =
            testing::compare(got.at(0).cast(DType::F32), expected.at(0).cast(DType::F32),
                             {.rtol = 0, .atol_of_peak = 3e-3});
        EXPECT_TRUE(difference.equal) << difference.message;
    }
}

}  // namespace
}  // namespace kn::cuda
