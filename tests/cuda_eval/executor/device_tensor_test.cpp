#include <kn/cuda_eval/device_tensor.h>

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include <kn/graph/error.h>

#include "executor/kernels.h"
#include "executor/strided_copy.h"

namespace kn::cuda {
namespace {

// The elements that a view over host memory names, in its order.
std::vector<int> elements(const DeviceTensor& tensor) {
    std::vector<int> out;
    const std::int64_t count = checked_size(tensor.shape);
    for (std::int64_t i = 0; i < count; i++) {
        std::int64_t left = i, offset = 0;
        for (std::size_t axis = tensor.shape.size(); axis-- > 0;) {
            offset += left % tensor.shape[axis] * tensor.strides[axis];
            left /= tensor.shape[axis];
        }
        out.push_back(static_cast<const int*>(tensor.address)[offset]);
    }
    return out;
}

class DeviceTensorTest : public testing::Test {
  protected:
    DeviceTensorTest() : data_(24) { std::iota(data_.begin(), data_.end(), 0); }
    DeviceTensor whole() { return DeviceTensor::dense(data_.data(), DType::I32, {2, 3, 4}); }
    std::vector<int> data_;
};

TEST_F(DeviceTensorTest, MakesViews) {
    EXPECT_EQ(elements(whole()), data_);
    EXPECT_TRUE(whole().is_dense());
    const auto column = whole().slice(2, 1, 2);
    EXPECT_EQ(elements(column), (std::vector<int>{1, 5, 9, 13, 17, 21}));
    EXPECT_FALSE(column.is_dense());
    EXPECT_EQ(elements(whole().slice(2, 3, -1, -2).slice(0, 1, 2)),
              (std::vector<int>{15, 13, 19, 17, 23, 21}));
    EXPECT_EQ(elements(whole().flipped(1).slice(0, 0, 1).slice(2, 0, 2)),
              (std::vector<int>{8, 9, 4, 5, 0, 1}));
    const auto turned = whole().permuted({2, 0, 1});
    EXPECT_EQ(turned.shape, (Ints{4, 2, 3}));
    EXPECT_EQ(elements(turned.slice(0, 0, 1)), (std::vector<int>{0, 4, 8, 12, 16, 20}));
    EXPECT_TRUE(whole().slice(0, 1, 2).is_dense());
    EXPECT_TRUE(whole().slice(1, 2, 2).is_dense());
    EXPECT_TRUE(elements(whole().slice(1, 2, 1)).empty());
}

TEST_F(DeviceTensorTest, RefusesWhatIsOutOfRange) {
    EXPECT_THROW(whole().slice(3, 0, 1), GraphError);
    EXPECT_THROW(whole().slice(0, 0, 3), GraphError);
    EXPECT_THROW(whole().slice(0, -1, 1), GraphError);
    EXPECT_THROW(whole().slice(0, 0, 1, 0), GraphError);
    EXPECT_THROW(whole().slice(0, 2, -1, -1), GraphError);
    EXPECT_THROW(whole().permuted({0, 1}), GraphError);
    EXPECT_THROW(whole().permuted({0, 1, 1}), GraphError);
    EXPECT_THROW(whole().permuted({0, 1, 2, 3}), GraphError);
    EXPECT_THROW(whole().flipped(3), GraphError);
}

TEST(MergeAxes, JoinsWhatLiesBehindOneAnother) {
    const CopyAxes one = merge_axes({2, 3, 1, 4}, {12, 4, 99, 1}, {24, 8, 7, 2});
    EXPECT_EQ(one.shape, (Ints{24}));
    EXPECT_EQ(one.from, (Ints{1}));
    EXPECT_EQ(one.to, (Ints{2}));
    const CopyAxes two = merge_axes({2, 3, 4}, {12, 4, 1}, {1, 8, 2});
    EXPECT_EQ(two.shape, (Ints{2, 12}));
    EXPECT_EQ(two.to, (Ints{1, 2}));
    const CopyAxes back = merge_axes({2, 3}, {-1, -2}, {3, 1});
    EXPECT_EQ(back.shape, (Ints{2, 3}));
    EXPECT_TRUE(merge_axes({}, {}, {}).shape.empty());
}

TEST(CopyKernels, Compile) {
    const auto compiled = compile_kernels(copy_kernels(), {});
    ASSERT_EQ(compiled.size(), 4u);
}

}  // namespace
}  // namespace kn::cuda
