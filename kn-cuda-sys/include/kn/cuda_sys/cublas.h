// What cuBLAS has beyond cuBLASLt: products of many different sizes in one launch.
//
//     kn::cuda::Cublas blas(device);
//     blas.grouped_matmul(stream, kn::cuda::DataType::F16, kn::cuda::MatmulCompute::F32, groups, a,
//     b, d);
#pragma once

#include <cstdint>
#include <span>

#include "kn/cuda_sys/cublaslt.h"

namespace kn::cuda {

/// `count` row-major products D = alpha A B + beta D of one shape; leading dimensions are elements
/// between rows, 0 for dense.
struct MatmulGroup {
    int m = 0, n = 0, k = 0;
    bool transpose_a = false;
    bool transpose_b = false;
    int lda = 0, ldb = 0, ldd = 0;
    float alpha = 1, beta = 0;
    int count = 1;
};

/// A cuBLAS handle of one device, with a workspace. One thread at a time, one stream at a time.
class KN_CUDA_API Cublas {
  public:
    /// Blocks for some 100 ms.
    explicit Cublas(Device device, std::size_t workspace_bytes = std::size_t{32} << 20);
    ~Cublas();
    Cublas(Cublas&& other) noexcept;
    Cublas& operator=(Cublas&& other) noexcept;

    Device device() const noexcept { return workspace_.device(); }

    /// Queues all products of all groups on `stream`; does not block. `a`, `b`, `d` are arrays on
    /// the device that hold the matrices' addresses, group after group. Inputs and outputs are of
    /// `type` (F16, BF16 or F32) with compute F32 or Tf32. Throws Error with a toolkit older
    /// than 12.5.
    void grouped_matmul(StreamRef stream, DataType type, MatmulCompute compute,
                        std::span<const MatmulGroup> groups, DeviceSpan<const void* const> a,
                        DeviceSpan<const void* const> b, DeviceSpan<void* const> d) const;

  private:
    DeviceMemory workspace_;
    void* handle_ = nullptr;
};

}  // namespace kn::cuda
