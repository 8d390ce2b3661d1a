#include <kn/cuda_eval/device_tensor.h>

#include <fmt/core.h>

#include <kn/graph/error.h>
#include <kn/graph/tensor.h>

#include "executor/strided.h"

namespace kn::cuda {

namespace {

void check_axis(const DeviceTensor& tensor, std::size_t axis) {
    if (axis >= tensor.shape.size())
        throw GraphError(
            fmt::format("a tensor of rank {} has no axis {}", tensor.shape.size(), axis));
}

}  // namespace

DeviceTensor DeviceTensor::dense(void* address, DType dtype, Ints shape) {
    Ints strides = row_major_strides(shape);
    return {address, dtype, std::move(shape), std::move(strides)};
}

DeviceTensor DeviceTensor::dense(const void* address, DType dtype, Ints shape) {
    return dense(const_cast<void*>(address), dtype, std::move(shape));
}

DeviceTensor DeviceTensor::slice(std::size_t axis, std::int64_t begin, std::int64_t end,
                                 std::int64_t step) const {
    check_axis(*this, axis);
    const std::int64_t size = shape[axis];
    const std::int64_t distance = step > 0 ? end - begin : begin - end;
    const std::int64_t pace = step > 0 ? step : -step;
    const std::int64_t count = step == 0 || distance <= 0 ? 0 : (distance - 1) / pace + 1;
    const std::int64_t last = begin + (count - 1) * step;
    if (step == 0 || (count > 0 && (begin < 0 || begin >= size || last < 0 || last >= size)))
        throw GraphError(
            fmt::format("slice {}:{}:{} of an axis of {} elements", begin, end, step, size));
    DeviceTensor out = *this;
    if (count > 0)
        out.address = static_cast<std::byte*>(address) +
                      begin * strides[axis] * static_cast<std::int64_t>(size_of(dtype));
    out.shape[axis] = count;
    out.strides[axis] *= step;
    return out;
}

DeviceTensor DeviceTensor::permuted(const Ints& order) const {
    DeviceTensor out{address, dtype, {}, {}};
    std::vector<bool> seen(shape.size());
    for (const std::int64_t axis : order) {
        const auto i = static_cast<std::size_t>(axis);
        if (axis < 0 || i >= shape.size() || seen[i]) break;
        seen[i] = true;
        out.shape.push_back(shape[i]);
        out.strides.push_back(strides[i]);
    }
    if (out.shape.size() != shape.size() || order.size() != shape.size())
        throw GraphError(fmt::format("the order is no permutation of {} axes", shape.size()));
    return out;
}

DeviceTensor DeviceTensor::flipped(std::size_t axis) const {
    check_axis(*this, axis);
    return slice(axis, shape[axis] - 1, -1, -1);
}

bool DeviceTensor::is_dense() const {
    std::int64_t stride = 1;
    for (std::size_t i = shape.size(); i-- > 0;) {
        if (shape[i] == 0) return true;
        if (shape[i] != 1 && strides[i] != stride) return false;
        stride *= shape[i];
    }
    return true;
}

}  // namespace kn::cuda
