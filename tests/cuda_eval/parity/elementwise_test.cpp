// Every elementwise operation, dtype and broadcast kind. One graph holds many, so that few kernels
// are compiled.
#include "cuda_eval/parity/parity.h"

namespace kn::test {
namespace {

constexpr UnaryOp unary_ops[] = {
#define X(name, ...) UnaryOp::name,
    KN_UNARY_OPS(X)
#undef X
};
constexpr BinaryOp binary_ops[] = {
#define X(name, ...) BinaryOp::name,
    KN_BINARY_OPS(X)
#undef X
};

class ParityElementwise : public ::testing::TestWithParam<DType> {};

Fill domain(UnaryOp op) {
    switch (op) {
        case UnaryOp::Sqrt:
        case UnaryOp::Rsqrt:
        case UnaryOp::Log:
        case UnaryOp::Log1p:
        case UnaryOp::Reciprocal: return Fill::Positive;
        case UnaryOp::Asin:
        case UnaryOp::Acos:
        case UnaryOp::Atanh: return Fill::Unit;
        default: return Fill::Normal;
    }
}

TEST_P(ParityElementwise, Unary) {
    Parity p;
    const DType dtype = GetParam();
    const Var normal = p.input(dtype, {3, 67}), positive = p.input(dtype, {3, 67}, Fill::Positive),
              unit = p.input(dtype, {3, 67}, Fill::Unit);
    for (const UnaryOp op : unary_ops) {
        if (!accepts(row_of(op).accepts, dtype)) continue;
        const Fill fill = domain(op);
        const Var x = fill == Fill::Normal ? normal : fill == Fill::Unit ? unit : positive;
        p.output(unary(op, op == UnaryOp::Acosh ? x * x + 1.5 : x),
                 is_float(dtype) ? Loses::Function : Loses::Nothing);
    }
    if (!p.graph.outputs().empty()) p.check();
}

TEST_P(ParityElementwise, Binary) {
    Parity p;
    const DType dtype = GetParam();
    const Var a = p.input(dtype, {4, 33}), b = p.input(dtype, {4, 33}, Fill::Positive),
              positive = p.input(dtype, {4, 33}, Fill::Positive);
    for (const BinaryOp op : binary_ops) {
        if (!accepts(row_of(op).accepts, dtype)) continue;
        const bool is_pow = op == BinaryOp::Pow;
        if (is_pow && !is_float(dtype))
            continue;  // overflows; integer powers have a test of their own
        p.output(binary(op, is_pow ? positive : a, b),
                 is_pow || op == BinaryOp::Atan2 ? Loses::Function : Loses::Rounding);
    }
    if (!p.graph.outputs().empty()) p.check();
}

TEST_P(ParityElementwise, BroadcastKinds) {
    const DType dtype = GetParam();
    if (dtype == DType::Bool) return;
    Parity p;
    const Var full = p.input(dtype, {2, 5, 8, 6}), channel = p.input(dtype, {5, 1, 1}),
              row = p.input(dtype, {6}), column = p.input(dtype, {8, 1}),
              scalar_input = p.input(dtype, {}), ends = p.input(dtype, {2, 1, 1, 6});
    for (const Var other : {channel, row, column, scalar_input, ends}) {
        p.output(full + other, Loses::Rounding);
        p.output(other - full, Loses::Rounding);
    }
    p.output(column * row, Loses::Rounding);
    p.output(select(less(full, channel), broadcast_to(row, full.shape()), full), Loses::Nothing);
    p.check();
}

TEST_P(ParityElementwise, StridedOperands) {
    const DType dtype = GetParam();
    if (dtype == DType::Bool) return;
    Parity p;
    const Var x = p.input(dtype, {6, 10, 14}), y = p.input(dtype, {14, 6, 10});
    const Var turned = permute(y, {1, 2, 0});
    p.output(x + turned, Loses::Rounding);
    p.output(flip(x, 2) + x, Loses::Rounding);
    p.output(flip(flip(turned, 0), 2) * x, Loses::Rounding);
    p.output(slice(x, 1, 1, 9, 3) + slice(turned, 1, 0, 7, 3), Loses::Rounding);
    p.output(slice(x, 2, 13, -1, -4) - slice(turned, 2, 12, 0, -3), Loses::Rounding);
    p.check();
}

TEST_P(ParityElementwise, Casts) {
    Parity p;
    const Var x = p.input(GetParam(), {77}, Fill::Positive);
    for (const DType to : {DType::F32, DType::F16, DType::BF16, DType::F64, DType::I8, DType::I16,
                           DType::I32, DType::I64, DType::U8, DType::U32, DType::Bool})
        p.output(cast(x, to), Loses::Nothing);
    p.check();
}

INSTANTIATE_TEST_SUITE_P(Types, ParityElementwise,
                         ::testing::Values(DType::F32, DType::F16, DType::BF16, DType::F64,
                                           DType::I8, DType::I32, DType::I64, DType::U8, DType::U16,
                                           DType::Bool),
                         [](const auto& test) { return std::string(name_of(test.param)); });

TEST(ParitySpecialValues, FlowAsOnTheCpu) {
    for (const DType dtype : {DType::F32, DType::F16, DType::F64}) {
        Parity p;
        const Var x = p.input(special_values(dtype, {21})), y = permute(unsqueeze(x, {0}), {1, 0});
        for (const UnaryOp op :
             {UnaryOp::Neg, UnaryOp::Abs, UnaryOp::Sign, UnaryOp::Floor, UnaryOp::Round,
              UnaryOp::Sqrt, UnaryOp::Exp, UnaryOp::Log, UnaryOp::Tanh, UnaryOp::Sigmoid,
              UnaryOp::Softplus, UnaryOp::Erf, UnaryOp::IsNan, UnaryOp::IsInf})
            p.output(unary(op, x), Loses::Function);
        for (const BinaryOp op : {BinaryOp::Add, BinaryOp::Mul, BinaryOp::Min, BinaryOp::Max,
                                  BinaryOp::Less, BinaryOp::Equal})
            p.output(binary(op, broadcast_to(x, {21, 21}), broadcast_to(y, {21, 21})),
                     Loses::Rounding);
        p.check();
    }
}

TEST(ParitySpecialValues, IntegersWrapAndShift) {
    Parity p;
    for (const DType dtype : {DType::I8, DType::I32, DType::I64, DType::U8}) {
        const Var a = p.input(dtype, {64}), b = p.input(dtype, {64}, Fill::Index, 9);
        for (const BinaryOp op : {BinaryOp::Pow, BinaryOp::ShiftLeft, BinaryOp::ShiftRight,
                                  BinaryOp::Div, BinaryOp::Mod, BinaryOp::Fmod})
            if (accepts(row_of(op).accepts, dtype)) p.output(binary(op, a, b), Loses::Nothing);
        p.output(a * a * a * a * a, Loses::Nothing);
    }
    p.check();
}

}  // namespace
}  // namespace kn::test
