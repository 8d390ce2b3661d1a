// Squeeze and excite in one kernel, on the host.
#include <algorithm>
#include <set>

#include "check.h"
#include "lower/squeeze.h"

namespace kn::test {

namespace {

struct SqueezeCase {
    Ints shape;
    std::int64_t hidden;
    DType dtype = DType::F16;
    cuda::SqueezeTiles tiles = {};
    ReduceOp op = ReduceOp::Mean;
    bool shift = true;
    bool residual = true;
};

void PrintTo(const SqueezeCase& c, std::ostream* out) {
    *out << ::testing::PrintToString(c.shape) << " " << name_of(c.dtype) << ", " << c.hidden
         << " hidden, " << to_string(c.tiles) << (c.shift ? ", shift" : "")
         << (c.residual ? ", residual" : "");
}

Var like_image(Graph& g, const char* name, const SqueezeCase& c) {
    const Ints& s = c.shape;
    return permute(g.input(name, c.dtype, Shape::of({s[0], s[2], s[3], s[1]})), {0, 3, 1, 2});
}

/// What the products make of x, and x changed by it.
Var squeezed(Graph& g, const Var& x, const SqueezeCase& c) {
    const std::int64_t n = c.shape[0], channels = c.shape[1];
    const std::int64_t columns = c.shift ? 2 * channels : channels;
    const Var mean = reduce(c.op, x, {2, 3});
    Var y = matmul(reshape(mean, {n, channels}), weight(g, {channels, c.hidden}, c.dtype));
    y = relu(y + weight(g, {1, c.hidden}, c.dtype, 2));
    y = matmul(y, weight(g, {c.hidden, columns}, c.dtype, 3)) + weight(g, {1, columns}, c.dtype, 4);
    const auto wide = [&](const Var& row) {
        return broadcast_to(reshape(row, {n, channels, 1, 1}), x.shape());
    };
    Var result = x * wide(sigmoid(slice(y, 1, 0, channels)));
    if (c.shift) result = result + wide(slice(y, 1, channels, columns));
    return result;
}

Graph block(const SqueezeCase& c) {
    Graph g;
    const Var x = like_image(g, "x", c);
    Var y = squeezed(g, x, c);
    if (c.residual) y = y + like_image(g, "residual", c);
    g.output("y", permute(relu(y), {0, 2, 3, 1}));
    return g;
}

class Squeezed : public ::testing::TestWithParam<SqueezeCase> {};

TEST_P(Squeezed, AsOnTheCpu) {
    const SqueezeCase& c = GetParam();
    cuda::forced_squeeze_tiles() = c.tiles;
    const cuda::Plan plan = expect_same(block(c));
    cuda::forced_squeeze_tiles().reset();
    EXPECT_EQ(step_names(plan).front(), "squeeze") << plan.to_string();
    EXPECT_EQ(plan.steps.size(), 1u) << plan.to_string();
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, Squeezed,
    ::testing::Values(
        SqueezeCase{{4, 64, 8, 8}, 16, DType::F16, {4, 4, 256}},
        SqueezeCase{{8, 32, 8, 8}, 24, DType::BF16, {8, 2, 256}},
        SqueezeCase{{2, 40, 7, 7}, 8, DType::F16, {1, 1, 256}},
        SqueezeCase{{2, 40, 7, 7}, 8, DType::F32, {2, 1, 256}},
        SqueezeCase{{1, 128, 5, 3}, 72, DType::F32, {1, 8, 256}},
        SqueezeCase{{6, 96, 3, 3}, 12, DType::F32, {2, 4, 256}, ReduceOp::Max},
        SqueezeCase{{3, 256, 8, 8}, 64, DType::F16, {1, 8, 256}},
        SqueezeCase{{4, 48, 19, 19}, 8, DType::BF16, {1, 2, 512}, ReduceOp::Min, false, false},
        SqueezeCase{{4, 64, 8, 8}, 32, DType::F16, {2, 2, 512}, ReduceOp::Sum}));

// Convolutions over images of one pixel as products; tiles by the model.
TEST(SqueezeFusion, ProductsAsConvolutions) {
    for (const DType dtype : {DType::F32, DType::F16}) {
        Graph g;
        const Var x = like_image(g, "x", {{2, 32, 6, 6}, 8, dtype});
        const Var y = silu(conv(mean(x, {2, 3}, true), weight(g, {8, 32, 1, 1}, dtype)));
        const Var scale = conv(y, weight(g, {32, 8, 1, 1}, dtype), weight(g, {32}, dtype));
        g.output("y", permute(x * broadcast_to(sigmoid(scale), x.shape()), {0, 2, 3, 1}));
        const auto plan = expect_same(g);
        EXPECT_EQ(step_names(plan), std::vector<std::string>{"squeeze"}) << plan.to_string();
    }
}

// What others want in rows is copied.
TEST(SqueezeFusion, ImageThatLiesOtherwise) {
    const SqueezeCase c{{2, 16, 4, 4}, 8};
    Graph g;
    const Var x = relu(g.input("x", c.dtype, Shape::of(c.shape)));
    g.output("y", squeezed(g, x, c));
    for (const char* name : {"a", "b", "c", "d"})
        g.output(std::string("y") + name,
                 matmul(reshape(x, {2, 256}), g.input(name, c.dtype, {256, 8})));
    const auto plan = expect_same(g);
    const auto names = step_names(plan);
    EXPECT_EQ(std::ranges::count(names, "squeeze"), 1) << plan.to_string();
    EXPECT_EQ(std::ranges::count(names, "copy"), 1) << plan.to_string();
}

std::string refusal(const Graph& g, const cuda::DeviceProperties& device = h200()) {
    const cuda::Plan plan = cuda::plan(g, device);
    EXPECT_EQ(std::ranges::count(plan.steps, "squeeze", &cuda::Step::name), 0);
    std::set<std::string> reasons;  // every operation on the way to the result is tried as its end
    for (const cuda::Decision& decision : plan.decisions)
        if (decision.rule == "squeeze and excite" && !decision.taken)
            reasons.insert(decision.reason);
    EXPECT_LE(reasons.size(), 1u);
    return reasons.empty() ? "" : *reasons.begin();
}

TEST(SqueezeFusion, RefusesWithReason) {
    const auto of = [](const Ints& shape, std::int64_t hidden, DType dtype = DType::F16) {
        return refusal(block({shape, hidden, dtype}));
    };
    EXPECT_EQ(of({2, 20, 4, 4}, 8), "20 channels are not whole vectors");
    EXPECT_EQ(of({2, 32, 4, 4}, 12), "12 columns are not whole vectors");
    EXPECT_EQ(of({2, 64, 128, 128}, 8),
              "16384 positions of 8 channels and 1536 weights do not fit registers");
    cuda::DeviceProperties older = h200();
    older.compute_major = 8;
    EXPECT_EQ(refusal(block({{2, 32, 4, 4}, 8}), older), "the device has no clusters of blocks");
}

TEST(SqueezeFusion, LeavesOtherForms) {
    const SqueezeCase c{{2, 32, 4, 4}, 8};
    {  // as the caller has it
        Graph g;
        const Var x = g.input("x", c.dtype, Shape::of(c.shape));
        g.output("y", squeezed(g, x, c));
        EXPECT_NE(refusal(g).find("channels are not its innermost axis"), std::string::npos);
    }
    {  // the mean is wanted by others
        Graph g;
        const Var x = like_image(g, "x", c);
        g.output("y", permute(squeezed(g, x, c), {0, 2, 3, 1}));
        g.output("mean", reshape(mean(x, {2, 3}), {2, 32}));
        EXPECT_EQ(refusal(g), "");
    }
    {  // of channels in another order
        Graph g;
        const Var x = like_image(g, "x", c);
        const Var rows = matmul(relu(matmul(mean(x, {2, 3}), weight(g, {32, 8}, c.dtype))),
                                weight(g, {8, 32}, c.dtype));
        const Var scale = broadcast_to(reshape(flip(rows, 1), {2, 32, 1, 1}), x.shape());
        g.output("y", permute(x * scale, {0, 2, 3, 1}));
        EXPECT_EQ(refusal(g),
                  "the result reads another element of the products than its channel's");
    }
}

}  // namespace

}  // namespace kn::test
