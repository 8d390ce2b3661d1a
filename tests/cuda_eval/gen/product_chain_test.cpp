// Small products behind each other in one kernel, on the host.
#include <algorithm>

#include "check.h"

namespace kn::test {

namespace {

bool has_step(const cuda::Plan& plan, const std::string& name) {
    return std::ranges::count(plan.steps, name, &cuda::Step::name) == 1;
}

struct ChainCase {
    std::int64_t rows;
    Ints widths;
    DType dtype = DType::F32;
};

void PrintTo(const ChainCase& c, std::ostream* out) {
    *out << c.rows << " rows of " << ::testing::PrintToString(c.widths) << " " << name_of(c.dtype);
}

class ProductChain : public ::testing::TestWithParam<ChainCase> {};

TEST_P(ProductChain, WithBiasAndActivation) {
    const ChainCase& c = GetParam();
    Graph g;
    Var x = g.input("x", c.dtype, {c.rows, c.widths[0]});
    for (std::size_t i = 1; i < c.widths.size(); ++i) {
        if (i > 1) x = relu(x);
        x = matmul(x, weight(g, {c.widths[i - 1], c.widths[i]}, c.dtype) * 0.1) +
            weight(g, {1, c.widths[i]}, c.dtype);
    }
    g.output("y", sigmoid(x));
    const auto plan = expect_same(optimize(g));
    EXPECT_TRUE(has_step(plan, "products"));
    EXPECT_EQ(plan.steps.size(), 1u);
}

INSTANTIATE_TEST_SUITE_P(Sizes, ProductChain,
                         ::testing::Values(ChainCase{256, {256, 64, 512}, DType::F16},
                                           ChainCase{256, {256, 64, 512}},
                                           ChainCase{1, {40, 8, 24, 16}, DType::BF16},
                                           ChainCase{3, {33, 12, 100}}, ChainCase{201, {5, 4, 4}},
                                           ChainCase{300, {70, 8, 1000}, DType::F16}));

Graph squeeze_excitation(const Ints& shape, std::int64_t squeezed, DType dtype) {
    Graph g;
    const Var x = g.input("x", dtype, Shape::of(shape));
    Var y = reshape(mean(x, {2, 3}), {shape[0], shape[1]});
    y = relu(matmul(y, weight(g, {shape[1], squeezed}, dtype)) + weight(g, {1, squeezed}, dtype));
    y = sigmoid(matmul(y, weight(g, {squeezed, shape[1]}, dtype)) +
                weight(g, {1, shape[1]}, dtype));
    g.output("y", x * broadcast_to(reshape(y, {shape[0], shape[1], 1, 1}), x.shape()));
    return g;
}

TEST(ProductChainFusion, MeanInFront) {
    for (const DType dtype : {DType::F32, DType::F16}) {
        const auto plan = expect_same(squeeze_excitation({6, 32, 8, 8}, 8, dtype));
        EXPECT_TRUE(has_step(plan, "products"));
        EXPECT_EQ(plan.steps.size(), 2u);
    }
}

// A long mean has a kernel of its own.
TEST(ProductChainFusion, LongMeanApart) {
    const auto plan = expect_same(squeeze_excitation({2, 16, 20, 20}, 8, DType::F32));
    EXPECT_TRUE(has_step(plan, "products"));
    EXPECT_EQ(plan.steps.size(), 3u);
}

TEST(ProductChainFusion, RefusesWithReason) {
    const auto refusal = [](const Graph& g) {
        return refusals(cuda::plan(g, h200()), "small products");
    };
    const auto two = [](std::int64_t rows, std::int64_t middle) {
        Graph g;
        const Var x = g.input("x", DType::F16, {rows, 256});
        g.output("y", matmul(matmul(x, weight(g, {256, middle}, DType::F16)),
                             weight(g, {middle, 256}, DType::F16)));
        return g;
    };
    EXPECT_EQ(refusal(two(4096, 64)), "2048 blocks would read 65536 bytes of weights each");
    EXPECT_EQ(refusal(two(8, 60)), "60 columns do not suit a block");
    EXPECT_EQ(refusal(two(8, 1)), "1 columns do not suit a block");
    EXPECT_EQ(refusal(two(8, 64)), "");
    // One block would read a megabyte, for as long as 20 steps take.
    EXPECT_EQ(refusal(two(1, 1024)), "1 blocks would read 1048576 bytes of weights each");
}

}  // namespace

}  // namespace kn::test
