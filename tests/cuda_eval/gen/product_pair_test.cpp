// Two products behind each other in one kernel, on the host against the CPU in double; and when
// they are not.
#include <algorithm>

#include <kn/cuda_eval/executor.h>
#include <kn/graph/precision.h>

#include "check.h"
#include "cuda_eval/product_bounds.h"
#include "executor/in_parallel.h"
#include "lower/product_pair.h"

namespace kn::cuda {
inline void PrintTo(const PairTiles& tiles, std::ostream* out) { *out << to_string(tiles); }
}  // namespace kn::cuda

namespace kn::test {

namespace {

using cuda::PairTiles;

// Half types are as they are under any.
cuda::Plan plan_in(const Graph& graph, const std::optional<PairTiles>& tiles) {
    return plan_in_tiles(graph, cuda::forced_pair_tiles(), tiles, 3,
                         {.precision = Precision::TF32});
}

void expect_right(const Graph& graph, const PairTiles& tiles, double of_peak,
                  std::vector<std::string> steps = {"product_pair"}) {
    const cuda::Plan plan = plan_in(graph, tiles);
    ASSERT_EQ(step_names(plan), steps) << plan.to_string();
    expect_as_in_double(plan, graph, of_peak);
}

PairTiles streamed(int groups, int columns, int x_stages, int y_stages) {
    return {.groups = groups,
            .columns = columns,
            .x_stages = x_stages,
            .y_stages = y_stages,
            .streamed = true};
}

struct Sizes {
    std::int64_t rows, k, n, n2;
};

/// A residual block's end and the next one's beginning; y is wanted elsewhere.
Graph blocks(DType dtype, const Sizes& s, bool residual, bool keep) {
    Graph graph;
    const auto image = [&](const char* name, std::int64_t channels) {
        return permute(graph.input(name, dtype, Shape::of({s.rows / 7, 1, 7, channels})),
                       {0, 3, 1, 2});
    };
    Var y = conv(image("x", s.k), weight(graph, {s.n, s.k, 1, 1}, dtype),
                 weight(graph, {s.n}, dtype, 2), {});
    if (residual) y = y + image("r", s.n);
    y = relu(y);
    const Var z =
        conv(y, weight(graph, {s.n2, s.n, 1, 1}, dtype, 3), weight(graph, {s.n2}, dtype, 4), {});
    graph.output("z", permute(relu(z), {0, 2, 3, 1}));
    if (keep) graph.output("y", permute(y, {0, 2, 3, 1}));
    return graph;
}

class ProductPairs : public ::testing::TestWithParam<PairTiles> {};

// Tiles that rows fill and those that they do not, channels that fill no slab, more tiles than one
// round of the stages.
TEST_P(ProductPairs, OneByOneConvolutions) {
    const std::int64_t n = GetParam().columns % 128 == 0 ? 256 : GetParam().columns * 2;
    for (const bool residual : {false, true})
        for (const bool keep : {false, true}) {
            SCOPED_TRACE(std::string(residual ? "with" : "without") + " residual" +
                         (keep ? ", y given away" : ""));
            expect_right(
                blocks(DType::F16, {.rows = 1344, .k = 64, .n = n, .n2 = 64}, residual, keep),
                GetParam(), product_bounds[2].of_peak);
            expect_right(
                blocks(DType::F16, {.rows = 763, .k = 24, .n = n, .n2 = 64}, residual, keep),
                GetParam(), product_bounds[2].of_peak);
        }
}

TEST_P(ProductPairs, LayersWithMoreBehindThem) {
    const std::int64_t n = GetParam().columns;
    Graph graph;
    const Var x = graph.input("x", DType::BF16, Shape::of({5, 70, 72}));
    const Var row = graph.input("row", DType::BF16, Shape::of({5, 70, 1}));
    const Var y =
        gelu(linear(x, weight(graph, {72, n}, DType::BF16), weight(graph, {n}, DType::BF16, 2))) *
        row;
    graph.output("z", silu(linear(y, weight(graph, {n, 64}, DType::BF16, 3)) * row));
    expect_right(graph, GetParam(), product_bounds[3].of_peak);
}

INSTANTIATE_TEST_SUITE_P(, ProductPairs,
                         ::testing::Values(PairTiles{2, 256, 2, 3}, PairTiles{1, 128, 1, 1},
                                           PairTiles{3, 128, 2, 4}, PairTiles{2, 64, 3, 2},
                                           PairTiles{2, 192, 2, 2}, streamed(2, 64, 2, 3),
                                           streamed(2, 128, 2, 2), streamed(1, 64, 1, 3)));

PairTiles z_apart(int stages, PairTiles tiles) {
    tiles.z_stages = stages;
    return tiles;
}

class Tf32ProductPairs : public ::testing::TestWithParam<PairTiles> {};

TEST_P(Tf32ProductPairs, OneByOneConvolutions) {
    const std::int64_t n = 2 * std::max(GetParam().columns, 64);
    const auto expect = [&](const Sizes& sizes, bool residual, bool keep) {
        SCOPED_TRACE(std::string(residual ? "with" : "without") + " residual" +
                     (keep ? ", y given away" : ""));
        expect_right(blocks(DType::F32, sizes, residual, keep), GetParam(),
                     product_bounds[1].of_peak);
    };
    expect({.rows = 896, .k = 64, .n = n, .n2 = 64}, true, true);
    expect({.rows = 896, .k = 64, .n = n, .n2 = 64}, false, false);
    expect({.rows = 427, .k = 44, .n = n, .n2 = 64}, true, false);
    expect({.rows = 427, .k = 44, .n = n, .n2 = 64}, false, true);
}

INSTANTIATE_TEST_SUITE_P(, Tf32ProductPairs,
                         ::testing::Values(streamed(2, 32, 2, 3), streamed(2, 64, 1, 2),
                                           streamed(1, 32, 2, 5), streamed(3, 32, 1, 2),
                                           streamed(1, 64, 2, 2), z_apart(1, streamed(2, 32, 1, 3)),
                                           z_apart(2, streamed(2, 64, 1, 2))));

// Wider than the rows that it comes from.
TEST(ProductPair, ASecondOneOfMoreColumns) {
    expect_right(blocks(DType::F16, {.rows = 700, .k = 64, .n = 64, .n2 = 128}, true, true),
                 {2, 64, 2, 3}, product_bounds[2].of_peak);
    expect_right(blocks(DType::F16, {.rows = 700, .k = 136, .n = 128, .n2 = 256}, true, true),
                 {1, 128, 1, 1}, product_bounds[2].of_peak);
    expect_right(blocks(DType::F16, {.rows = 1400, .k = 136, .n = 320, .n2 = 192}, true, true),
                 streamed(2, 64, 2, 2), product_bounds[2].of_peak);
    expect_right(blocks(DType::F32, {.rows = 1400, .k = 40, .n = 128, .n2 = 128}, true, true),
                 streamed(2, 32, 1, 3), product_bounds[1].of_peak);
}

// Where results lie otherwise, they are copied.
TEST(ProductPair, AResultThatLiesOtherwiseIsCopied) {
    Graph graph;
    const Var x = permute(graph.input("x", DType::F16, Shape::of({2, 15, 11, 64})), {0, 3, 1, 2});
    const Var y = relu(conv(x, weight(graph, {128, 64, 1, 1}, DType::F16), {}, {}));
    graph.output("y", y);
    graph.output("z", relu(conv(y, weight(graph, {64, 128, 1, 1}, DType::F16, 2), {}, {})));
    expect_right(graph, {2, 128, 2, 2}, product_bounds[2].of_peak,
                 {"product_pair", "transpose", "transpose"});
}

/// The first one's product is added to another's, of other rows.
Graph sum_of_two(DType dtype, bool keep) {
    Graph graph;
    const auto image = [&](const char* name, std::int64_t channels) {
        return permute(graph.input(name, dtype, Shape::of({5, 13, 11, channels})), {0, 3, 1, 2});
    };
    const auto layer = [&](const Var& from, std::int64_t channels, std::uint64_t seed) {
        const std::int64_t before = from.shape()[1].value();
        return conv(from, weight(graph, {channels, before, 1, 1}, dtype, seed),
                    weight(graph, {channels}, dtype, seed + 1), {});
    };
    Var y = layer(image("x", 72), 128, 1) + layer(image("also", 40), 128, 5);
    if (keep) y = y + image("r", 128);
    y = relu(y);
    graph.output("z", permute(relu(layer(y, 64, 3)), {0, 2, 3, 1}));
    if (keep) graph.output("y", permute(y, {0, 2, 3, 1}));
    return graph;
}

TEST(ProductPair, TheFirstOneAsASumOfTwo) {
    for (const bool keep : {true, false}) {
        for (const PairTiles& tiles :
             {PairTiles{2, 128, 2, 3}, PairTiles{1, 64, 1, 1}, streamed(2, 64, 2, 2)})
            expect_right(sum_of_two(DType::F16, keep), tiles, product_bounds[2].of_peak);
        for (const PairTiles& tiles : {streamed(2, 32, 1, 3), streamed(1, 64, 1, 2)})
            expect_right(sum_of_two(DType::F32, keep), tiles, product_bounds[1].of_peak);
    }
}

/// Blocks of a residual network: 1x1, 3x3, 1x1 and what is added; images of size x size.
struct Bottlenecks {
    Graph graph;
    Var x;
    std::uint64_t seed = 0;
    DType dtype;
    Bottlenecks(std::int64_t images, std::int64_t size, DType type = DType::F16)
        : x(permute(graph.input("x", type, Shape::of({images, size, size, 64})), {0, 3, 1, 2})),
          dtype(type) {}

