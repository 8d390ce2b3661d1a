// Convolutions with squeeze and excite in their epilogue, on the host.
#include <algorithm>

#include <fmt/core.h>

#include <kn/cuda_sys/nvrtc.h>

#include "check.h"
#include "lower/squeeze_epilogue.h"

namespace kn::test {

namespace {

struct SqueezedConvCase {
    Ints shape;  // of the convolution's result
    std::int64_t hidden;
    DType dtype = DType::F16;
    ReduceOp op = ReduceOp::Mean;
    std::int64_t kernel = 3;
    bool bias = true;
    bool shift = true;
    bool residual = true;
    cuda::SqueezedConvTiles tiles = {};
    bool relu = true, bent = false;
    bool offset = false;       // the same for all images
    std::int64_t inputs = 64;  // channels of the convolution's image
};

void PrintTo(const SqueezedConvCase& c, std::ostream* out) {
    *out << ::testing::PrintToString(c.shape) << " " << name_of(c.dtype) << ", " << c.hidden
         << " hidden, windows of " << c.kernel << (c.bias ? ", bias" : "")
         << (c.shift ? ", shift" : "") << (c.residual ? ", residual" : "") << ", in "
         << c.tiles.rows << " by " << c.tiles.blocks << (c.relu ? ", relu" : "")
         << (c.bent ? ", tanh" : "") << (c.offset ? ", offset" : "");
}

Graph block(const SqueezedConvCase& c, bool keep_image = false) {
    Graph g;
    const std::int64_t n = c.shape[0], channels = c.shape[1];
    const auto image = [&](const char* name, std::int64_t count) {
        return permute(g.input(name, c.dtype, Shape::of({n, c.shape[2], c.shape[3], count})),
                       {0, 3, 1, 2});
    };
    const std::int64_t pad = c.kernel / 2;
    Var x = conv(image("x", c.inputs), weight(g, {channels, c.inputs, c.kernel, c.kernel}, c.dtype),
                 {}, {.pads = {pad, pad, pad, pad}});
    if (c.bias) x = x + weight(g, {1, channels, 1, 1}, c.dtype, 1);
    if (keep_image) g.output("image", permute(x, {0, 2, 3, 1}));
    const std::int64_t columns = c.shift ? 2 * channels : channels;
    const Var mean = reduce(c.op, x, {2, 3});
    Var y = matmul(reshape(mean, {n, channels}), weight(g, {channels, c.hidden}, c.dtype));
    y = relu(y + weight(g, {1, c.hidden}, c.dtype, 2));
    y = matmul(y, weight(g, {c.hidden, columns}, c.dtype, 3)) + weight(g, {1, columns}, c.dtype, 4);
    y = y * 0.01;  // where a sigmoid tells the products' last digits from others
    const auto wide = [&](const Var& row) {
        return broadcast_to(reshape(row, {n, channels, 1, 1}), x.shape());
    };
    Var result = x * wide(sigmoid(slice(y, 1, 0, channels)));
    if (c.shift) result = result + wide(slice(y, 1, channels, columns));
    if (c.offset) result = result + weight(g, {1, channels, 1, 1}, c.dtype, 5);
    if (c.residual) result = result + image("residual", channels);
    if (c.bent) result = tanh(result);
    if (c.relu) result = relu(result);
    g.output("y", permute(result, {0, 2, 3, 1}));
    return g;
}

cuda::Plan forced_plan(const Graph& graph, int sm_count, const cuda::SqueezedConvTiles& tiles) {
    cuda::DeviceProperties device = h200();
    device.sm_count = sm_count;
    cuda::forced_squeezed_conv() = tiles;
    cuda::Plan plan = cuda::plan(graph, device);
    cuda::forced_squeezed_conv().reset();
    return plan;
}

class SqueezedConvs : public ::testing::TestWithParam<SqueezedConvCase> {};

TEST_P(SqueezedConvs, AsInDouble) {
    const Graph graph = block(GetParam());
    const cuda::Plan plan =
        forced_plan(graph, 2, GetParam().tiles);  // so that blocks take several tiles
    EXPECT_EQ(step_names(plan), std::vector<std::string>{"tensor_conv_squeeze"})
        << plan.to_string();
    // A mean's rounding to the type moves all that it changes.
    expect_as_in_double(plan, graph, GetParam().dtype == DType::F16 ? 2e-3 : 1.6e-2);
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, SqueezedConvs,
    ::testing::Values(
        SqueezedConvCase{{10, 64, 8, 8}, 16}, SqueezedConvCase{{4, 128, 8, 8}, 24, DType::BF16},
        SqueezedConvCase{{2, 256, 8, 8}, 64},
        SqueezedConvCase{{8, 64, 4, 8}, 72, DType::F16, ReduceOp::Sum, 1},
        SqueezedConvCase{{16, 64, 4, 4}, 8, DType::F16, ReduceOp::Max, 3, false},
        SqueezedConvCase{{6, 64, 8, 8}, 16, DType::F16, ReduceOp::Mean, 3, true, false, false},
        SqueezedConvCase{
            {3, 256, 8, 8}, 64, DType::F16, ReduceOp::Mean, 3, true, true, true, {64, 4}},
        SqueezedConvCase{
            {2, 128, 8, 8}, 24, DType::BF16, ReduceOp::Max, 1, true, true, false, {64, 2}},
        SqueezedConvCase{
            {4, 256, 4, 8}, 72, DType::F16, ReduceOp::Mean, 3, false, false, true, {64, 2}},
        SqueezedConvCase{.shape = {4, 64, 8, 8}, .hidden = 16, .relu = false},
        SqueezedConvCase{.shape = {4, 64, 8, 8},
                         .hidden = 16,
                         .dtype = DType::BF16,
                         .residual = false,
                         .relu = false},
        SqueezedConvCase{.shape = {4, 64, 8, 8}, .hidden = 16, .shift = false, .offset = true},
        // No scale and shift.
        SqueezedConvCase{.shape = {4, 128, 8, 8}, .hidden = 16, .bent = true},
        SqueezedConvCase{.shape = {2, 128, 8, 8}, .hidden = 16, .tiles = {128, 2}, .bent = true}));

std::string refusal(const Graph& graph, const cuda::DeviceProperties& device = h200()) {
    const cuda::Plan plan = cuda::plan(graph, device);
    EXPECT_EQ(std::ranges::count(plan.steps, "tensor_conv_squeeze", &cuda::Step::name), 0);
    for (const cuda::Decision& decision : plan.decisions)
        if (decision.rule == "convolution, squeeze and excite" && !decision.taken)
            return decision.reason;
    return "";
}

TEST(SqueezedConv, RefusesWithReason) {
    const auto of = [](const Ints& shape, std::int64_t hidden, DType dtype = DType::F16) {
        return refusal(block({shape, hidden, dtype}));
    };
    EXPECT_EQ(of({2, 64, 8, 8}, 16, DType::F32),
              "the image and its products are not of one half type");
    constexpr const char* too_large =
        "whole images with all their channels, and the products' weights, fit no tiles";
    for (const Ints& shape : {Ints{2, 64, 9, 9}, Ints{3, 64, 8, 8}, Ints{2, 320, 8, 8}})
        EXPECT_EQ(of(shape, 16), too_large);
    EXPECT_EQ(of({256, 256, 8, 8}, 256), too_large);
    // k shared out to blocks is better for so few images, and half a wave of blocks waits for the
    // other.
    for (const std::int64_t images : {2, 384})
        EXPECT_TRUE(refusal(block({.shape = {images, 256, 8, 8}, .hidden = 64, .inputs = 256}))
                        .starts_with("kernels of their own would take"))
            << images;
    cuda::DeviceProperties older = h200();
    older.compute_major = 8;
    EXPECT_EQ(refusal(block({{2, 64, 8, 8}, 16}), older), "the device is none of Hopper's");
}

// As measured on an H200.
TEST(SqueezedConv, SharesImagesOutToFillTheDevice) {
    const std::pair<std::int64_t, const char*> expected[] = {
        {16, "64x64"}, {64, "64x128"}, {128, "128x128"}, {256, "128x256"}};
    for (const auto& [images, tiles] : expected) {
        const Graph graph = block({.shape = {images, 256, 8, 8}, .hidden = 64, .inputs = 256});
        const cuda::Plan plan = cuda::plan(graph, h200());
        ASSERT_EQ(step_names(plan), std::vector<std::string>{"tensor_conv_squeeze"})
            << plan.to_string();
        EXPECT_TRUE(plan.steps[0].tiles.starts_with(tiles)) << plan.steps[0].tiles;
        const cuda::PlanKernel& kernel = plan.kernels.at(0);
        EXPECT_NO_THROW(cuda::compile(kernel.source, {.arch = kernel.arch}));
    }
}

TEST(SqueezedConv, LeavesImagesThatOthersRead) {
    EXPECT_EQ(refusal(block({{256, 256, 8, 8}, 64}, true)), "");
}

}  // namespace

}  // namespace kn::test
