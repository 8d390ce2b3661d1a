// Every row of the scalar tables against <cmath> in double, on all dtypes that it accepts.
#include <bit>
#include <map>

#include <fmt/core.h>

#include "cpu_support.h"

namespace kn::test {
namespace {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double softplus(double x) { return std::log(1 + std::exp(x)); }

using Unary = std::function<double(double)>;
const std::map<UnaryOp, Unary> unary_references = {
    {UnaryOp::Neg, [](double x) { return -x; }},
    {UnaryOp::Abs, [](double x) { return std::fabs(x); }},
    {UnaryOp::Sign, [](double x) { return x > 0   ? 1.0
                                          : x < 0 ? -1.0
                                                  : x; }},
    {UnaryOp::Not, [](double x) { return x == 0 ? 1.0 : 0.0; }},
    {UnaryOp::BitNot, [](double x) { return -x - 1; }},
    {UnaryOp::Floor, [](double x) { return std::floor(x); }},
    {UnaryOp::Ceil, [](double x) { return std::ceil(x); }},
    {UnaryOp::Round, [](double x) { return std::nearbyint(x); }},
    {UnaryOp::Trunc, [](double x) { return std::trunc(x); }},
    {UnaryOp::Sqrt, [](double x) { return std::sqrt(x); }},
    {UnaryOp::Rsqrt, [](double x) { return 1 / std::sqrt(x); }},
    {UnaryOp::Reciprocal, [](double x) { return 1 / x; }},
    {UnaryOp::Square, [](double x) { return x * x; }},
    {UnaryOp::Exp, [](double x) { return std::exp(x); }},
    {UnaryOp::Expm1, [](double x) { return std::expm1(x); }},
    {UnaryOp::Log, [](double x) { return std::log(x); }},
    {UnaryOp::Log1p, [](double x) { return std::log1p(x); }},
    {UnaryOp::Sin, [](double x) { return std::sin(x); }},
    {UnaryOp::Cos, [](double x) { return std::cos(x); }},
    {UnaryOp::Tan, [](double x) { return std::tan(x); }},
    {UnaryOp::Asin, [](double x) { return std::asin(x); }},
    {UnaryOp::Acos, [](double x) { return std::acos(x); }},
    {UnaryOp::Atan, [](double x) { return std::atan(x); }},
    {UnaryOp::Sinh, [](double x) { return std::sinh(x); }},
    {UnaryOp::Cosh, [](double x) { return std::cosh(x); }},
    {UnaryOp::Tanh, [](double x) { return std::tanh(x); }},
    {UnaryOp::Asinh, [](double x) { return std::asinh(x); }},
    {UnaryOp::Acosh, [](double x) { return std::acosh(x); }},
    {UnaryOp::Atanh, [](double x) { return std::atanh(x); }},
    {UnaryOp::Erf, [](double x) { return std::erf(x); }},
    {UnaryOp::Sigmoid, sigmoid},
    {UnaryOp::Silu, [](double x) { return x * sigmoid(x); }},
    {UnaryOp::Softplus, softplus},
    {UnaryOp::Softsign, [](double x) { return x / (1 + std::fabs(x)); }},
    {UnaryOp::Mish, [](double x) { return x * std::tanh(softplus(x)); }},
    {UnaryOp::Gelu, [](double x) { return 0.5 * x * std::erfc(-x / std::sqrt(2.0)); }},
    {UnaryOp::GeluTanh,
     [](double x) {
         return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
     }},
    {UnaryOp::IsNan, [](double x) { return std::isnan(x) ? 1.0 : 0.0; }},
    {UnaryOp::IsInf, [](double x) { return std::isinf(x) ? 1.0 : 0.0; }},
};

using Binary = std::function<double(double, double)>;
double integer_power(double a, double b) {
    return b < 0 ? (a == 1 ? 1 : a == -1 ? (std::fmod(b, 2) != 0 ? -1 : 1) : 0) : std::pow(a, b);
}
const std::map<BinaryOp, Binary> binary_references = {
    {BinaryOp::Add, [](double a, double b) { return a + b; }},
    {BinaryOp::Sub, [](double a, double b) { return a - b; }},
    {BinaryOp::Mul, [](double a, double b) { return a * b; }},
    {BinaryOp::Div, [](double a, double b) { return a / b; }},
    {BinaryOp::Mod, [](double a, double b) { return a - b * std::floor(a / b); }},
    {BinaryOp::Fmod, [](double a, double b) { return std::fmod(a, b); }},
    {BinaryOp::Pow, [](double a, double b) { return std::pow(a, b); }},
    {BinaryOp::Min,
     [](double a, double b) { return std::isnan(a) || std::isnan(b) ? NAN : std::min(a, b); }},
    {BinaryOp::Max,
     [](double a, double b) { return std::isnan(a) || std::isnan(b) ? NAN : std::max(a, b); }},
    {BinaryOp::Atan2, [](double a, double b) { return std::atan2(a, b); }},
    {BinaryOp::And, [](double a, double b) { return a != 0 && b != 0 ? 1.0 : 0.0; }},
    {BinaryOp::Or, [](double a, double b) { return a != 0 || b != 0 ? 1.0 : 0.0; }},
    {BinaryOp::Xor, [](double a, double b) { return a != b ? 1.0 : 0.0; }},
    {BinaryOp::BitAnd,
     [](double a, double b) {
         return static_cast<double>(static_cast<std::int64_t>(a) & static_cast<std::int64_t>(b));
     }},
    {BinaryOp::BitOr,
     [](double a, double b) {
         return static_cast<double>(static_cast<std::int64_t>(a) | static_cast<std::int64_t>(b));
     }},
    {BinaryOp::BitXor,
     [](double a, double b) {
         return static_cast<double>(static_cast<std::int64_t>(a) ^ static_cast<std::int64_t>(b));
     }},
    {BinaryOp::ShiftLeft, [](double a, double b) { return a * std::exp2(b); }},
    {BinaryOp::ShiftRight, [](double a, double b) { return std::floor(a / std::exp2(b)); }},
    {BinaryOp::Equal, [](double a, double b) { return a == b ? 1.0 : 0.0; }},
    {BinaryOp::Less, [](double a, double b) { return a < b ? 1.0 : 0.0; }},
    {BinaryOp::LessEqual, [](double a, double b) { return a <= b ? 1.0 : 0.0; }},
};

/// The value that a reference gives, as a number of the dtype; integers wrap.
double as(DType dtype, double x) {
    if (is_float(dtype) || dtype == DType::Bool) return x;
    const double range = std::exp2(8.0 * static_cast<double>(size_of(dtype)));
    const double low = is_signed_int(dtype) ? -range / 2 : 0;
    return x - range * std::floor((x - low) / range);
}

constexpr DType all_dtypes[] = {
#define X(name, ...) DType::name,
    KN_DTYPES(X)
#undef X
};

double loose(DType dtype) { return dtype == DType::F64 ? 1e-14 : tolerance(dtype) / 4; }

TEST(CpuElementwise, UnaryRows) {
    for (int number = 0; number <= static_cast<int>(UnaryOp::IsInf); ++number) {
        const auto op = static_cast<UnaryOp>(number);
        const ScalarRow& row = row_of(op);
        ASSERT_TRUE(unary_references.contains(op)) << row.text << " has no reference";
        const Unary& reference = unary_references.at(op);
        for (DType dtype : all_dtypes) {
            if (!accepts(row.accepts, dtype)) continue;
            SCOPED_TRACE(fmt::format("{} of {}", row.text, name_of(dtype)));
            // Each function where it is defined and does not overflow half precision.
            const bool unit = op == UnaryOp::Asin || op == UnaryOp::Acos || op == UnaryOp::Atanh;
            const bool positive = op == UnaryOp::Sqrt || op == UnaryOp::Rsqrt ||
                                  op == UnaryOp::Log || op == UnaryOp::Log1p ||
                                  op == UnaryOp::Reciprocal;
            const double low = unit                                             ? -0.9
                               : positive                                       ? 0.1
                               : op == UnaryOp::Acosh                           ? 1.1
                               : is_unsigned_int(dtype) || dtype == DType::Bool ? 0
                                                                                : -5;
            const double high = unit                   ? 0.9
                                : dtype == DType::Bool ? 2
                                : op == UnaryOp::Tan   ? 1.4
                                                       : 5;
            const Tensor x = random(dtype, {3, 5, 131}, 7, op == UnaryOp::Tan ? -1.4 : low, high);
            for (Strides strides : all_strides) {
                Case c;
                const Tensor y = c.run(unary(op, c.operand(x, strides)));
                expect_each(y, x.shape(), loose(dtype),
                            [&](const Ints& i) { return as(dtype, reference(at(x, i))); });
            }
        }
    }
}

TEST(CpuElementwise, BinaryRows) {
    for (int number = 0; number <= static_cast<int>(BinaryOp::LessEqual); ++number) {
        const auto op = static_cast<BinaryOp>(number);
        const ScalarRow& row = row_of(op);
        ASSERT_TRUE(binary_references.contains(op)) << row.text << " has no reference";
        const Binary& reference = binary_references.at(op);
        for (DType dtype : all_dtypes) {
            if (!accepts(row.accepts, dtype)) continue;
            SCOPED_TRACE(fmt::format("{} of {}", row.text, name_of(dtype)));
            const bool shift = op == BinaryOp::ShiftLeft || op == BinaryOp::ShiftRight;
            const bool power = op == BinaryOp::Pow;
            const double floor =
                is_unsigned_int(dtype) || dtype == DType::Bool || (power && is_float(dtype)) ? 0.25
                                                                                             : -9;
            const double top = dtype == DType::Bool ? 2 : power ? 4 : 9;
            const Tensor a = random(dtype, {4, 3, 70}, 1, dtype == DType::Bool ? 0 : floor, top);
            const Tensor b = random(dtype, {4, 3, 70}, 2,
                                    shift || dtype == DType::Bool ? 0
                                    : power                       ? 0.5
                                                                  : floor,
                                    shift   ? 7
                                    : power ? 3
                                            : top);
            const auto expected = [&](const Ints& i) {
                const double x = at(a, i), y = at(b, i);
                if (!is_float(dtype) && y == 0 &&
                    (op == BinaryOp::Div || op == BinaryOp::Mod || op == BinaryOp::Fmod))
                    return 0.0;
                if (is_int(dtype) && op == BinaryOp::Div) return std::trunc(x / y);
                if (is_int(dtype) && power) return as(dtype, integer_power(x, y));
                return row.gives == Gives::Bool ? reference(x, y) : as(dtype, reference(x, y));
            };
            for (Strides strides : all_strides) {
                Case c;
                const Tensor y =
                    c.run(binary(op, c.operand(a, strides), c.operand(b, Strides::Plain)));
                // fmod and mod jump where a rounded quotient is whole.
                expect_each(y, a.shape(), loose(dtype), expected);
            }
        }
    }
}

TEST(CpuElementwise, SpecialNumbers) {
    const float inf = INFINITY, nan = NAN, big = 1e38F, tiny = 1e-42F;
    const std::vector<float> x = {0,    -0.0F, inf,  -inf, nan,   1e-8F, -1e-8F, 88,   -88, 104,
                                  -104, big,   -big, tiny, -tiny, 20,    -20,    0.5F, 1};
    const Ints shape = {static_cast<std::int64_t>(x.size())};
    for (UnaryOp op :
         {UnaryOp::Exp, UnaryOp::Expm1, UnaryOp::Log, UnaryOp::Log1p, UnaryOp::Tanh, UnaryOp::Erf,
          UnaryOp::Sigmoid, UnaryOp::Sqrt, UnaryOp::Reciprocal, UnaryOp::Abs, UnaryOp::Sign,
          UnaryOp::IsNan, UnaryOp::IsInf, UnaryOp::Round, UnaryOp::Floor}) {
        SCOPED_TRACE(row_of(op).text);
        Case c;
        const Tensor t = Tensor::from_span<float>(shape, x);
        const Tensor y = c.run(unary(op, c.input(t)));
        for (std::int64_t i = 0; i < y.size(); ++i) {
            const auto expected = static_cast<float>(unary_references.at(op)(t.at(i)));
            if (std::isnan(expected))
                EXPECT_TRUE(std::isnan(y.at(i))) << t.at(i);
            else if (std::isinf(expected))
                EXPECT_EQ(y.at(i), expected) << t.at(i);
            else
                EXPECT_NEAR(y.at(i), expected, 3e-7 * std::fabs(expected) + 1.5e-45) << t.at(i);
        }
    }
}

TEST(CpuElementwise, IntegersWrapAndNeverTrap) {
    const auto lowest = std::numeric_limits<std::int32_t>::min(),
               highest = std::numeric_limits<std::int32_t>::max();
    const std::vector<std::int32_t> a = {lowest, lowest, 7, highest, lowest, -7, 5, 5, -8};
    const std::vector<std::int32_t> b = {-1, 0, 0, 1, lowest, 2, 40, -1, 40};
    const auto compute = [&](BinaryOp op) {
        Case c;
        const Tensor y = c.run(binary(op, c.input(Tensor::from_span<std::int32_t>({9}, a)),
                                      c.input(Tensor::from_span<std::int32_t>({9}, b))));
        return std::vector<std::int32_t>(y.data<std::int32_t>().begin(),
                                         y.data<std::int32_t>().end());
    };
    using V = std::vector<std::int32_t>;
    EXPECT_EQ(compute(BinaryOp::Add), (V{highest, lowest, 7, lowest, 0, -5, 45, 4, 32}));
    EXPECT_EQ(compute(BinaryOp::Div), (V{lowest, 0, 0, highest, 1, -3, 0, -5, 0}));
    EXPECT_EQ(compute(BinaryOp::Mod), (V{0, 0, 0, 0, 0, 1, 5, 0, 32}));
    EXPECT_EQ(compute(BinaryOp::Fmod), (V{0, 0, 0, 0, 0, -1, 5, 0, -8}));
    EXPECT_EQ(compute(BinaryOp::ShiftLeft), (V{0, lowest, 7, -2, 0, -28, 0, 0, 0}));
    EXPECT_EQ(compute(BinaryOp::ShiftRight), (V{-1, lowest, 7, highest / 2, -1, -2, 0, 0, -1}));
}

TEST(CpuElementwise, SelectOfEveryDtype) {
    for (DType dtype : all_dtypes) {
        SCOPED_TRACE(name_of(dtype));
        const Tensor condition = random(DType::Bool, {6, 1, 50}, 3, 0, 2);
        const Tensor a = random(dtype, {6, 40, 50}, 4, 0, 9),
                     b = random(dtype, {1, 40, 1}, 5, 0, 9);
        Case c;
        const Tensor y = c.run(select(c.operand(condition, Strides::Flipped),
                                      c.operand(a, Strides::Transposed), c.input(b)));
        expect_each(y, a.shape(), 0, [&](const Ints& i) {
            return at(condition, {i[0], 0, i[2]}) != 0 ? at(a, i) : at(b, {0, i[1], 0});
        });
    }
}

TEST(CpuElementwise, CastsAgreeWithTensorCast) {
    for (DType from : all_dtypes)
        for (DType to : all_dtypes) {
            SCOPED_TRACE(fmt::format("{} to {}", name_of(from), name_of(to)));
            const Tensor x =
                random(from, {5, 211}, 6, is_unsigned_int(from) || from == DType::Bool ? 0 : -200,
                       from == DType::Bool ? 2 : 200);
            for (Strides strides : {Strides::Plain, Strides::Transposed}) {
                Case c;
                const Tensor y = c.run(cast(c.operand(x, strides), to));
                const Tensor expected = x.cast(to);
                EXPECT_TRUE(std::equal(y.bytes().begin(), y.bytes().end(), expected.bytes().begin(),
                                       expected.bytes().end()));
            }
        }
}

TEST(CpuElementwise, HalfTypesRoundEveryNumberAsTheScalarConversion) {
    std::vector<float> x;
    for (std::uint64_t bits = 0; bits < (std::uint64_t{1} << 32); bits += 65521 * 7)
        x.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(bits)));
    for (std::uint32_t h = 0; h < 65536; ++h)
        x.push_back(to_float(half{static_cast<std::uint16_t>(h)}));
    const Tensor t = Tensor::from_span<float>({static_cast<std::int64_t>(x.size())}, x);
    for (DType dtype : {DType::F16, DType::BF16}) {
        Case there;
        const Tensor y = there.run(cast(there.input(t), dtype));
        Case back;
        const Tensor z = back.run(cast(back.input(y), DType::F32));
        for (std::size_t i = 0; i < x.size(); ++i) {
            const float expected =
                dtype == DType::F16 ? to_float(to_half(x[i])) : to_float(to_bfloat16(x[i]));
            const auto got = z.data<float>()[i];
            ASSERT_TRUE(std::isnan(expected) ? std::isnan(got) : got == expected)
                << name_of(dtype) << " of " << x[i];
        }
    }
}

}  // namespace
}  // namespace kn::test
