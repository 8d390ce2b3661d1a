// Strided tensors in device memory that somebody else owns: views of inputs and outputs.
//
//     auto batch = kn::cuda::DeviceTensor::dense(pixels, kn::DType::F32, {64, 224, 224, 3});
//     executor.run(stream, {batch.permuted({0, 3, 1, 2}).slice(0, 0, 32)}, {result});
#pragma once

#include <kn/cuda_eval/export.h>
#include <kn/graph/dtype.h>
#include <kn/graph/shape.h>

namespace kn::cuda {

/// A value; the memory has to outlive what is queued on it. Strides count elements and may be
/// negative or, for inputs, 0. All functions throw GraphError for axes or bounds out of range.
struct KN_CUDA_EVAL_API DeviceTensor {
    void* address = nullptr;  ///< of element [0, 0, ...], on the device
    DType dtype = DType::F32;
    Ints shape;
    Ints strides;

    /// Row-major.
    static DeviceTensor dense(void* address, DType dtype, Ints shape);
    /// The same for memory that is only read; the tensor then serves as an input only.
    static DeviceTensor dense(const void* address, DType dtype, Ints shape);

    /// Elements begin, begin + step, ... below `end` (above it for a negative step) of an axis.
    DeviceTensor slice(std::size_t axis, std::int64_t begin, std::int64_t end,
                       std::int64_t step = 1) const;
    /// Axis i of the result is axis order[i].
    DeviceTensor permuted(const Ints& order) const;
    /// The axis backwards.
    DeviceTensor flipped(std::size_t axis) const;

    bool is_dense() const;  ///< row-major without gaps
};

}  // namespace kn::cuda
