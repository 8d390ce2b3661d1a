// Products that normalise rows by statistics that came with them, on the host: against the CPU in
// double of the rows as they were written.
#include <algorithm>
#include <cmath>
#include <limits>

#include "check.h"
#include "codegen/emit.h"
#include "cuda_eval/product_bounds.h"
#include "executor/kernels.h"
#include "lower/product_tiles.h"

namespace kn::test {

namespace {

using cuda::ProductTiles;

constexpr std::int64_t rows = 150, width = 160, columns = 72;

/// The product that reads rows [.., width].
Var reader(Var x) {
    Graph& graph = *x.graph;
    const DType dtype = x.dtype();
    const Var y = layer_norm(x, weight(graph, {width}, dtype, 3), weight(graph, {width}, dtype, 4));
    return silu(
        linear(y, weight(graph, {width, columns}, dtype, 5), weight(graph, {columns}, dtype, 6)));
}

Graph reader_alone(DType dtype, const Ints& shape) {
    Graph graph;
    graph.output("z", reader(graph.input("y", dtype, Shape::of(shape))));
    return graph;
}

/// A product with a residual, and its reader.
Graph both(DType dtype) {
    Graph graph;
    const Var x = graph.input("x", dtype, Shape::of({rows, 64}));
    const Var y =
        linear(x, weight(graph, {64, width}, dtype, 1), weight(graph, {width}, dtype, 2)) +
        graph.input("residual", dtype, Shape::of({rows, width}));
    graph.output("y", y);
    graph.output("z", reader(y));
    return graph;
}

/// An image's pixels as rows, behind a convolution.
Graph behind_conv(std::int64_t kernel) {
    const DType dtype = DType::F16;
    Graph graph;
    const Var x = permute(graph.input("x", dtype, Shape::of({2, 9, 8, 64})), {0, 3, 1, 2});
    const std::int64_t pad = kernel / 2;
    const Var image = conv(x, weight(graph, {width, 64, kernel, kernel}, dtype, 1),
                           weight(graph, {width}, dtype, 2), {.pads = {pad, pad, pad, pad}});
    const Var y = reshape(permute(image, {0, 2, 3, 1}), {2, 72, width});
    graph.output("y", y);
    graph.output("z", reader(y));
    return graph;
}

cuda::Plan plan_in(const Graph& graph, const std::optional<ProductTiles>& tiles,
                   const cuda::PlanOptions& options = {}) {
    return plan_in_tiles(graph, cuda::forced_tiles(), tiles, 4, options);
}

bool says(const cuda::Plan& plan, const std::string& text) {
    return plan.to_string().find(text) != std::string::npos;
}

double bound_of(DType dtype) { return product_bounds[dtype == DType::F16 ? 2 : 3].of_peak; }

/// That statistics come with y, and z is what the CPU makes of this y.
void expect_given(const cuda::Plan& plan, DType dtype, const std::vector<Tensor>& inputs) {
    EXPECT_EQ(plan.steps.size(), 2u) << plan.to_string();
    EXPECT_TRUE(says(plan, "with statistics of 1x")) << plan.to_string();
    EXPECT_TRUE(says(plan, "which came with them")) << plan.to_string();
    const auto got = cuda::run_plan_on_host(plan, inputs);
    const Graph alone = reader_alone(dtype, got[0].shape());
    const Tensor z = cpu::run(to_precision(alone, DType::F64), {got[0]}).at(0);
    const auto difference = testing::compare(got[1].cast(DType::F32), z.cast(DType::F32),
                                             {.rtol = 0, .atol_of_peak = bound_of(dtype)});
    EXPECT_TRUE(difference.equal) << difference.message << "\n" << plan.to_string();
}

class RowMoments : public ::testing::TestWithParam<ProductTiles> {};

TEST_P(RowMoments, BehindProducts) {
    for (const DType dtype : {DType::F16, DType::BF16}) {
        const Graph graph = both(dtype);
        expect_given(plan_in(graph, GetParam()), dtype, random_inputs(graph));
    }
}

TEST_P(RowMoments, BehindConvolutions) {
    for (const std::int64_t kernel : {1, 3}) {
        const Graph graph = behind_conv(kernel);
        expect_given(plan_in(graph, GetParam()), DType::F16, random_inputs(graph));
    }
}

// Means that are large beside the deviation, in an element, in a part or in all; deviations that
// epsilon is large beside; rows of nearly one number; parts whose means differ.
TEST_P(RowMoments, UnevenRows) {
    const Graph graph = both(DType::F16);
    std::vector<Tensor> inputs = random_inputs(graph);
    Tensor x = inputs[0].cast(DType::F32), residual = inputs[1].cast(DType::F32);
    for (std::size_t row = 0; row < rows; ++row) {
        const auto of_x = x.mutable_data<float>().subspan(row * 64, 64);
        if (row % 8 > 0)
            for (float& element : of_x) element *= 0.01f;
        for (std::int64_t k = 0; k < width; ++k) {
            float& element = residual.mutable_data<float>()[row * static_cast<std::size_t>(width) +
                                                            static_cast<std::size_t>(k)];
            switch (row % 8) {
                case 1: element = 50 + 0.1f * element; break;
                case 2: element = k == 0 ? 300 : element; break;
                case 3: element = 1e-3f * element; break;
                case 4: element = -7; break;
                case 5: element = k == 0 ? -2000 : 10 + 0.1f * element; break;
                case 6: element = 1000 + element; break;
                case 7: element = (k < 80 ? -400.0f : 400.0f) + 0.1f * element; break;
                default: break;
            }
        }
    }
    inputs = {x.cast(DType::F16), residual.cast(DType::F16)};
    expect_given(plan_in(graph, GetParam()), DType::F16, inputs);
}

// One part of a row and several, each width of what a warp hands out, several pieces, clusters,
// several tiles a block.
INSTANTIATE_TEST_SUITE_P(
    , RowMoments,
    ::testing::Values(
        ProductTiles{.rows = 64, .columns = 16, .groups = 1, .stages = 3, .blocks = 4, .chunk = 16},
        ProductTiles{.rows = 64, .columns = 32, .groups = 1, .stages = 2, .blocks = 4},
        ProductTiles{.rows = 64, .columns = 80, .groups = 1, .share_w = 2, .chunk = 16},
        ProductTiles{.rows = 128, .columns = 160, .stages = 3, .blocks = 1, .chunk = 32},
        ProductTiles{.rows = 256, .columns = 80, .stages = 3, .blocks = 1, .chunk = 16}),
    name_of_tiles);

constexpr ProductTiles some_tiles{.rows = 64, .columns = 80, .groups = 1, .chunk = 16};

// What is no number reaches its row and no other.
TEST(RowMomentsOf, InfinitiesAndNaNs) {
    const Graph graph = both(DType::F16);
    std::vector<Tensor> inputs = random_inputs(graph);
    Tensor residual = inputs[1].cast(DType::F32);
    residual.mutable_data<float>()[3 * 160 + 5] = std::numeric_limits<float>::quiet_NaN();
    residual.mutable_data<float>()[9 * 160 + 90] = std::numeric_limits<float>::infinity();
    inputs[1] = residual.cast(DType::F16);
    const Tensor got = cuda::run_plan_on_host(plan_in(graph, some_tiles), inputs).at(1);
    const Tensor expected = cpu::run(graph, inputs).at(1);
    for (std::int64_t i = 0; i < got.size(); ++i)
        EXPECT_EQ(std::isnan(got.at(i)), std::isnan(expected.at(i))) << "at " << i;
}

// Where tiles do not give them, the product that reads the rows takes them.
TEST(RowMomentsOf, RowsThatTilesCutUnevenly) {
    const Graph graph = both(DType::F16);
    const cuda::Plan plan =
        plan_in(graph, ProductTiles{.rows = 64, .columns = 96, .groups = 1, .blocks = 1});
    EXPECT_FALSE(says(plan, "with statistics of")) << plan.to_string();
    EXPECT_TRUE(says(plan, "which the product takes on the way")) << plan.to_string();
    expect_as_in_double(plan, graph, bound_of(DType::F16));
}

TEST(RowMomentsOf, TheRuleCanBeLeftOut) {
    const cuda::Plan plan =
        plan_in(both(DType::F16), some_tiles, {.disabled_rules = {"rows' norms beside products"}});
    EXPECT_FALSE(says(plan, "with statistics of")) << plan.to_string();
    EXPECT_TRUE(says(plan, "which the product takes on the way")) << plan.to_string();
}

TEST(RowMomentsOf, Compiles) {
    for (const DType dtype : {DType::F16, DType::BF16}) {
        const cuda::Plan plan = plan_in(both(dtype), some_tiles);
        ASSERT_EQ(plan.kernels.size(), 2u);
        EXPECT_NO_THROW(cuda::compile_kernels(
            plan.kernels, {.arch = "sm_90", .prelude = cuda::kernel_prelude()}));
    }
}

}  // namespace

}  // namespace kn::test
