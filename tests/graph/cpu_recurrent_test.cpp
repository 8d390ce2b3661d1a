// LSTM, GRU, RNN and the Fourier transform on the CPU, against the formulas of the ONNX standard
// written out in double.
#include <gmock/gmock.h>

#include <numbers>

#include "cpu_reference.h"

namespace kn {
namespace {

using namespace reference;
using testing::HasSubstr;

double activate(CellActivation kind, double a, double b, double x) {
    switch (kind) {
        case CellActivation::Sigmoid: return 1 / (1 + std::exp(-x));
        case CellActivation::Tanh: return std::tanh(x);
        case CellActivation::Relu: return std::max(x, 0.0);
        case CellActivation::Affine: return a * x + b;
        case CellActivation::LeakyRelu: return x >= 0 ? x : a * x;
        case CellActivation::ThresholdedRelu: return x >= a ? x : 0;
        case CellActivation::ScaledTanh: return a * std::tanh(b * x);
        case CellActivation::HardSigmoid: return std::min(std::max(a * x + b, 0.0), 1.0);
        case CellActivation::Elu: return x >= 0 ? x : a * (std::exp(x) - 1);
        case CellActivation::Softsign: return x / (1 + std::abs(x));
        case CellActivation::Softplus: return std::log(1 + std::exp(x));
    }
    return 0;
}

constexpr std::int64_t T = 5, B = 3, I = 4, H = 6;

struct Case {
    op::Recurrent op{};
    bool bias = true, lengths = false, initial = true, peephole = false;
    DType dtype = DType::F64;
    double tolerance = 1e-12;
};

struct Expected {
    std::vector<double> all, last, cell;
};

struct Operands {
    Tensor x, w, r, bias, h0, c0, peephole;
    std::vector<std::int32_t> lengths;
};

Expected expected_of(const Case& c, const Operands& in) {
    const std::int64_t gates = c.op.kind == CellKind::Lstm ? 4 : c.op.kind == CellKind::Gru ? 3 : 1;
    Expected out{std::vector<double>(T * B * H), {}, {}};
    const auto f = [&](std::size_t k, double x) {
        if (c.op.clip && k < 2) x = std::min(std::max(x, -*c.op.clip), *c.op.clip);
        return activate(c.op.activations[k], c.op.alphas[k], c.op.betas[k], x);
    };
    for (std::int64_t b = 0; b < B; ++b) {
        std::vector<double> h(H), cell(H);
        for (std::int64_t j = 0; j < H; ++j)
            if (c.initial) h[j] = in.h0.at(b * H + j), cell[j] = in.c0.at(b * H + j);
        const std::int64_t length = c.lengths ? in.lengths[b] : T;
        for (std::int64_t s = 0; s < length; ++s) {
            const std::int64_t t = c.op.reverse ? length - 1 - s : s;
            const auto wx = [&](std::int64_t g, std::int64_t j) {
                double sum = c.bias ? in.bias.at(g * H + j) : 0;
                for (std::int64_t i = 0; i < I; ++i)
                    sum += in.w.at((g * H + j) * I + i) * in.x.at((t * B + b) * I + i);
                return sum;
            };
            const auto rh = [&](std::int64_t g, std::int64_t j, const std::vector<double>& state) {
                double sum = c.bias ? in.bias.at((gates + g) * H + j) : 0;
                for (std::int64_t i = 0; i < H; ++i) sum += in.r.at((g * H + j) * H + i) * state[i];
                return sum;
            };
            const std::vector<double> h_old = h, c_old = cell;
            const auto p = [&](std::int64_t g, std::int64_t j, double value) {
                return c.peephole ? in.peephole.at(g * H + j) * value : 0;
            };
            std::vector<double> reset(H), reset_h(H);
            if (c.op.kind == CellKind::Gru)
                for (std::int64_t j = 0; j < H; ++j) {
                    reset[j] = f(0, wx(1, j) + rh(1, j, h_old));
                    reset_h[j] = reset[j] * h_old[j];
                }
            for (std::int64_t j = 0; j < H; ++j) {
                if (c.op.kind == CellKind::Rnn) {
                    h[j] = f(0, wx(0, j) + rh(0, j, h_old));
                } else if (c.op.kind == CellKind::Gru) {
                    const double z = f(0, wx(0, j) + rh(0, j, h_old));
                    const double fresh = c.op.linear_before_reset
                                             ? f(1, wx(2, j) + reset[j] * rh(2, j, h_old))
                                             : f(1, wx(2, j) + rh(2, j, reset_h));
                    h[j] = (1 - z) * fresh + z * h_old[j];
                } else {
                    const double i = f(0, wx(0, j) + rh(0, j, h_old) + p(0, j, c_old[j]));
                    const double forget =
                        c.op.input_forget ? 1 - i
                                          : f(0, wx(2, j) + rh(2, j, h_old) + p(2, j, c_old[j]));
                    cell[j] = forget * c_old[j] + i * f(1, wx(3, j) + rh(3, j, h_old));
                    h[j] = f(0, wx(1, j) + rh(1, j, h_old) + p(1, j, cell[j])) * f(2, cell[j]);
                }
            }
            for (std::int64_t j = 0; j < H; ++j) out.all[(t * B + b) * H + j] = h[j];
        }
        out.last.insert(out.last.end(), h.begin(), h.end());
        out.cell.insert(out.cell.end(), cell.begin(), cell.end());
    }
    return out;
}

void check(Case c) {
    const std::int64_t gates = c.op.kind == CellKind::Lstm ? 4 : c.op.kind == CellKind::Gru ? 3 : 1;
    const auto tensor = [&](Ints shape, unsigned seed) {
        return uniform(std::move(shape), seed, -1, 1, c.dtype);
    };
    const Operands in{tensor({T, B, I}, 1),      tensor({gates * H, I}, 2),
                      tensor({gates * H, H}, 3), tensor({2 * gates * H}, 4),
                      tensor({B, H}, 5),         tensor({B, H}, 6),
                      tensor({3 * H}, 7),        {5, 0, 2}};
    const bool lstm = c.op.kind == CellKind::Lstm;
    if (c.op.activations.empty())
        c.op.activations =
            lstm ? std::vector{CellActivation::Sigmoid, CellActivation::Tanh, CellActivation::Tanh}
            : gates == 3 ? std::vector{CellActivation::Sigmoid, CellActivation::Tanh}
                         : std::vector{CellActivation::Tanh};
    c.op.alphas.resize(c.op.activations.size());
    c.op.betas.resize(c.op.activations.size());
    const Tensor lengths = Tensor::from_span<std::int32_t>({B}, in.lengths);
    const auto y =
        run_op({in.x, in.w, in.r, in.bias, in.h0, in.c0, in.peephole, lengths}, [&](auto& v) {
            op::Recurrent op = c.op;
            op.x = v[0], op.w = v[1], op.r = v[2];
            if (c.bias) op.bias = v[3];
            if (c.initial) op.h0 = v[4];
            if (c.initial && lstm) op.c0 = v[5];
            if (c.peephole) op.peephole = v[6];
            if (c.lengths) op.lengths = v[7];
            return op;
        });
    const Expected expected = expected_of(c, in);
    SCOPED_TRACE(testing::Message()
                 << "kind " << int(c.op.kind) << " bias " << c.bias << " lengths " << c.lengths
                 << " initial " << c.initial << " reverse " << c.op.reverse);
    expect_close(y[0], expected.all, c.tolerance);
    expect_close(y[1], expected.last, c.tolerance);
    if (lstm) expect_close(y[2], expected.cell, c.tolerance);
}

TEST(CpuRecurrent, PlainCells) {
    for (const CellKind kind : {CellKind::Lstm, CellKind::Gru, CellKind::Rnn})
        for (const bool reverse : {false, true})
            for (const bool extras : {false, true}) {
                Case c;
                c.op.kind = kind, c.op.reverse = reverse;
                c.bias = c.initial = c.lengths = extras;
                check(c);
                c.dtype = DType::F32, c.tolerance = 3e-6;
                check(c);
                c.dtype = DType::F16, c.tolerance = 1e-3;
                check(c);
            }
}

TEST(CpuRecurrent, OptionsOfLstm) {
    Case c;
    c.op.kind = CellKind::Lstm;
    c.peephole = true;
    check(c);
    c.op.input_forget = true, c.lengths = true;
    check(c);
    c.op.clip = 0.4;
    check(c);
}

TEST(CpuRecurrent, OptionsOfGru) {
    for (const bool bias : {false, true}) {
        Case c;
        c.op.kind = CellKind::Gru;
        c.op.linear_before_reset = true, c.bias = bias;
        check(c);
        c.op.clip = 0.3, c.op.reverse = true, c.lengths = true;
        check(c);
    }
}

TEST(CpuRecurrent, EveryActivation) {
    for (int kind = 0; kind <= static_cast<int>(CellActivation::Softplus); ++kind) {
        Case c;
        c.op.kind = CellKind::Rnn;
        c.op.activations = {static_cast<CellActivation>(kind)};
        c.op.alphas = {0.7}, c.op.betas = {0.4};
        SCOPED_TRACE(kind);
        check(c);
    }
}

TEST(CpuRecurrent, LengthsAreChecked) {
    op::Recurrent op{};
    op.kind = CellKind::Rnn, op.activations = {CellActivation::Tanh}, op.alphas = op.betas = {0};
    const auto run = [&] {
        run_op(
            {uniform({2, 1, 3}, 1), uniform({4, 3}, 2), uniform({4, 4}, 3),
             Tensor::from_span<std::int32_t>({1}, std::vector<std::int32_t>{3})},
            [&](auto& v) { return op.x = v[0], op.w = v[1], op.r = v[2], op.lengths = v[3], op; });
    };
    EXPECT_THAT(message_of(run), HasSubstr("length 3 of sequence 0 is not within 0..2"));
}

TEST(CpuDft, AnyLengthAndAxis) {
    for (const std::int64_t length : {1, 2, 3, 5, 8, 12, 17, 64, 97, 240})
        for (const bool inverse : {false, true}) {
            const Tensor x = uniform({2, length, 3, 2}, 9, -1, 1, DType::F64);
            const Tensor y = run_op({x}, [&](auto& v) { return op::Dft{v[0], 1, inverse}; })[0];
            std::vector<std::pair<long double, long double>> roots;
            for (std::int64_t k = 0; k < length; ++k) {
                const long double angle =
                    (inverse ? 2 : -2) * std::numbers::pi_v<long double> * k / length;
                roots.emplace_back(cosl(angle), sinl(angle));
            }
            std::vector<double> expected(static_cast<std::size_t>(x.size()));
            for (std::int64_t o = 0; o < 2; ++o)
                for (std::int64_t i = 0; i < 3; ++i)
                    for (std::int64_t k = 0; k < length; ++k) {
                        long double re = 0, im = 0;
                        for (std::int64_t t = 0; t < length; ++t) {
                            const auto [c, s] = roots[k * t % length];
                            const std::int64_t at = 2 * ((o * length + t) * 3 + i);
                            const long double a = x.at(at), b = x.at(at + 1);
                            re += a * c - b * s, im += a * s + b * c;
                        }
                        const std::int64_t to = 2 * ((o * length + k) * 3 + i);
                        const long double scale = inverse ? 1.0L / length : 1;
                        expected[to] = static_cast<double>(re * scale);
                        expected[to + 1] = static_cast<double>(im * scale);
                    }
            SCOPED_TRACE(testing::Message() << "length " << length << " inverse " << inverse);
            expect_close(y, expected, 1e-12);
        }
}

}  // namespace
}  // namespace kn
