// The largest weight, whatever its type and place.
#include "planner/weight_range.h"

#include <cmath>
#include <limits>

#include <fmt/core.h>
#include <gtest/gtest.h>

namespace kn::test {

namespace {

std::vector<std::shared_ptr<const ConstantData>> part(const std::vector<float>& elements,
                                                      DType dtype) {
    auto data = std::make_shared<ConstantData>();
    const auto size = static_cast<std::int64_t>(elements.size());
    data->tensor = Tensor::from_span<float>({size}, elements).cast(dtype);
    return {data};
}

bool stay_within(const cuda::WeightChecks::Parts& parts, float limit) {
    cuda::WeightChecks checks;
    const bool assumed = checks.stay_within(parts, limit), right = checks.hold();
    EXPECT_TRUE(assumed || right);
    // What has been asked is known.
    EXPECT_EQ(checks.stay_within(parts, limit), assumed && right);
    EXPECT_TRUE(checks.hold());
    return assumed && right;
}

TEST(WeightRange, IsThatOfTheLargestElement) {
    for (const std::int64_t size : {1, 31, 1000, 3'000'000})
        for (const DType dtype : {DType::F32, DType::F16, DType::BF16, DType::F64}) {
            SCOPED_TRACE(fmt::format("{} elements of {}", size, name_of(dtype)));
            for (const std::int64_t place : {std::int64_t{0}, size / 2, size - 1}) {
                std::vector<float> elements(static_cast<std::size_t>(size), 0.5f);
                elements[static_cast<std::size_t>(place)] = -20480;
                const auto parts = part(elements, dtype);
                EXPECT_TRUE(stay_within(parts, 20480));
                EXPECT_FALSE(stay_within(parts, 20479));
            }
        }
}

TEST(WeightRange, HasNeitherInfinityNorNan) {
    for (const float x :
         {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()})
        for (const DType dtype : {DType::F32, DType::F16, DType::BF16})
            EXPECT_FALSE(stay_within(part({1, x}, dtype), 65536));
}

TEST(WeightRange, OfSmallNumbersAndOfNone) {
    const float tiny = std::ldexp(1.0f, -24);
    for (const DType dtype : {DType::F32, DType::F16, DType::BF16})
        EXPECT_TRUE(stay_within(part({tiny}, dtype), tiny));
    EXPECT_TRUE(stay_within(part({}, DType::F32), 0));
}

}  // namespace

}  // namespace kn::test
