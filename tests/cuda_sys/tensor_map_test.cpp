// Tensor maps: what they can say, and that the driver agrees.
#include <gtest/gtest.h>

#include <kn/cuda_sys/device.h>
#include <kn/cuda_sys/error.h>
#include <kn/cuda_sys/memory.h>
#include <kn/cuda_sys/tensor_map.h>

namespace kn::cuda {
namespace {

TensorMapLayout rows() {
    TensorMapLayout layout;
    layout.sizes = {768, 1000};
    layout.strides = {1536};
    layout.box = {64, 128};
    return layout;
}

TensorMapLayout windows() {
    TensorMapLayout layout;
    layout.sizes = {64, 30, 20, 3};
    layout.strides = {128, 128 * 30, 128 * 600};
    layout.windows = TensorMapLayout::Windows{
        .channels = 64, .positions = 128, .begin = {-1, -1}, .end = {-1, -1}, .stride = {1, 2}};
    return layout;
}

TEST(TensorMap, SaysWhyThereIsNone) {
    EXPECT_EQ(rows().why_not(), std::nullopt);
    EXPECT_EQ(windows().why_not(), std::nullopt);
    const auto why = [](TensorMapLayout layout, auto change) {
        change(layout);
        return layout.why_not().value_or("");
    };
    EXPECT_EQ(why(rows(), [](auto& l) { l.type = DataType::I32; }), "no tensor maps of i32");
    EXPECT_EQ(why(rows(), [](auto& l) { l.strides = {1530}; }), "a stride of 1530 bytes");
    EXPECT_EQ(why(rows(), [](auto& l) { l.box = {64, 257}; }), "a box of 257");
    EXPECT_EQ(why(rows(), [](auto& l) { l.box = {128, 8}; }), "a box of 256 bytes a row");
    EXPECT_EQ(why(rows(), [](auto& l) { l.sizes = {0, 4}; }), "an axis of 0");
    EXPECT_EQ(why(rows(), [](auto& l) { l.strides = {}; }),
              "a tensor map has 1 to 5 axes, and strides of all but the innermost");
    EXPECT_EQ(why(windows(), [](auto& l) { l.windows->stride = {9, 1}; }), "a window stride of 9");
    EXPECT_EQ(why(windows(),
                  [](auto& l) {
                      l.windows->end = {-200, 0};
                  }),
              "windows from -1 to -200 of an image");
    EXPECT_EQ(why(windows(),
                  [](auto& l) {
                      l.windows->end = {-40, 0};
                  }),
              "there is no window in the image");
    EXPECT_EQ(why(windows(), [](auto& l) { l.windows->positions = 2000; }), "2000 windows a copy");
}

TEST(GpuTensorMap, IsTakenByTheDriver) {
    if (device_count() == 0) GTEST_SKIP() << why_unavailable();
    const Device device(0);
    if (device.properties().compute() < 90) GTEST_SKIP() << "tensor maps begin with sm_90";
    DeviceBuffer<std::byte> memory(device, 1 << 20);
    EXPECT_NO_THROW(TensorMap(rows(), memory.data()));
    EXPECT_NO_THROW(TensorMap(windows(), memory.data()));
    EXPECT_THROW(TensorMap(rows(), memory.data() + 8), Error);
}

}  // namespace
}  // namespace kn::cuda
