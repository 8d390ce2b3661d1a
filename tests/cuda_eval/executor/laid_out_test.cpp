// Weights as the device wants them, against walks over single elements.
#include "executor/laid_out.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

#include <kn/graph/random.h>

#include "executor/transpose.h"

namespace kn::cuda {
namespace {

template <class T>
class Transpose : public testing::Test {};
using Elements = testing::Types<std::uint8_t, std::uint16_t, std::uint32_t, std::uint64_t>;
TYPED_TEST_SUITE(Transpose, Elements);

// Squares, tiles, what is left over of both, and nothing beside them.
TYPED_TEST(Transpose, EqualsAWalkOverElements) {
    constexpr std::int64_t beside = 3;
    for (const std::int64_t rows : {1, 3, 8, 9, 32, 65})
        for (const std::int64_t columns : {1, 7, 16, 31, 64, 67, 130}) {
            const std::int64_t from_line = rows + beside, to_line = columns + beside;
            std::vector<TypeParam> from(static_cast<std::size_t>(columns * from_line));
            std::iota(from.begin(), from.end(), TypeParam{1});
            std::vector<TypeParam> to(static_cast<std::size_t>(rows * to_line));
            transpose(from.data(), from_line, to.data(), to_line, rows, columns);
            for (std::int64_t i = 0; i < rows * to_line; i++) {
                const std::int64_t row = i / to_line, column = i % to_line;
                const TypeParam expected =
                    column < columns ? from[static_cast<std::size_t>(column * from_line + row)] : 0;
                ASSERT_EQ(to[static_cast<std::size_t>(i)], expected)
                    << rows << "x" << columns << " at " << row << ", " << column;
            }
        }
}

std::shared_ptr<const ConstantData> constant(Tensor tensor) {
    return std::make_shared<const ConstantData>(ConstantData{std::move(tensor), "w", {}, false});
}

// Rows that are longer than what is multiplied at a time, bit by bit.
TEST(LaidOut, MultipliesEachRowByItsFactors) {
    Random random(5);
    const std::int64_t n = 37, k = 2500;
    const Tensor factors = random_tensor(DType::F16, {k}, random);
    for (const DType from : {DType::F32, DType::F16, DType::BF16})
        for (const bool transposed : {false, true}) {
            const Tensor w = random_tensor(from, transposed ? Ints{n, k} : Ints{k, n}, random);
            const std::int64_t axis = transposed ? 1 : 0;
            PlanConstant weight{{constant(w)}, 0, DType::F16, {1 - axis, axis}};
            weight.folded = FoldedRows{constant(factors), nullptr, axis, false, DType::F16};
            Tensor got(DType::F16, {n, k});
            LaidOut(weight).write(0, n, got.mutable_bytes().data());
            for (std::int64_t i = 0; i < n * k; i++) {
                const std::int64_t row = i / k, column = i % k;
                const auto element = static_cast<float>(w.at(transposed ? i : column * n + row));
                const half expected = to_half(element * static_cast<float>(factors.at(column)));
                ASSERT_EQ(got.data<half>()[static_cast<std::size_t>(i)], expected)
                    << name_of(from) << " at " << row << ", " << column;
            }
        }
}

// Ten bits behind the first, ties away from zero.
double rounded_to_tf32(double x) {
    int exponent = 0;
    const double fraction = std::frexp(x, &exponent);
    return std::ldexp(std::round(std::ldexp(fraction, 11)), exponent - 11);
}

TEST(LaidOut, TakesPartsOfTf32) {
    Random random(7);
    Tensor w = random_tensor(DType::F32, {1000}, random);
    const float infinity = std::numeric_limits<float>::infinity();
    const auto set = w.mutable_data<float>();
    const std::vector<float> special = {0.0f,         -0.0f,         infinity, -infinity,
                                        1 + 0x1p-11f, -1 - 0x1p-11f, 1e-30f};
    std::ranges::copy(special, set.begin());
    for (const Tf32Part part : {Tf32Part::High, Tf32Part::Low}) {
        PlanConstant weight{{constant(w)}, 0, DType::F32, {0}};
        weight.tf32 = part;
        Tensor got(DType::F32, {1000});
        LaidOut(weight).write(0, 1000, got.mutable_bytes().data());
        for (std::int64_t i = 0; i < 1000; i++) {
            const double x = w.at(i), high = std::isinf(x) ? x : rounded_to_tf32(x);
            const double low = std::isinf(x) ? 0 : rounded_to_tf32(x - high);
            ASSERT_EQ(got.at(i), part == Tf32Part::High ? high : low) << x;
            ASSERT_EQ(got.at(i), tf32_part(static_cast<float>(x), part)) << x;
        }
    }
    // Beyond the largest number of TF32 its bits are cut; a NaN stays one.
    EXPECT_EQ(tf32_part(std::numeric_limits<float>::max(), Tf32Part::High), 0x1.ffcp127f);
    EXPECT_TRUE(std::isnan(tf32_part(std::nanf(""), Tf32Part::High)));
    EXPECT_EQ(tf32_part(std::nanf(""), Tf32Part::Low), 0);
}

}  // namespace
}  // namespace kn::cuda
