// cuDNN's fused operations: described as data, planned with or without a GPU, built in parallel,
// run anywhere.
//
//     kn::cuda::ConvDesc conv{.x = channels_last(F16, {n, 64, 56, 56}), .w = channels_last(F16,
//     {64, 64, 3, 3}),
//                             .y = channels_last(F16, {n, 64, 56, 56}), .pad_before = {1, 1},
//                             .pad_after = {1, 1}};
//     std::vector<kn::cuda::CudnnPlan> plans = kn::cuda::plan_candidates(conv,
//     device.properties());  // best guess first kn::cuda::CudnnHandle handle(device);
//     plans[0].run(handle, stream, {{x, w, y}}, workspace);
//
// cuDNN is loaded by the first call that needs it; each throws LibraryMissing where it, or a part
// of it, cannot be. Planning never touches a device. Plans whose kernels are precompiled can also
// be built without a driver; the others (CudnnCandidate::runtime_compiled) need libcuda to be
// there, though no GPU.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "kn/cuda_sys/data_type.h"
#include "kn/cuda_sys/memory.h"

namespace kn::cuda {

/// As in Versions; loads cuDNN, and NVRTC for it.
KN_CUDA_API int cudnn_version() noexcept;
/// Of the headers, at compile time.
KN_CUDA_API int cudnn_frontend_version() noexcept;

/// One sentence with the loader's reason where cuDNN, or a part that it plans with, cannot be
/// loaded; else empty. Loads cuDNN with these parts (20 ms).
KN_CUDA_API std::string why_no_cudnn();

/// Extents and strides (in elements) of a tensor; the strides say the layout. Addresses are 16-byte
/// aligned.
struct TensorDesc {
    DataType type = DataType::F32;
    std::vector<std::int64_t> dims = {};
    std::vector<std::int64_t> strides = {};
};

/// Row-major strides: the last dimension is dense.
KN_CUDA_API TensorDesc dense(DataType type, std::vector<std::int64_t> dims);
/// Dimensions still in the order [N, C, spatial...], but with C dense in memory.
KN_CUDA_API TensorDesc channels_last(DataType type, std::vector<std::int64_t> dims);

/// Applied last. GeluTanh is the tanh approximation of Gelu; Swish is x * sigmoid(x).
enum class Activation { None, Relu, LeakyRelu, Clip, Sigmoid, Tanh, Elu, Swish, Gelu, GeluTanh };

/// What follows the main operation: y = activation(main + residual + bias). For cuDNN the order of
/// the two sums matters: residual first has precompiled kernels, bias first has not.
struct Epilogue {
    std::optional<TensorDesc> residual = {};  ///< of y's dims
    std::optional<TensorDesc> bias =
        {};  ///< of y's rank; 1 in all dims but the channel (matmul: the last)
    bool bias_first = false;
    Activation activation = Activation::None;
    float low = 0;    ///< Clip: lower bound
    float high = 0;   ///< Clip: upper bound
    float slope = 0;  ///< LeakyRelu: factor of negative values; Elu: alpha
};

/// Cross-correlation over 1 to 3 spatial dimensions: x [N,C,...], w [K,C/groups,...], y [N,K,...].
/// Operands in order: x, w, [residual], [bias], y.
struct ConvDesc {
    TensorDesc x, w, y;
    std::vector<std::int64_t> pad_before = {},
                              pad_after = {};              ///< a spatial dimension; empty means 0
    std::vector<std::int64_t> stride = {}, dilation = {};  ///< empty means 1
    DataType compute = DataType::F32;
    Epilogue epilogue = {};
};

/// Transposed convolution (the gradient of a convolution by its input): x [N,C,...], w
/// [C,K/groups,...], y [N,K,...]. Operands in order: x, w, [residual], [bias], y.
struct ConvTransposeDesc {
    TensorDesc x, w, y;
    std::vector<std::int64_t> pad_before = {}, pad_after = {};
    std::vector<std::int64_t> stride = {}, dilation = {};
    DataType compute = DataType::F32;
    Epilogue epilogue = {};
};

enum class Pooling { Max, Average, AverageWithPadding };

/// Pooling over 1 to 3 spatial dimensions. Operands in order: x, y.
struct PoolDesc {
    TensorDesc x, y;
    Pooling mode = Pooling::Max;
    std::vector<std::int64_t> window = {};
    std::vector<std::int64_t> pad_before = {}, pad_after = {};
    std::vector<std::int64_t> stride = {};
    DataType compute = DataType::F32;
};

/// Batched product with an epilogue: a [B,M,K], b [B,K,N], y [B,M,N]; B of a or b may be 1.
/// Operands in order: a, b, [residual], [bias], y.
struct CudnnMatmulDesc {
    TensorDesc a, b, y;
    DataType compute = DataType::F32;
    Epilogue epilogue = {};
};

enum class CausalMask { None, TopLeft, BottomRight };

/// o = softmax(scale q k^T + bias, masked) v, for q [B,H,Sq,D], k [B,Hk,Skv,D], v [B,Hv,Skv,Dv], o
/// [B,H,Sq,Dv]; H is a multiple of Hk and Hv. F16 or BF16 only: cuDNN 9.14 plans f32 and then
/// faults. Operands in order: q, k, v, [bias], [seq_q, seq_kv], o.
struct SdpaDesc {
    TensorDesc q, k, v, o;
    std::optional<float> scale = {};  ///< 1/sqrt(D) where not given
    CausalMask causal = CausalMask::None;
    std::optional<TensorDesc> bias = {};  ///< [1 or B, 1 or H, Sq, Skv]
    bool sequence_lengths = false;  ///< I32 [B,1,1,1] each: how many rows of q and of k, v count
};

using CudnnProblem = std::variant<ConvDesc, ConvTransposeDesc, PoolDesc, CudnnMatmulDesc, SdpaDesc>;

/// One address that a plan wants at run time.
struct CudnnOperand {
    std::string name;
    TensorDesc tensor;
    bool output = false;
};

/// What run takes, in its order.
KN_CUDA_API std::vector<CudnnOperand> operands(const CudnnProblem& problem);

/// The whole problem in one line: equal exactly when the problems are, so it can key a cache.
KN_CUDA_API std::string to_text(const CudnnProblem& problem);

/// cuDNN has no kernel for a problem within the limits; what() says why.
class KN_CUDA_API CudnnUnsupported : public Error {
  public:
    using Error::Error;
};

/// What plans may be.
struct CudnnLimits {
    std::size_t max_workspace = std::size_t{64} << 20;  ///< bytes
    int max_plans = 8;
    bool tensor_cores = true;  ///< false gives f32 by FMA alone: no TF32, no down-converted inputs
    bool runtime_compiled = true;  ///< false leaves out kernels that take 0.2 to 2 s to compile
    int threads = 0;               ///< that build at once; 0: one a core
};

/// A way to compute a problem. Its name may be stored and given to build_plan for an equal problem
/// and the same cuDNN version.
struct CudnnCandidate {
    std::string name;  ///< engine and knobs, such as "eng45_k2=2_k24=5"
    std::size_t workspace_bytes = 0;
    bool runtime_compiled = false;
    bool tensor_cores = false;
    bool winograd = false;  ///< rounds more than a direct convolution
    bool deterministic = true;
};

/// A cuDNN handle of one device: what run needs. One thread at a time.
class KN_CUDA_API CudnnHandle {
  public:
    /// Takes microseconds; the first loads cuDNN, NVRTC and cuBLASLt (0.1 s).
    explicit CudnnHandle(Device device);
    ~CudnnHandle();
    CudnnHandle(CudnnHandle&& other) noexcept;
    CudnnHandle& operator=(CudnnHandle&& other) noexcept;

