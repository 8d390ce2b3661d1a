// Products, convolutions, attention, recurrent cells: library steps and kernels of ours, in native
// types and by precision policies.
#include <algorithm>

#include "cuda_eval/parity/parity.h"
#include "cuda_eval/plan/support.h"
#include "cuda_eval/rotary.h"
#include "lower/squeeze_epilogue.h"

namespace kn::test {
namespace {

const std::vector<Precision> all_policies = {Precision::TF32, Precision::F16, Precision::BF16};

TEST(ParityLinear, MatMulForms) {
    for (const DType dtype : {DType::F32, DType::F16, DType::F64}) {
        Parity p;
        const Var a = p.input(dtype, {24, 40}), b = p.input(dtype, {40, 56}),
                  c = p.input(dtype, {56, 40}), odd = p.input(dtype, {40, 7});
        const Var batched = p.input(dtype, {3, 2, 24, 40}), shared = p.input(dtype, {2, 40, 16});
        p.output(matmul(a, b), Loses::Product);
        p.output(matmul(a, transpose(c)), Loses::Product);
        p.output(matmul(transpose(b), transpose(a)), Loses::Product);
        p.output(matmul(a, odd), Loses::Product);
        p.output(matmul(slice(a, 0, 2, 21), slice(b, 1, 8, 40)), Loses::Product);
        p.output(matmul(flip(a, 0), b), Loses::Product);
        p.output(matmul(batched, shared), Loses::Product);
        p.output(matmul(batched, transpose(batched)), Loses::Product);
        p.output(matmul(broadcast_to(unsqueeze(a, {0}), {5, 24, 40}), b), Loses::Product);
        p.check();
    }
}

TEST(ParityLinear, ProductsWithTails) {
    Parity p;
    const Var x = p.input(DType::F32, {18, 48}), residual = p.input(DType::F32, {18, 64});
    const auto w = [&](Ints shape) { return p.weight(DType::F32, shape, Fill::Small); };
    const Var y = linear(x, w({48, 64}), w({64}));
    p.output(relu(linear(x, w({48, 64}), w({64}))), Loses::Product);
    p.output(gelu(linear(x, w({48, 64}), w({64}))), Loses::Product);
    p.output(gelu_tanh(linear(x, w({48, 64}), w({64}))), Loses::Product);
    p.output(linear(x, w({48, 64}), w({64})) + residual, Loses::Product);
    p.output(silu(y) * linear(x, w({48, 64})), Loses::Product);
    p.output(softmax(matmul(x, w({48, 10})), -1), Loses::Product);
    p.with(all_policies).check();
}

// Enough rows for both products to be in one kernel; what is added is a product itself, or is read.
TEST(ParityLinear, ProductsOfProducts) {
    for (const bool product : {true, false}) {
        Parity p;
        const auto w = [&](std::int64_t to, std::int64_t from) {
            return p.weight(DType::F16, {to, from, 1, 1}, Fill::Small);
        };
        const Var x = p.input(DType::F16, {1, 64, 55, 55}),
                  other = p.input(DType::F16, {1, product ? 64 : 256, 55, 55});
        const Var added = product ? conv(other, w(256, 64), {}, {}) : other;
        const Var y =
            relu(conv(x, w(256, 64), p.weight(DType::F16, {256}, Fill::Small), {}) + added);
        p.output(relu(conv(y, w(64, 256), {}, {})), Loses::Product);
        p.output(y, Loses::Product);
        p.check();
    }
}

int count(const cuda::Plan& plan, const std::string& part) {
    return static_cast<int>(std::ranges::count_if(plan.steps, [&](const cuda::Step& step) {
        return step.reason.find(part) != std::string::npos;
    }));
}

// A block whose products normalise their rows themselves: the second one by statistics that come
// with rows of equal parts, as those of squares do not.
TEST(ParityLinear, NormalisedRows) {
    for (const DType dtype : {DType::F16, DType::BF16})
        for (const std::int64_t width : {264, 320})
            for (const bool rms : {true, false}) {
                Parity p;
                const auto w = [&](const Ints& shape) {
                    return p.weight(dtype, shape, Fill::Small);
                };
                const auto norm = [&](const Var& x) {
                    return rms ? rms_norm(x, w({width})) : layer_norm(x, w({width}), w({width}));
                };
                const Var first = p.input(dtype, {2, 75, width});
                const Var x = first + relu(linear(norm(first), w({width, width}), w({width})));
                const Var y = x + relu(linear(x, w({width, width}), w({width})));
                const Var z = linear(norm(y), w({width, 3 * width}), w({3 * width}));
                p.output(y, Loses::Product);
                p.output(z, Loses::Product);
                const Var both = linear(norm(x), w({width, 2 * width}), w({2 * width}));
                p.output(slice(both, 2, 0, width) * gelu(slice(both, 2, width, 2 * width)),
                         Loses::Product);
                const cuda::Plan plan = cuda::plan(p.graph, h200());
                const int given = width == 320 && !rms ? 1 : 0;
                EXPECT_EQ(count(plan, "which came with them"), given) << plan.to_string();
                EXPECT_EQ(count(plan, "takes on the way"), 3 - given) << plan.to_string();
                p.check();
            }
}

// What two small products make of an image's mean changes the image, which is a convolution's.
Var squeezed_block(Parity& p, DType dtype, const Ints& shape) {
    const std::int64_t n = shape[0], channels = shape[1];
    const Var x = p.input(dtype, shape);
    const auto w = [&](Ints of) { return p.weight(dtype, of, Fill::Small); };
    const Var image = conv(x, w({channels, channels, 1, 1}), w({channels}));
    const Var hidden = relu(linear(mean(image, {2, 3}), w({channels, 16}), w({16})));
    const Var rows = linear(hidden, w({16, 2 * channels}), w({2 * channels}));
    const auto wide = [&](const Var& row) {
        return broadcast_to(reshape(row, {n, channels, 1, 1}), image.shape());
    };
    return relu(image * wide(sigmoid(slice(rows, 1, 0, channels))) +
                wide(slice(rows, 1, channels, 2 * channels)) + x);
}

// Enough rows for our kernel; queries, keys and values of one product.
TEST(ParityLinear, RotaryEmbeddings) {
    for (const Rotary form : {Rotary::Turned, Rotary::Halves, Rotary::Interleaved}) {
        Parity p;
        const std::int64_t length = 160, head = 32, table = table_width(head, form);
        const Var x = p.input(DType::F32, {1, length, 192});
        const Var cos = p.weight(DType::F32, {1, length, 1, table}),
                  sin = p.weight(DType::F32, {1, length, 1, table});
        const auto project = [&](std::int64_t heads) {
            const Var w = p.weight(DType::F32, {192, heads * head}, Fill::Small);
            return reshape(matmul(x, w), Shape::of({1, length, heads, head}));
        };
        const Var q = rotate(project(4), cos, sin, form), k = rotate(project(2), cos, sin, form);
        p.output(q, Loses::Product);
        p.output(k, Loses::Product);
        p.output(tanh(project(2)), Loses::Product);
        p.with(all_policies).check();
    }
}

TEST(ParityLinear, SqueezeAndExcite) {
    for (const Ints& shape : {Ints{2, 16, 7, 7}, Ints{8, 64, 8, 8}, Ints{1, 32, 19, 19}}) {
        Parity p;
        p.output(squeezed_block(p, DType::F32, shape), Loses::Product);
        p.with(all_policies).check();
    }
}

TEST(ParityLinear, SqueezeAndExciteInTheConvolutionsKernel) {
    using Tiles = cuda::SqueezedConvTiles;
    const std::vector<std::pair<Ints, Tiles>> cases = {
        {{4, 128, 8, 8}, {}},       {{10, 64, 8, 8}, {}},      {{8, 64, 4, 8}, {}},
        {{6, 256, 8, 8}, {128, 2}}, {{5, 128, 8, 8}, {64, 2}}, {{16, 256, 8, 8}, {64, 4}}};
    for (const DType dtype : {DType::F16, DType::BF16})
        for (const auto& [shape, tiles] : cases) {
            Parity p;
            p.output(squeezed_block(p, dtype, shape), Loses::Product);
            cuda::forced_squeezed_conv() = tiles;
            EXPECT_EQ(std::ranges::count(cuda::plan(p.graph, h200()).steps, "tensor_conv_squeeze",
                                         &cuda::Step::name),
                      1);
            p.check();
            cuda::forced_squeezed_conv().reset();
        }
}

struct ConvCase {
    std::string name;
    Ints x, w;
    ConvOptions options;
};

void PrintTo(const ConvCase& c, std::ostream* out) { *out << c.name; }

class ParityConv : public ::testing::TestWithParam<ConvCase> {};

TEST_P(ParityConv, PlainAndWithTails) {
    const auto& [name, x_shape, w_shape, options] = GetParam();
    Parity p;
    const Var x = p.input(DType::F32, x_shape), w = p.weight(DType::F32, w_shape, Fill::Small),
              bias = p.weight(DType::F32, {w_shape[0]});
    const Var y = conv(x, w, bias, options);
    p.output(conv(x, w, {}, options), Loses::Product);
    p.output(relu(y), Loses::Product);
    p.output(relu(conv(x, p.weight(DType::F32, w_shape, Fill::Small), bias, options) + y),
             Loses::Product);
    p.with(all_policies).check();
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, ParityConv,
    ::testing::Values(
        ConvCase{"k3", {2, 16, 9, 11}, {24, 16, 3, 3}, {.pads = {1, 1, 1, 1}}},
        ConvCase{"k1", {2, 16, 8, 8}, {32, 16, 1, 1}, {}},
        ConvCase{"stem", {1, 3, 23, 23}, {8, 3, 7, 7}, {.strides = {2, 2}, .pads = {3, 3, 3, 3}}},
        ConvCase{"depthwise", {2, 12, 10, 10}, {12, 1, 3, 3}, {.pads = {1, 1, 1, 1}, .groups = 12}},
        ConvCase{"groups", {1, 12, 8, 8}, {18, 4, 3, 3}, {.groups = 3}},
        ConvCase{
            "dilated", {1, 8, 15, 15}, {8, 8, 3, 3}, {.dilations = {2, 3}, .pads = {2, 3, 2, 3}}},
        ConvCase{"one_sided", {1, 8, 9, 9}, {8, 8, 2, 2}, {.pads = {1, 0, 0, 1}}},
        ConvCase{"line", {2, 8, 31}, {12, 8, 5}, {.strides = {2}, .pads = {2, 2}}},
        ConvCase{"cube", {1, 4, 6, 7, 5}, {6, 4, 3, 3, 3}, {.pads = {1, 1, 1, 1, 1, 1}}},
        ConvCase{"few_filters", {1, 128, 32, 32}, {6, 128, 3, 3}, {.pads = {1, 1, 1, 1}}},
        ConvCase{"odd", {1, 5, 7, 7}, {7, 5, 3, 3}, {}}),
    [](const auto& test) { return test.param.name; });

TEST(ParityLinear, ConvTranspose) {
    Parity p;
    const Var x = p.input(DType::F32, {2, 6, 5, 7}),
              w = p.weight(DType::F32, {6, 4, 3, 3}, Fill::Small), bias = p.weight(DType::F32, {4});
    p.output(conv_transpose(x, w, bias,
                            {.strides = {2, 2}, .pads = {1, 1, 1, 1}, .output_padding = {1, 1}}),
             Loses::Product);
    p.output(relu(conv_transpose(x, w)), Loses::Product);
    p.output(conv_transpose(x, p.weight(DType::F32, {6, 2, 2, 2}, Fill::Small), {},
                            {.strides = {2, 2}, .groups = 2}),
             Loses::Product);
    p.with(all_policies).check();
}

TEST(ParityLinear, FewChannelsAndMaxPool) {
    const Ints kernels[] = {{3, 3}, {2, 2}};
    for (const Ints& kernel : kernels) {
        Parity p;
        const Var x = p.input(DType::F32, {2, 3, 61, 70}),
                  w = p.weight(DType::F32, {64, 3, 7, 7}, Fill::Small),
                  bias = p.weight(DType::F32, {64});
        const Var y = relu(conv(x, w, bias, {.strides = {2, 2}, .pads = {3, 3, 3, 3}}));
        const std::int64_t pad = kernel[0] - 2;
        p.output(
            max_pool(y, {kernel[0], kernel[1]}, {.strides = {2, 2}, .pads = {pad, pad, pad, pad}}),
            Loses::Product);
        p.with(all_policies).check();
    }
}

// A view with negative strides is no library operand; a pad in front of a bias may not be folded
// into it.
TEST(ParityEdge, FlipIntoConvAndFoldingThroughPads) {
    Parity p;
    const Var x = p.input(DType::F32, {2, 8, 9, 10}),
              w = p.weight(DType::F32, {8, 8, 3, 3}, Fill::Small);
    p.output(conv(flip(x, 3), w, {}, {.pads = {1, 1, 1, 1}}), Loses::Product);
    p.output(flip(conv(flip(x, 2), w), 2), Loses::Product);
    p.output(conv(permute(p.input(DType::F32, {2, 10, 9, 8}), {0, 3, 2, 1}), w), Loses::Product);
    const Var scale = p.weight(DType::F32, {8, 1, 1}), shift = p.weight(DType::F32, {8, 1, 1});
    p.output(conv(x * scale + shift, w, {}, {.pads = {1, 1, 1, 1}}), Loses::Product);
    p.output(conv(pad(x * scale + shift, {0, 0, 1, 1}, {0, 0, 1, 1}), w), Loses::Product);
    p.output(conv(pad(x, {0, 0, 1, 1}, {0, 0, 1, 1}, 0.5), w) * scale + shift, Loses::Product);
    p.with(all_policies).check();
}

TEST(ParityLinear, Attention) {
    for (const DType dtype : {DType::F32, DType::F16}) {
        Parity p;
        const Var q = p.input(dtype, {2, 4, 20, 32}), k = p.input(dtype, {2, 4, 28, 32}),
                  v = p.input(dtype, {2, 4, 28, 32}), shared_k = p.input(dtype, {2, 2, 20, 32}),
                  shared_v = p.input(dtype, {2, 2, 20, 24}), mask = p.input(dtype, {1, 1, 20, 28}),
                  odd = p.input(dtype, {1, 2, 9, 20});
        const Var keep =
            less(p.input(DType::F32, {1, 1, 20, 28}), scalar(p.graph, DType::F32, 1.0));
        p.output(attention(q, k, v), Loses::Product);
        p.output(attention(q, k, v, mask), Loses::Product);
        p.output(attention(q, k, v, keep), Loses::Product);
        p.output(attention(q, shared_k, shared_v, {}, 0, CausalMask::TopLeft), Loses::Product);
        p.output(attention(q, k, v, {}, 0.3, CausalMask::BottomRight), Loses::Product);
        p.output(attention(odd, odd, odd), Loses::Product);
        p.check();
    }
}

TEST(ParityLinear, AttentionOutOfProducts) {
    Parity p;
    const Var x = p.input(DType::F32, {2, 24, 64});
    const auto project = [&] {
        return permute(
            reshape(matmul(x, p.weight(DType::F32, {64, 64}, Fill::Small)), {2, 24, 4, 16}),
            {0, 2, 1, 3});
    };
    const Var q = project(), k = project(), v = project();
    const Var weights = softmax(matmul(q, transpose(k)) * 0.25, -1);
    const Var joined = reshape(permute(matmul(weights, v), {0, 2, 1, 3}), {2, 24, 64});
    p.output(matmul(joined, p.weight(DType::F32, {64, 64}, Fill::Small)) + x, Loses::Product);
    p.with(all_policies).check();
}

TEST(ParityLinear, RecurrentCells) {
    for (const CellKind kind : {CellKind::Lstm, CellKind::Gru, CellKind::Rnn})
        for (const bool reverse : {false, true}) {
            Parity p;
            const std::int64_t gates = kind == CellKind::Lstm  ? 4
                                       : kind == CellKind::Gru ? 3
                                                               : 1,
                               hidden = 12;
            op::Recurrent cell{};
            cell.kind = kind;
            cell.x = p.input(DType::F32, {7, 3, 10});
            cell.w = p.weight(DType::F32, {gates * hidden, 10}, Fill::Small);
            cell.r = p.weight(DType::F32, {gates * hidden, hidden}, Fill::Small);
            cell.bias = p.weight(DType::F32, {2 * gates * hidden}, Fill::Small);
            cell.h0 = p.input(DType::F32, {3, hidden});
            if (kind == CellKind::Lstm) cell.c0 = p.input(DType::F32, {3, hidden});
            cell.activations =
                kind == CellKind::Lstm  ? std::vector{CellActivation::Sigmoid, CellActivation::Tanh,
                                                     CellActivation::Tanh}
                : kind == CellKind::Gru ? std::vector{CellActivation::Sigmoid, CellActivation::Tanh}
                                        : std::vector{CellActivation::Tanh};
            cell.alphas.assign(cell.activations.size(), 0);
            cell.betas.assign(cell.activations.size(), 0);
            cell.reverse = reverse;
            const Value all = p.graph.add(cell);
            p.output(p.graph.var(all), Loses::Recursion);
            p.output(p.graph.var(p.graph.result(all, 1)), Loses::Recursion);
            p.check();
        }
}

}  // namespace
}  // namespace kn::test
