// A composite operation and its decomposition give the same on the CPU.
#include <gmock/gmock.h>

#include <kn/graph/decompose.h>

#include "cpu_reference.h"

namespace kn {
namespace {

using namespace reference;
using testing::HasSubstr;

bool has_composites(const Graph& graph) {
    for (const Value& value : graph.live()) {
        const Operation& operation = graph[value].operation;
        if (is_composite(operation)) return true;
        if (const auto* loop = std::get_if<op::Loop>(&operation))
            if (has_composites(*loop->body)) return true;
    }
    return false;
}

/// Runs both forms on the inputs (of the graph's symbolic or static shapes) and compares all
/// results.
void expect_same(const Graph& graph, const std::vector<Tensor>& inputs, double tolerance) {
    const Graph plain = decompose(graph);
    EXPECT_FALSE(has_composites(plain)) << plain.to_string();
    const auto expected = cpu::run(graph, inputs), actual = cpu::run(plain, inputs);
    for (std::size_t i = 0; i < expected.size(); ++i) {
        EXPECT_EQ(actual[i].type_string(), expected[i].type_string());
        expect_close(actual[i], doubles(expected[i]), tolerance);
    }
}

/// A graph of one operation over inputs of these shapes, all results as outputs.
Graph graph_of(DType dtype, const std::vector<Shape>& shapes,
               const std::function<Operation(const std::vector<Value>&)>& make) {
    Graph g;
    std::vector<Value> values;
    for (std::size_t i = 0; i < shapes.size(); ++i)
        values.push_back(g.input("in" + std::to_string(i), dtype, shapes[i]));
    const Value made = g.add(make(values));
    for (std::size_t i = 0; i < g[made].results.size(); ++i)
        g.output("out" + std::to_string(i), g.result(made, i));
    return g;
}

struct Precision {
    DType dtype;
    double tolerance;
};
constexpr Precision kPrecisions[] = {
    {DType::F64, 1e-12}, {DType::F32, 5e-6}, {DType::F16, 2e-3}, {DType::BF16, 2e-2}};

void check(const std::vector<Ints>& shapes,
           const std::function<Operation(const std::vector<Value>&)>& make) {
    for (const auto& [dtype, tolerance] : kPrecisions) {
        SCOPED_TRACE(name_of(dtype));
        std::vector<Shape> types;
        std::vector<Tensor> inputs;
        for (std::size_t i = 0; i < shapes.size(); ++i) {
            types.push_back(Shape::of(shapes[i]));
            inputs.push_back(uniform(shapes[i], static_cast<unsigned>(i + 1), -1.5, 1.5, dtype));
        }
        expect_same(graph_of(dtype, types, make), inputs, tolerance);
    }
}

TEST(Decompose, Softmax) {
    for (const bool log : {false, true})
        for (const std::int64_t axis : {0, 1, 2})
            check({{3, 5, 4}}, [&](auto& v) { return op::Softmax{v[0], axis, log}; });
}

TEST(Decompose, Norm) {
    for (const NormKind kind : {NormKind::MeanVariance, NormKind::MeanSquare})
        for (const Ints& axes : {Ints{2}, Ints{0, 2}, Ints{1}})
            check({{3, 5, 4}}, [&](auto& v) { return op::Norm{kind, v[0], axes, 1e-3}; });
}

TEST(Decompose, Attention) {
    for (const CausalMask causal : {CausalMask::None, CausalMask::TopLeft, CausalMask::BottomRight})
        for (const bool masked : {false, true}) {
            SCOPED_TRACE(testing::Message() << "causal " << int(causal) << " masked " << masked);
            check({{2, 6, 3, 8}, {2, 2, 5, 8}, {2, 2, 5, 4}, {1, 6, 1, 5}}, [&](auto& v) {
                return op::Attention{v[0], v[1],  v[2], masked ? std::optional(v[3]) : std::nullopt,
                                     0.35, causal};
            });
        }
}

TEST(Decompose, AttentionWithSymbolsAndABoolMask) {
    const Dim batch = Dim::symbol("batch"), seq = Dim::symbol("seq"), past = Dim::symbol("past");
    Graph g;
    const Var q = g.input("q", DType::F32, {batch, 4, seq, 8}),
              k = g.input("k", DType::F32, {batch, 2, past, 8}),
              v = g.input("v", DType::F32, {batch, 2, past, 8}),
              m = g.input("m", DType::Bool, {batch, 1, 1, past});
    g.output("y", g.var(g.add(op::Attention{q, k, v, m, 0.3, CausalMask::BottomRight})));
    const Tensor mask = floats({2, 1, 1, 5}, {1, 1, 0, 1, 1, 1, 0, 0, 0, 1}).cast(DType::Bool);
    expect_same(
        g, {uniform({2, 4, 3, 8}, 1), uniform({2, 2, 5, 8}, 2), uniform({2, 2, 5, 8}, 3), mask},
        5e-6);
}

TEST(Decompose, Resize) {
    for (const ResizeMode mode : {ResizeMode::Nearest, ResizeMode::Linear, ResizeMode::Cubic})
        for (const ResizeCoordinates coordinates :
             {ResizeCoordinates::HalfPixel, ResizeCoordinates::AlignCorners,
              ResizeCoordinates::TfCropAndResize}) {
            op::Resize op{};
            op.axes = {2, 1}, op.sizes = {7, 3}, op.scales = {0, 0}, op.mode = mode,
            op.coordinates = coordinates;
            op.cubic_a = -0.5, op.extrapolation = 2, op.antialias = mode != ResizeMode::Nearest;
            if (coordinates == ResizeCoordinates::TfCropAndResize) op.roi = {-0.1, 0.2, 0.9, 1.4};
            SCOPED_TRACE(testing::Message()
                         << "mode " << int(mode) << " coordinates " << int(coordinates));
            check({{2, 5, 4}}, [&](auto& v) { return op.x = v[0], op; });
        }
}

TEST(Decompose, GridSample) {
    for (const ResizeMode mode : {ResizeMode::Nearest, ResizeMode::Linear, ResizeMode::Cubic})
        for (const GridPadding padding :
             {GridPadding::Zeros, GridPadding::Border, GridPadding::Reflection})
            for (const bool align : {false, true}) {
                SCOPED_TRACE(testing::Message()
                             << "mode " << int(mode) << " padding " << int(padding) << align);
                const auto make = [&](auto& v) {
                    return op::GridSample{v[0], v[1], mode, padding, align};
                };
                check({{2, 3, 5, 4}, {2, 4, 6, 2}}, make);
                check({{1, 2, 3, 4, 1}, {1, 2, 2, 3, 3}}, make);
            }
}

TEST(Decompose, Recurrent) {
    constexpr std::int64_t steps = 4, batch = 3, input = 5, hidden = 6;
    for (const CellKind kind : {CellKind::Lstm, CellKind::Gru, CellKind::Rnn})
        for (const bool extras : {false, true})
            for (const bool reverse : {false, true}) {
                const std::int64_t gates = kind == CellKind::Lstm  ? 4
                                           : kind == CellKind::Gru ? 3
                                                                   : 1;
                SCOPED_TRACE(testing::Message()
                             << "kind " << int(kind) << " extras " << extras << reverse);
                const auto make = [&](auto& v) {
                    op::Recurrent op{};
                    op.kind = kind, op.reverse = reverse, op.x = v[0], op.w = v[1], op.r = v[2];
                    op.activations = {CellActivation::Sigmoid, CellActivation::Tanh,
                                      CellActivation::Softsign};
                    op.activations.resize(kind == CellKind::Lstm  ? 3
                                          : kind == CellKind::Gru ? 2
                                                                  : 1);
                    op.alphas.resize(op.activations.size()), op.betas.resize(op.activations.size());
                    if (!extras) return op;
                    op.bias = v[3], op.h0 = v[4], op.clip = 0.9;
                    op.linear_before_reset = kind == CellKind::Gru;
                    if (kind == CellKind::Lstm) op.c0 = v[5], op.peephole = v[6];
                    return op;
                };
                check({{steps, batch, input},
                       {gates * hidden, input},
                       {gates * hidden, hidden},
                       {2 * gates * hidden},
                       {batch, hidden},
                       {batch, hidden},
                       {3 * hidden}},
                      make);
            }
}

TEST(Decompose, RecurrentWithLengthsAndSymbols) {
    const Dim steps = Dim::symbol("steps"), batch = Dim::symbol("batch");
    for (const bool reverse : {false, true}) {
        Graph g;
        const Var x = g.input("x", DType::F32, {steps, batch, 3}),
                  lengths = g.input("n", DType::I32, {batch});
        op::Recurrent op{};
        op.kind = CellKind::Lstm, op.x = x, op.lengths = lengths, op.reverse = reverse;
        op.w = g.constant(uniform({16, 3}, 5)), op.r = g.constant(uniform({16, 4}, 6));
        op.activations = {CellActivation::Sigmoid, CellActivation::Tanh, CellActivation::Tanh};
        op.alphas = op.betas = {0, 0, 0};
        const Value lstm = g.add(op);
        for (std::size_t i = 0; i < 3; ++i) g.output("y" + std::to_string(i), g.result(lstm, i));
        const Tensor n = Tensor::from_span<std::int32_t>({3}, std::vector<std::int32_t>{2, 5, 0});
        expect_same(g, {uniform({5, 3, 3}, 7), n}, 2e-6);
    }
}

TEST(Decompose, Dft) {
    for (const std::int64_t length : {1, 2, 6, 16, 25})
        for (const bool inverse : {false, true})
            check({{2, length, 3, 2}}, [&](auto& v) { return op::Dft{v[0], 1, inverse}; });
}

TEST(Decompose, WhatCannotBe) {
    Graph g;
    const Var x = g.input("x", DType::F32, {Dim::symbol("n"), 2});
    EXPECT_THAT(message_of([&] { (void)decompose(g, op::Dft{x, 0, false}); }), HasSubstr("size n"));
    EXPECT_THAT(message_of([&] {
                    (void)decompose(g, op::Unary{UnaryOp::Exp, x});
                }),
                HasSubstr("Unary"));
}

TEST(Decompose, OnlyWhatIsChosen) {
    Graph g;
    const Var x = g.input("x", DType::F32, {4, 4});
    g.output("y", softmax(normalize(NormKind::MeanSquare, x, {1}, 1e-5)));
    const Graph plain =
        decompose(g, [](const Operation& op) { return std::holds_alternative<op::Norm>(op); });
    EXPECT_THAT(plain.to_string(), HasSubstr("Softmax"));
    EXPECT_THAT(plain.to_string(), testing::Not(HasSubstr("Norm(")));
}

}  // namespace
}  // namespace kn