    Device device() const noexcept { return device_; }
    void* handle() const noexcept { return handle_; }

  private:
    Device device_;
    void* handle_ = nullptr;
};

/// A built plan. A value; copies share it. It has to outlive CUDA graphs that captured it.
class KN_CUDA_API CudnnPlan {
  public:
    const CudnnCandidate& candidate() const noexcept;
    std::size_t workspace_bytes() const noexcept { return candidate().workspace_bytes; }

    /// Queues the work on `stream`, which has to be of the handle's device; does not block.
    /// `addresses` are those of operands(problem), on the device. The workspace has at least
    /// workspace_bytes() and serves one run at a time. Thread-safe with a handle a thread.
    void run(const CudnnHandle& handle, StreamRef stream, std::span<void* const> addresses,
             DeviceSpan<std::byte> workspace) const;

    /// The plan with its compiled kernels, for load_plan; tied to this cuDNN version and kind of
    /// GPU.
    std::string serialize() const;

  private:
    friend struct CudnnPlanAccess;
    struct Impl;
    std::shared_ptr<const Impl> impl_;
};

/// All ways cuDNN offers within the limits, its best guess first; none is compiled. Takes
/// milliseconds, blocks, needs no GPU. Without libcuda only precompiled kernels are listed. Throws
/// CudnnUnsupported when there is none.
KN_CUDA_API std::vector<CudnnCandidate> list_candidates(const CudnnProblem& problem,
                                                        const DeviceProperties& device,
                                                        const CudnnLimits& limits = {});

/// Builds one way by its name; blocks for up to 2 s when its kernels are compiled at run time.
/// Throws CudnnUnsupported.
KN_CUDA_API CudnnPlan build_plan(const CudnnProblem& problem, const DeviceProperties& device,
                                 const std::string& name);

/// list_candidates, then builds the first limits.max_plans that build, in parallel; blocks. Throws
/// CudnnUnsupported when not one builds.
KN_CUDA_API std::vector<CudnnPlan> plan_candidates(const CudnnProblem& problem,
                                                   const DeviceProperties& device,
                                                   const CudnnLimits& limits = {});

/// A serialized plan again, without compiling anything. Throws Error when it is of another cuDNN
/// version, problem or GPU.
KN_CUDA_API CudnnPlan load_plan(const CudnnProblem& problem, const DeviceProperties& device,
                                const std::string& serialized);

}  // namespace kn::cuda
