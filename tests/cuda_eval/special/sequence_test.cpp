// Recurrent layers and Fourier transforms as kernels, against the CPU.
#include "special_check.h"

namespace kn::cuda::test {
namespace {

using kn::test::all_strides;
using kn::test::tolerance;

struct Layer {
    CellKind kind = CellKind::Lstm;
    DType dtype = DType::F32;
    std::int64_t steps = 6, batch = 3, input = 5, hidden = 7;
    bool bias = true, lengths = false, initial = true, peephole = false, reverse = false;
    bool linear_before_reset = false, input_forget = false;
    std::optional<double> clip = {};
    std::vector<CellActivation> activations = {};
    bool constant_weights = true;
    Strides x_strides = Strides::Plain;
};

void expect_layer(const Layer& l, double allowed) {
    Case c;
    const std::int64_t gates = l.kind == CellKind::Lstm ? 4 : l.kind == CellKind::Gru ? 3 : 1;
    unsigned seed = 1;
    // Weights that keep sums of any length within the reach of the functions.
    const double size = std::min(1.0, 2 / std::sqrt(static_cast<double>(l.hidden)));
    const auto draw = [&](const Ints& shape) {
        return random(l.dtype, shape, ++seed, -size, size);
    };
    const auto weight = [&](const Ints& shape) {
        return l.constant_weights ? c.graph.constant(draw(shape)).value
                                  : c.input(draw(shape)).value;
    };
    op::Recurrent op{};
    op.kind = l.kind;
    op.x = c.operand(draw({l.steps, l.batch, l.input}), l.x_strides);
    op.w = weight({gates * l.hidden, l.input});
    op.r = weight({gates * l.hidden, l.hidden});
    if (l.bias) op.bias = weight({2 * gates * l.hidden});
    if (l.lengths)
        op.lengths = c.input(random(DType::I32, {l.batch}, 40, 0, static_cast<double>(l.steps)));
    if (l.initial) op.h0 = c.input(draw({l.batch, l.hidden}));
    if (l.initial && l.kind == CellKind::Lstm) op.c0 = c.input(draw({l.batch, l.hidden}));
    if (l.peephole) op.peephole = weight({3 * l.hidden});
    op.activations = l.activations;
    const std::size_t count = l.kind == CellKind::Lstm ? 3 : l.kind == CellKind::Gru ? 2 : 1;
    if (op.activations.empty()) {
        op.activations = {CellActivation::Sigmoid, CellActivation::Tanh, CellActivation::Tanh};
        if (l.kind == CellKind::Rnn) op.activations = {CellActivation::Tanh};
        op.activations.resize(count);
    }
    op.alphas.assign(count, 0.3);
    op.betas.assign(count, 0.6);
    op.clip = l.clip;
    op.reverse = l.reverse;
    op.linear_before_reset = l.linear_before_reset;
    op.input_forget = l.input_forget;
    const Value all = c.graph.add(op);
    std::vector<Var> outputs = {c.graph.var(all), c.graph.var(c.graph.result(all, 1))};
    if (l.kind == CellKind::Lstm) outputs.push_back(c.graph.var(c.graph.result(all, 2)));
    expect_as_cpu(c, outputs, "recurrent", allowed);
}

TEST(Recurrent, KindsAndTypes) {
    for (const CellKind kind : {CellKind::Lstm, CellKind::Gru, CellKind::Rnn})
        for (const DType dtype : kn::test::all_floats) {
            SCOPED_TRACE("kind " + std::to_string(static_cast<int>(kind)) + " " +
                         std::string(name_of(dtype)));
            expect_layer({.kind = kind, .dtype = dtype}, 10 * tolerance(dtype));
        }
}

TEST(Recurrent, Options) {
    for (const CellKind kind : {CellKind::Lstm, CellKind::Gru, CellKind::Rnn}) {
        SCOPED_TRACE("kind " + std::to_string(static_cast<int>(kind)));
        expect_layer({.kind = kind, .bias = false, .initial = false}, 1e-5);
        expect_layer({.kind = kind, .lengths = true}, 1e-5);
        expect_layer({.kind = kind, .lengths = true, .reverse = true}, 1e-5);
        expect_layer({.kind = kind, .clip = 0.3}, 1e-5);
        expect_layer({.kind = kind, .constant_weights = false}, 1e-5);
        for (const Strides strides : all_strides)
            expect_layer({.kind = kind, .x_strides = strides}, 1e-5);
    }
    expect_layer({.peephole = true}, 1e-5);
    expect_layer({.peephole = true, .input_forget = true}, 1e-5);
    expect_layer({.kind = CellKind::Gru, .linear_before_reset = true}, 1e-5);
    expect_layer({.kind = CellKind::Gru, .bias = false, .linear_before_reset = true}, 1e-5);
}

TEST(Recurrent, EveryActivation) {
    for (int i = 0; i <= static_cast<int>(CellActivation::Softplus); ++i) {
        SCOPED_TRACE("activation " + std::to_string(i));
        expect_layer({.kind = CellKind::Rnn, .activations = {static_cast<CellActivation>(i)}},
                     1e-5);
    }
}

TEST(Recurrent, ManySequencesAndStatesBeyondSharedMemory) {
    expect_layer({.kind = CellKind::Rnn, .steps = 2, .batch = 301}, 1e-5);
    expect_layer({.steps = 2, .batch = 2, .hidden = 2100}, 1e-5);
}

TEST(Dft, LengthsAndTypes) {
    for (const std::int64_t length : {1, 2, 5, 16, 17, 32, 60, 100, 256, 1000, 1024, 2048, 3000})
        for (const bool inverse : {false, true}) {
            SCOPED_TRACE(std::to_string(length) + (inverse ? " inverse" : ""));
            Case c;
            const Var x = c.input(random(DType::F64, {2, length, 2}, 1));
            const Value y = c.graph.add(op::Dft{x, 1, inverse});
            expect_as_cpu(c, {c.graph.var(y)}, "dft", 1e-12);
        }
    for (const DType dtype : {DType::F32, DType::F16, DType::BF16}) {
        SCOPED_TRACE(name_of(dtype));
        Case c;
        const Var x = c.operand(random(dtype, {3, 40, 2, 2}, 2), Strides::Transposed);
        const Value y = c.graph.add(op::Dft{x, 1, false});
        expect_as_cpu(c, {c.graph.var(y)}, "dft", tolerance(dtype));
    }
}

}  // namespace
}  // namespace kn::cuda::test
