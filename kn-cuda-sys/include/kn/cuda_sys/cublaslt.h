// Matrix products of cuBLASLt, in row-major terms:
//
//     D[m,n] = epilogue(alpha * A[m,k] B[k,n] + beta * C[m,n] + bias[n])       for each matrix of a
//     batch
//
//     kn::cuda::CublasLt lt(device);
//     kn::cuda::Matmul matmul(lt, {.m = 64, .n = 256, .k = 512, .bias = true});
//     std::vector<kn::cuda::MatmulAlgo> algos = matmul.candidates();          // best guess first
//     matmul.run(stream, algos.at(0), {.a = x, .b = w, .d = y, .bias = b});
//
// cuBLASLt has no deviceless mode: all of this needs a GPU.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kn/cuda_sys/data_type.h"
#include "kn/cuda_sys/memory.h"

namespace kn::cuda {

/// As in Versions; loads cuBLASLt alone.
KN_CUDA_API int cublaslt_version() noexcept;

/// How products are formed and summed. F32 never uses tensor cores; Tf32 rounds f32 inputs to 10
/// bits of mantissa.
enum class MatmulCompute { F32, Tf32, F16, F64, I32 };

/// GeluTanh is the tanh approximation; it differs from the erf form by up to 4e-4.
enum class MatmulEpilogue { None, Relu, GeluTanh };

/// A batch of products. Leading dimensions are elements between rows, 0 for dense; batch strides
/// are elements between matrices, 0 to use one matrix for all.
struct MatmulDesc {
    std::int64_t m = 0, n = 0, k = 0;
    bool transpose_a = false;  ///< A is stored as [k,m]
    bool transpose_b = false;  ///< B is stored as [n,k]
    DataType a_type = DataType::F32;
    DataType b_type = DataType::F32;
    DataType d_type = DataType::F32;  ///< of C and of the bias too
    MatmulCompute compute = MatmulCompute::F32;
    MatmulEpilogue epilogue = MatmulEpilogue::None;
    bool bias = false;  ///< a vector of n
    std::int64_t lda = 0, ldb = 0, ldc = 0, ldd = 0;
    std::int64_t batch = 1;
    std::int64_t stride_a = 0, stride_b = 0, stride_c = 0, stride_d = 0;
    std::int64_t stride_bias = 0;
    /// Of all addresses, in bytes; a smaller one allows fewer algorithms.
    std::size_t alignment = 256;
};

/// How to compute a product: plain data that may be stored and used again for an equal MatmulDesc
/// with the same cuBLASLt version and the same kind of GPU.
struct KN_CUDA_API MatmulAlgo {
    std::array<std::uint64_t, 8> data{};
    std::size_t workspace_bytes = 0;
    float waves = 0;  ///< of blocks over the SMs; 0 where unknown

    /// Hexadecimal, 128 digits, then the workspace: what from_text reads.
    std::string to_text() const;
    /// Throws Error for text that to_text did not write.
    static MatmulAlgo from_text(const std::string& text);
    /// Kernel choice in words: "algo 66 tile 128x128 stages 4 split-k 1"-like; for people.
    std::string describe() const;
};

/// Addresses on the device. `c` may be null when beta is 0, and may equal `d`; `bias` is for
/// MatmulDesc::bias.
struct MatmulPointers {
    const void* a = nullptr;
    const void* b = nullptr;
    const void* c = nullptr;
    void* d = nullptr;
    const void* bias = nullptr;
};

/// A cuBLASLt handle of one device, with a workspace for runs that bring none. Thread-safe; but
/// runs that share its workspace must be ordered by one stream, so have a handle for each stream or
/// bring workspaces.
class KN_CUDA_API CublasLt {
  public:
    /// Blocks for about 20 ms. 32 MiB is the vendor's advice for Hopper.
    explicit CublasLt(Device device, std::size_t workspace_bytes = std::size_t{32} << 20);
    ~CublasLt();
    CublasLt(CublasLt&& other) noexcept;
    CublasLt& operator=(CublasLt&& other) noexcept;

    Device device() const noexcept { return workspace_.device(); }
    const DeviceMemory& workspace() const noexcept { return workspace_; }
    void* handle() const noexcept { return handle_; }

  private:
    DeviceMemory workspace_;
    void* handle_ = nullptr;
};

/// A product ready to run. Keeps a reference to the handle, which has to outlive it. Thread-safe.
class KN_CUDA_API Matmul {
  public:
    /// Throws Error for a description that makes no sense (sizes, leading dimensions too small,
    /// batch strides of D).
    Matmul(const CublasLt& lt, const MatmulDesc& desc);
    ~Matmul();
    Matmul(Matmul&& other) noexcept;
    Matmul& operator=(Matmul&& other) noexcept;

    const MatmulDesc& desc() const noexcept;

    /// At most `count` algorithms by cuBLASLt's estimate, the best first, each within
    /// `max_workspace` bytes; empty when there is none for this description. Blocks for
    /// microseconds.
    std::vector<MatmulAlgo> candidates(int count = 8,
                                       std::size_t max_workspace = std::size_t{32} << 20) const;
    /// Workspace of a stored algorithm, in bytes; nothing when it does not fit this description and
    /// device.
    std::optional<std::size_t> check(const MatmulAlgo& algo) const;

    /// Queues the product on `stream`, which has to be of the handle's device; does not block.
    /// alpha and beta are read at once. Without a workspace the handle's own is used.
    void run(StreamRef stream, const MatmulAlgo& algo, const MatmulPointers& pointers,
             double alpha = 1, double beta = 0,
             std::optional<DeviceSpan<std::byte>> workspace = std::nullopt) const;

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace kn::cuda
