// Rotary embeddings in the kernel of the product they follow, on the host against the CPU in double;
// and when they are not.
#include <kn/graph/precision.h>

#include "check.h"
#include "codegen/emit.h"
#include "cuda_eval/product_bounds.h"
#include "cuda_eval/rotary.h"
#include "executor/kernels.h"

namespace kn::test {

namespace {

using cuda::ProductTiles;

const std::string rule = "paired columns";

struct Sizes {
    std::int64_t batch = 2, length = 61, width = 136, heads = 2, kv_heads = 1, head = 64;
};

// What one product by all three weights becomes; nothing fills a tile.
struct Layer {
    Graph graph;
    Sizes s;
    DType dtype;
    Var x, cos, sin;
    Layer(DType type, Rotary form, const Sizes& sizes)
        : s(sizes),
          dtype(type),
          x(graph.input("x", type, Shape::of({s.batch, s.length, s.width}))),
          cos(weight(graph, {1, 1, s.length, table_width(s.head, form)}, type, 7)),
          sin(weight(graph, {1, 1, s.length, table_width(s.head, form)}, type, 8)) {}

    Var heads(const Var& y, std::int64_t count) const {
        return permute(reshape(y, Shape::of({s.batch, s.length, count, s.head})), {0, 2, 1, 3});
    }
    Var project(const Var& rows, std::int64_t count, std::uint64_t seed, bool bias = false) {
        const std::int64_t columns = count * s.head;
        const Var w = weight(graph, {s.width, columns}, dtype, seed);
        return heads(
            bias ? linear(rows, w, weight(graph, {columns}, dtype, seed + 9)) : matmul(rows, w),
            count);
    }
};

enum class Front { Rows, Norm, Bias };

Graph layer(DType dtype, Rotary form, Front front = Front::Rows, const Sizes& sizes = {}) {
    Layer l(dtype, form, sizes);
    const Var rows =
        front == Front::Norm ? rms_norm(l.x, weight(l.graph, {sizes.width}, dtype, 3)) : l.x;
    const bool bias = front == Front::Bias;
    const Var q = l.project(rows, sizes.heads, 4, bias),
              k = l.project(rows, sizes.kv_heads, 5, bias);
    const auto output = [&](const char* name, const Var& y) {
        l.graph.output(name, permute(y, {0, 2, 1, 3}));
    };
    output("q", rotate(q, l.cos, l.sin, form));
    output("k", rotate(k, l.cos, l.sin, form));
    output("v", relu(l.project(rows, sizes.kv_heads, 6, bias)));
    return std::move(l.graph);
}

cuda::Plan plan_in(const Graph& graph, const ProductTiles& tiles,
                   const cuda::PlanOptions& options = {}) {
    return plan_in_tiles(graph, cuda::forced_tiles(), tiles, 4, options);
}

void expect_right(const Graph& graph, const ProductTiles& tiles, const ProductBound& bound) {
    SCOPED_TRACE(name_of(bound.precision) + " in " + to_string(tiles));
    const cuda::Plan plan = plan_in(graph, tiles, {.precision = bound.precision});
    ASSERT_EQ(step_names(plan), std::vector<std::string>{"tensor_product"}) << plan.to_string();
    ASSERT_EQ(plan.steps[0].produces.size(), graph.outputs().size());
    expect_as_in_double(plan, graph, bound.of_peak);
}

constexpr Rotary forms[] = {Rotary::Turned, Rotary::Halves, Rotary::Interleaved};

class PairedColumns : public ::testing::TestWithParam<ProductTiles> {};

TEST_P(PairedColumns, RotaryEmbeddings) {
    for (const Rotary form : forms)
        expect_right(layer(DType::F16, form), GetParam(), product_bounds[2]);
    expect_right(layer(DType::BF16, Rotary::Turned), GetParam(), product_bounds[3]);
}

TEST_P(PairedColumns, BehindABias) {
    expect_right(layer(DType::F16, Rotary::Turned, Front::Bias), GetParam(), product_bounds[2]);
}

// Of one product alone; in the other order, which is copied.
TEST_P(PairedColumns, HeadsOfAnySize) {
    for (const std::int64_t head : {4, 16, 32, 128})
        for (const Rotary form : {Rotary::Turned, Rotary::Interleaved}) {
            if (head == 4 && form == Rotary::Turned) continue;
            if (head > GetParam().columns) continue;
            Layer l(DType::F16, form, {.heads = 384 / head, .head = head});
            l.graph.output("q", rotate(l.project(l.x, l.s.heads, 4), l.cos, l.sin, form));
            const cuda::Plan plan = plan_in(l.graph, GetParam());
            ASSERT_EQ(step_names(plan)[0], "tensor_product") << plan.to_string();
            ASSERT_EQ(plan.steps.size(), 2u) << plan.to_string();
            EXPECT_TRUE(plan.steps[0].produces.empty());
            EXPECT_EQ(plan.steps[1].reason, "the product's layout is another");
            expect_as_in_double(plan, l.graph, product_bounds[2].of_peak);
        }
}

// The rest of each head as it is; what is read as rows and columns of a matrix.
TEST_P(PairedColumns, OfAPartOfEachHead) {
    Layer l(DType::F16, Rotary::Turned, {.head = 32});
    const Var y = matmul(l.x, weight(l.graph, {136, 6 * 64}, DType::F16));
    const Var parts = reshape(y, Shape::of({2, 61, 6, 64}));
    const Var cos = reshape(l.cos, Shape::of({1, 61, 1, 32})),
              sin = reshape(l.sin, Shape::of({1, 61, 1, 32}));
    const Var turned = rotate(slice(parts, 3, 0, 32), cos, sin, Rotary::Turned);
    l.graph.output(
        "y", reshape(concat({turned, slice(parts, 3, 32, 64)}, 3), Shape::of({2, 61, 6 * 64})));
    const cuda::Plan plan = plan_in(l.graph, GetParam());
    ASSERT_EQ(step_names(plan), std::vector<std::string>{"tensor_product"}) << plan.to_string();
    expect_as_in_double(plan, l.graph, product_bounds[2].of_peak);
}

INSTANTIATE_TEST_SUITE_P(
    , PairedColumns,
    ::testing::Values(
        ProductTiles{.rows = 64, .columns = 64, .groups = 1, .stages = 2, .staged = true},
        ProductTiles{.rows = 64, .columns = 128, .groups = 1, .stages = 2, .staged = true},
        ProductTiles{.rows = 256, .columns = 128, .stages = 2, .blocks = 1, .staged = true},
        ProductTiles{
            .rows = 128, .columns = 128, .stages = 3, .blocks = 1, .share_w = 2, .staged = true},
        ProductTiles{
            .rows = 128, .columns = 128, .stages = 4, .blocks = 1, .staged = true, .turns = true}),
    name_of_tiles);

constexpr ProductTiles some_tiles{
    .rows = 64, .columns = 128, .groups = 1, .stages = 2, .staged = true};

TEST(PairedColumnsOf, NormalisedRows) {
    for (const Rotary form : forms)
        expect_right(layer(DType::F16, form, Front::Norm), some_tiles, product_bounds[2]);
}

// Angles for each image and position, read in a type of their own.
TEST(PairedColumnsOf, AnglesThatAreComputed) {
    Layer l(DType::F16, Rotary::Turned, {});
    const Var angles = l.graph.input("angles", DType::F32, Shape::of({2, 61, 64}));
    const auto table = [&](const Var& y) { return unsqueeze(cast(y, DType::F16), {1}); };
    const Var q =
        rotate(l.project(l.x, 2, 4), table(cos(angles)), table(sin(angles)), Rotary::Turned);
    l.graph.output("q", permute(q, {0, 2, 1, 3}));
    const cuda::Plan plan = plan_in(l.graph, some_tiles);
    EXPECT_EQ(plan.steps.back().name, "tensor_product") << plan.to_string();
    EXPECT_EQ(refusals(plan, rule), "");
    expect_as_in_double(plan, l.graph, product_bounds[2].of_peak);
}

TEST(PairedColumnsInCuda, Compile) {
    for (const Rotary form : forms) {
        const cuda::Plan plan = plan_in(layer(DType::F16, form, Front::Norm), some_tiles);
        ASSERT_EQ(plan.kernels.size(), 1u);
        EXPECT_NO_THROW(cuda::compile_kernels(
            plan.kernels, {.arch = "sm_90", .prelude = cuda::kernel_prelude()}));
    }
}

std::string refusal(const Graph& graph, const ProductTiles& tiles = some_tiles) {
    const cuda::Plan plan = plan_in(graph, tiles);
    EXPECT_GT(plan.steps.size(), 1u);
    return refusals(plan, rule);
}

TEST(PairedColumnsRefused, WhereTheProductIsReadAsItIs) {
    Layer l(DType::F16, Rotary::Turned, {});
    const Var q = l.project(l.x, 2, 4);
    l.graph.output("q", rotate(q, l.cos, l.sin, Rotary::Turned));
    l.graph.output("most", reduce(ReduceOp::Max, q, {3}));
    EXPECT_EQ(refusal(l.graph), "something else reads what meets behind the product");
}

TEST(PairedColumnsRefused, WhereOnePartWaitsForAnother) {
    Layer l(DType::F16, Rotary::Turned, {});
    const Var q = l.project(l.x, 2, 4),
              k = rotate(l.project(l.x, 1, 5), l.cos, l.sin, Rotary::Turned);
    l.graph.output("k", k);
    const Var most = reduce(ReduceOp::Max, k, {1, 2}, true);
    l.graph.output("q", rotate(q, l.cos, l.sin, Rotary::Turned) * most);
    EXPECT_EQ(refusal(l.graph), "what meets them is computed from the product, too");
}

TEST(PairedColumnsRefused, WhereHeadsAreNoPowerOfTwo) {
    EXPECT_EQ(refusal(layer(DType::F16, Rotary::Turned, Front::Rows, {.head = 48})),
              "columns that meet are not one power of two apart");
}

TEST(PairedColumnsRefused, WhereTilesHaveNoWholePairs) {
    ProductTiles tiles = some_tiles;
    tiles.columns = 64;
    EXPECT_EQ(refusal(layer(DType::F16, Rotary::Turned, Front::Rows, {.head = 128}), tiles),
              "columns that meet are in different tiles");
    tiles.staged = false;
    EXPECT_EQ(refusal(layer(DType::F16, Rotary::Turned), tiles),
              "columns meet in staged results of two bytes alone");
}

TEST(PairedColumnsRefused, WhereThreadsHaveNoPairs) {
    EXPECT_EQ(refusal(layer(DType::F16, Rotary::Turned, Front::Rows,
                            {.heads = 16, .kv_heads = 16, .head = 8})),
              "columns that meet are in different threads");
}

TEST(PairedColumnsRefused, WherePartsBeginAmidAPanel) {
    EXPECT_EQ(refusal(layer(DType::F16, Rotary::Turned, Front::Rows, {.head = 32})),
              "results begin amid columns that are written at once");
}

TEST(PairedColumnsRefused, InFloat32) {
    EXPECT_EQ(refusal(layer(DType::F32, Rotary::Turned)),
              "results go through the copy engine as half types");
}

TEST(PairedColumnsRefused, WithoutAWeight) {
    Layer l(DType::F16, Rotary::Turned, {});
    const Var w = l.graph.input("w", DType::F16, Shape::of({136, 128}));
    l.graph.output("q", rotate(l.heads(matmul(l.x, w), 2), l.cos, l.sin, Rotary::Turned));
    EXPECT_EQ(refusal(l.graph), "the second operand is no weight");
}

TEST(PairedColumnsRefused, WhereTheResultHasAnotherType) {
    Layer l(DType::F16, Rotary::Turned, {});
    l.graph.output("q",
                   cast(rotate(l.project(l.x, 2, 4), l.cos, l.sin, Rotary::Turned), DType::F32));
    EXPECT_EQ(refusal(l.graph), "results are of another type");
}

// Other heads' columns are no partners; halves of all columns, which become half as many, neither.
TEST(PairedColumnsRefused, SilentlyWhereColumnsDoNotMeet) {
    Layer l(DType::F16, Rotary::Turned, {});
    const Var q = l.project(l.x, 2, 4);
    l.graph.output("q", concat({slice(q, 1, 1, 2), slice(q, 1, 0, 1)}, 3) * 2);
    const Var gates = matmul(tanh(l.x), weight(l.graph, {136, 256}, DType::F16));
    l.graph.output("gated", slice(gates, 2, 0, 128) * sigmoid(slice(gates, 2, 128, 256)));
    const cuda::Plan plan = plan_in(l.graph, some_tiles, {.disabled_rules = {"gated product"}});
    for (const cuda::Decision& decision : plan.decisions) EXPECT_NE(decision.rule, rule);
}

}  // namespace

}  // namespace kn::test