    Var layer(Var from, std::int64_t channels, std::int64_t kernel, std::int64_t stride = 1) {
        const std::int64_t pad = kernel / 2, before = from.shape()[1].value();
        ++seed;
        return conv(from, weight(graph, {channels, before, kernel, kernel}, dtype, seed),
                    weight(graph, {channels}, dtype, 100 + seed),
                    {.strides = {stride, stride}, .pads = {pad, pad, pad, pad}});
    }
    void block(std::int64_t width, std::int64_t stride = 1) {
        const bool same = stride == 1 && x.shape()[1].value() == 4 * width;
        const Var inner = relu(layer(relu(layer(x, width, 1)), width, 3, stride));
        x = relu(layer(inner, 4 * width, 1) + (same ? x : layer(x, 4 * width, 1, stride)));
    }
    cuda::Plan plan(Precision precision = Precision::TF32) {
        graph.output("x", permute(x, {0, 2, 3, 1}));
        return cuda::plan(graph, h200(), {.precision = precision});
    }
};

std::vector<const cuda::Step*> pairs(const cuda::Plan& plan) {
    std::vector<const cuda::Step*> found;
    for (const cuda::Step& step : plan.steps)
        if (step.name == "product_pair") found.push_back(&step);
    return found;
}

bool reads_before(const cuda::Step& step) {
    return std::ranges::any_of(
        step.operands, [](const cuda::Operand& operand) { return operand.role == "before"; });
}

// The end of a block has three readers: the next one's beginning and end, and a strided layer. What
// the first block adds is a product, too.
TEST(ProductPairsTaken, BetweenBlocksOfAResidualNetwork) {
    for (const DType dtype : {DType::F16, DType::F32}) {
        Bottlenecks network(128, 56, dtype);
        for (int i = 0; i < 3; ++i) network.block(64);
        network.block(128, 2);
        const cuda::Plan plan = network.plan();
        const auto found = pairs(plan);
        ASSERT_EQ(found.size(), 3u) << plan.to_string();
        for (std::size_t i = 0; i < found.size(); ++i) {
            EXPECT_EQ(found[i]->produces.size(), 2u);
            EXPECT_EQ(reads_before(*found[i]), i > 0) << plan.to_string();
        }
        EXPECT_NE(found[0]->reason.find("a sum of two others"), std::string::npos);
        for (const std::string& name : step_names(plan))
            EXPECT_TRUE(name == "product_pair" || name.starts_with("tensor_conv"))
                << plan.to_string();
        // The strided layer is part of the product that it is added to, even without a pair there.
        EXPECT_NE(plan.steps.back().reason.find("another convolution's sum"), std::string::npos);
        EXPECT_EQ(plan.steps.size(), 9u) << plan.to_string();
    }
}

TEST(ProductPairsTaken, WithWeightsThatDoNotFit) {
    for (const DType dtype : {DType::F16, DType::F32}) {
        Bottlenecks network(128, 28, dtype);
        network.x = relu(network.layer(network.x, 512, 1));
        for (int i = 0; i < 3; ++i) network.block(128);
        const cuda::Plan plan = network.plan();
        ASSERT_EQ(pairs(plan).size(), 3u) << plan.to_string();
        for (const cuda::Step* step : pairs(plan))
            EXPECT_NE(step->reason.find("weights streamed"), std::string::npos) << step->reason;
    }
}

/// The reason for which the rule left the graph alone.
std::string refusal(const cuda::Plan& plan) {
    EXPECT_TRUE(pairs(plan).empty()) << plan.to_string();
    return refusals(plan, "pair of products");
}

TEST(ProductPairsRefused, OfFewRows) {
    Bottlenecks network(1, 14);
    for (int i = 0; i < 2; ++i) network.block(64);
    EXPECT_NE(refusal(network.plan()).find("of few rows"), std::string::npos);
}

TEST(ProductPairsRefused, OfFewRowsWhereWeightsWouldCome) {
    Bottlenecks network(32, 28);
    network.x = relu(network.layer(network.x, 512, 1));
    for (int i = 0; i < 2; ++i) network.block(128);
    EXPECT_NE(refusal(network.plan()).find("of few rows"), std::string::npos);
}

TEST(ProductPairsRefused, WhereWeightsDoNotFit) {
    Bottlenecks network(128, 14);
    network.x = relu(network.layer(network.x, 1024, 1));
    for (int i = 0; i < 2; ++i) network.block(256);
    EXPECT_NE(refusal(network.plan()).find("do not fit in shared memory"), std::string::npos);
}

TEST(ProductPairsRefused, WhereTheSecondOnesEpilogueNeedsTheFirst) {
    Bottlenecks network(128, 56);
    const Var y = relu(network.layer(network.x, 128, 1));
    const Var scale = sigmoid(network.layer(mean(y, {2, 3}, true), 64, 1));
    network.x = network.layer(y, 64, 1) * scale;
    EXPECT_NE(refusal(network.plan()).find("what is behind the second one needs the first"),
              std::string::npos);
}

TEST(ProductPairsRefused, WhereTheSecondOneHasAResidual) {
    Bottlenecks network(128, 56);
    const Var y = relu(network.layer(network.x, 128, 1));
    network.x = network.layer(y, 64, 1) + network.x;
    EXPECT_NE(refusal(network.plan()).find("something of its size added"), std::string::npos);
}

// Exact float32 and 3x3 are no pattern of the rule's.
TEST(ProductPairsRefused, SilentlyWhereThereIsNoPair) {
    Bottlenecks network(128, 56);
    network.x = network.layer(relu(network.layer(network.x, 64, 1)), 64, 3);
    EXPECT_EQ(refusal(network.plan()), "");
    Graph graph;
    const Var x = graph.input("x", DType::F32, Shape::of({65536, 64}));
    graph.output("y", matmul(relu(matmul(x, weight(graph, {64, 64}))), weight(graph, {64, 64})));
    EXPECT_EQ(refusal(cuda::plan(graph, h200(), {.precision = Precision::F32})), "");
}

struct OnGpu {
    DType dtype;
    PairTiles tiles;
    bool residual = true;
};

// Enough tiles for all processors to go round several times, the last one ragged.
TEST(GpuProductPair, OneByOneConvolutions) {
    if (cuda::device_count() == 0) GTEST_SKIP() << cuda::why_unavailable();
    const auto graph = [](const OnGpu& how) {
        return blocks(how.dtype, {.rows = 7 * 3500, .k = 64, .n = 256, .n2 = 64}, how.residual,
                      how.residual);
    };
    const std::vector<OnGpu> all = {{DType::F16, {2, 128, 2, 4}},
                                    {DType::F16, {1, 128, 2, 2}},
                                    {DType::F16, streamed(2, 64, 2, 3)},
                                    {DType::F16, {2, 128, 2, 4}, false},
                                    {DType::F32, streamed(2, 32, 2, 5)},
                                    {DType::F32, streamed(2, 64, 1, 3)},
                                    {DType::F32, streamed(2, 32, 2, 5), false},
                                    {DType::F32, z_apart(2, streamed(2, 32, 1, 5))},
                                    {DType::F32, z_apart(1, streamed(2, 32, 1, 5)), false}};
    std::vector<std::optional<cuda::Executor>> executors(all.size());
    cuda::in_parallel(all.size(), [&](std::size_t i) {
        cuda::forced_pair_tiles() = all[i].tiles;
        auto plan = std::make_shared<const cuda::Plan>(cuda::plan(
            graph(all[i]), cuda::Device(0).properties(), {.precision = Precision::TF32}));
        cuda::forced_pair_tiles().reset();
        executors[i].emplace(std::move(plan), cuda::Device(0));
    });
    for (std::size_t i = 0; i < all.size(); ++i) {
        SCOPED_TRACE(std::string(name_of(all[i].dtype)) + " " + to_string(all[i].tiles));
        ASSERT_EQ(step_names(executors[i]->plan()), std::vector<std::string>{"product_pair"});
        const std::vector<Tensor> inputs = random_inputs(graph(all[i]));
        const auto expected = cpu::run(graph(all[i]), inputs);
        const auto got = executors[i]->run(inputs);
        const double of_peak = product_bounds[all[i].dtype == DType::F32 ? 1 : 2].of_peak;
        for (std::size_t output = 0; output < got.size(); ++output) {
            const auto difference = testing::compare(got[output], expected[output],
                                                     {.rtol = 0, .atol_of_peak = of_peak});
            EXPECT_TRUE(difference.equal) << difference.message;
        }
    }
}

}  // namespace

}  // namespace kn::test
