// Reductions, softmax, norms, pools, running sums, sorting, over axes, sizes and strides.
#include <span>

#include "cuda_eval/parity/parity.h"

namespace kn::test {
namespace {

class ParityReduce : public ::testing::TestWithParam<DType> {};

TEST_P(ParityReduce, Axes) {
    const DType dtype = GetParam();
    for (const Ints& axes : {Ints{2}, Ints{0}, Ints{1}, Ints{0, 2}, Ints{0, 1, 2}}) {
        Parity p;
        const Var x = p.input(dtype, {5, 33, 70}),
                  small = p.input(dtype, {2, 3, 4}, Fill::Positive);
        p.output(reduce(ReduceOp::Sum, x, axes), Loses::Sum);
        p.output(reduce(ReduceOp::Max, x, axes, true), Loses::Nothing);
        p.output(reduce(ReduceOp::Min, flip(x, 1), axes), Loses::Nothing);
        if (is_float(dtype)) {
            p.output(mean(x * 2.0 + 1.0, axes), Loses::Sum);
            p.output(reduce(ReduceOp::Prod, small, axes), Loses::Recursion);
            p.output(mean(permute(x, {2, 0, 1}), axes), Loses::Sum);
        }
        p.check();
    }
}

TEST_P(ParityReduce, ArgAndOrder) {
    Parity p;
    const DType dtype = GetParam();
    const Var x = p.input(dtype, {6, 45});
    for (const bool largest : {false, true})
        for (const bool last : {false, true})
            p.output(p.graph.var(p.graph.add(op::ArgReduce{largest, last, x, 1})), Loses::Nothing);
    p.output(p.graph.var(p.graph.add(op::ArgReduce{true, false, x, 0})), Loses::Nothing);
    for (const bool largest : {false, true}) {
        const TopKResult top = top_k(x, 7, 1, largest);
        p.output(top.values, Loses::Nothing);
        p.output(top.indices, Loses::Nothing);
    }
    const TopKResult all = top_k(x, 6, 0);
    p.output(all.values, Loses::Nothing);
    p.output(all.indices, Loses::Nothing);
    p.check();
}

TEST_P(ParityReduce, Running) {
    const DType dtype = GetParam();
    Parity p;
    const Var x = p.input(dtype, {4, 50}, Fill::Positive);
    for (const bool exclusive : {false, true})
        for (const bool reverse : {false, true}) {
            p.output(
                p.graph.var(p.graph.add(op::Cumulative{ReduceOp::Sum, x, 1, exclusive, reverse})),
                Loses::Recursion);
            p.output(
                p.graph.var(p.graph.add(op::Cumulative{ReduceOp::Sum, x, 0, exclusive, reverse})),
                Loses::Recursion);
        }
    p.check();
}

INSTANTIATE_TEST_SUITE_P(Types, ParityReduce,
                         ::testing::Values(DType::F32, DType::F16, DType::F64, DType::I32),
                         [](const auto& test) { return std::string(name_of(test.param)); });

class ParityRows : public ::testing::TestWithParam<DType> {};

TEST_P(ParityRows, Softmax) {
    Parity p;
    const DType dtype = GetParam();
    const Var x = p.input(dtype, {3, 4, 77}), y = p.input(dtype, {4, 77});
    for (const std::int64_t axis : {-1, 1, 0}) {
        p.output(softmax(x, axis), Loses::Sum);
        p.output(log_softmax(x, axis), Loses::Sum);
    }
    p.output(softmax(x * 0.125 + y, -1) * 2.0, Loses::Sum);
    p.output(softmax(permute(x, {0, 2, 1}), -1), Loses::Sum);
    p.check();
}

TEST_P(ParityRows, FewLong) {
    Parity p;
    const DType dtype = GetParam();
    const Var x = p.input(dtype, {2, 9000}), image = p.input(dtype, {1, 12, 36, 40}),
              last = p.input(dtype, {1, 40, 36, 12});
    const Var scale = p.weight(dtype, {12}), bias = p.weight(dtype, {12});
    p.output(softmax(x * 3.0, -1), Loses::Sum);
    p.output(log_softmax(permute(x, {1, 0}), 0), Loses::Sum);
    p.output(mean(x, {0, 1}), Loses::Sum);
    p.output(reduce(ReduceOp::Max, last, {1, 2}), Loses::Nothing);
    p.output(silu(group_norm(image, 3, scale, bias)), Loses::Sum);
    p.output(permute(silu(group_norm(permute(last, {0, 3, 1, 2}), 3, scale, bias)), {0, 2, 3, 1}),
             Loses::Sum);
    p.check();
}

TEST_P(ParityRows, SqueezeExcitation) {
    Parity p;
    const DType dtype = GetParam();
    const Var image = p.input(dtype, {10, 64, 8, 8}), residual = p.input(dtype, {10, 64, 8, 8});
    const Var squeeze = p.weight(dtype, {64, 16}), excite = p.weight(dtype, {16, 128});
    Var y = relu(matmul(mean(image, {2, 3}), squeeze) * 0.125 + p.weight(dtype, {1, 16}));
    y = matmul(y, excite) + p.weight(dtype, {1, 128});
    p.output(y, Loses::Sum);
    const Var scale = reshape(slice(y, 1, 0, 64), {10, 64, 1, 1}),
              shift = reshape(slice(y, 1, 64, 128), {10, 64, 1, 1});
    p.output(relu(image * sigmoid(scale) + shift + residual), Loses::Sum);
    p.check();
}

TEST_P(ParityRows, Norms) {
    Parity p;
    const DType dtype = GetParam();
    const Var x = p.input(dtype, {3, 16, 40}), residual = p.input(dtype, {3, 16, 40}),
              wide = p.input(dtype, {2, 3, 1500});
    const Var scale = p.weight(dtype, {40}), bias = p.weight(dtype, {40}),
              channels = p.weight(dtype, {16});
    p.output(layer_norm(x, scale, bias), Loses::Sum);
    p.output(rms_norm(x, scale), Loses::Sum);
    p.output(layer_norm(x + residual, scale, bias), Loses::Sum);
    p.output(group_norm(x, 4, channels, channels), Loses::Sum);
    p.output(silu(group_norm(x, 16, channels, channels)), Loses::Sum);
    p.output(normalize(NormKind::MeanVariance, wide, {1, 2}, 1e-5), Loses::Sum);
    p.output(normalize(NormKind::MeanSquare, x, {0, 1}, 1e-6), Loses::Sum);
    p.check();
}

// The same rows read at several places of one result, and results of which only some elements have
// a row. A graph each: what has several readers is stored.
TEST_P(ParityRows, MovedResults) {
    using Expression = std::function<Var(Var)>;
    const Expression rows[] = {[](Var x) { return softmax(x, 3); },
                               [](Var x) { return softmax(x, 1); },
                               [](Var x) { return normalize(NormKind::MeanSquare, x, {3}, 1e-3); },
                               [](Var x) { return x - mean(x, {3}, true); }};
    const Expression moves[] = {
        [](Var y) {
            return concat({y, gelu(y)}, 2);
        },
        [](Var y) {
            return concat({y * 2.0, flip(y, 3)}, 3);
        },
        [](Var y) { return y + flip(y, 0); },
        [](Var y) { return slice(y, 2, 0, 4) - slice(y, 2, 1, 5) * 0.5; },
        [](Var y) {
            return pad(y, {0, 0, 2, 0}, {0, 0, 1, 0}) + 1.0;
        },
    };
    for (const Expression& row : std::span(rows).first(small_only() ? 1 : std::size(rows)))
        for (const Expression& move : moves) {
            Parity p;
            p.output(move(row(p.input(GetParam(), {3, 4, 5, 21}))), Loses::Sum);
            p.check();
        }
}

TEST_P(ParityRows, Pools) {
    Parity p;
    const DType dtype = GetParam();
    const Var x = p.input(dtype, {2, 6, 13, 11}), line = p.input(dtype, {2, 3, 29});
    p.output(max_pool(x, {3, 3}, {.strides = {2, 2}, .pads = {1, 1, 1, 1}}), Loses::Nothing);
    p.output(max_pool(x, {2, 3}, {.strides = {1, 2}, .dilations = {2, 1}}), Loses::Nothing);
    p.output(average_pool(x, {3, 3}, {.strides = {2, 2}, .pads = {1, 1, 1, 1}}), Loses::Sum);
    p.output(average_pool(x, {3, 3}, {.strides = {2, 2}, .pads = {1, 1, 1, 1}}, true), Loses::Sum);
    p.output(average_pool(line, {5}, {.strides = {3}}), Loses::Sum);
    p.output(mean(relu(x), {2, 3}), Loses::Sum);
    p.check();
}

INSTANTIATE_TEST_SUITE_P(Types, ParityRows, ::testing::Values(DType::F32, DType::F16, DType::BF16),
                         [](const auto& test) { return std::string(name_of(test.param)); });

}  // namespace
}  // namespace kn::test
