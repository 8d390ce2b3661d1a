#include "kn/cuda_sys/cublas.h"

#include <utility>

#include "cublas_check.h"
#include "release.h"

namespace kn::cuda {

namespace {
cublasHandle_t to_cublas_handle(void* handle) { return static_cast<cublasHandle_t>(handle); }
}  // namespace

Cublas::Cublas(Device device, std::size_t workspace_bytes) : workspace_(device, workspace_bytes) {
    detail::GatedGuard guard(device);
    cublasHandle_t handle = nullptr;
    KN_CUBLAS_CHECK(cublasCreate(&handle));
    handle_ = handle;
}

Cublas::~Cublas() {
    if (handle_)
        detail::release_on(device(),
                           [this] { detail::cublas().cublasDestroy(to_cublas_handle(handle_)); });
}

Cublas::Cublas(Cublas&& other) noexcept
    : workspace_(std::move(other.workspace_)), handle_(std::exchange(other.handle_, nullptr)) {}

Cublas& Cublas::operator=(Cublas&& other) noexcept {
    std::swap(workspace_, other.workspace_);
    std::swap(handle_, other.handle_);
    return *this;
}

void Cublas::grouped_matmul(StreamRef stream, DataType type, MatmulCompute compute,
                            std::span<const MatmulGroup> groups, DeviceSpan<const void* const> a,
                            DeviceSpan<const void* const> b, DeviceSpan<void* const> d) const {
    KN_CUDA_REQUIRE(stream.device() == device(), "Cublas::grouped_matmul",
                    "the handle is of device {}, the stream of device {}", device().index(),
                    stream.device().index());
#if CUBLAS_VERSION >= 120500
    // Row-major products are column-major ones with the operands swapped: D^T = B^T A^T.
    std::vector<cublasOperation_t> op_a, op_b;
    std::vector<int> m, n, k, lda, ldb, ldd, counts;
    std::vector<float> alpha, beta;
    std::size_t matrices = 0;
    for (const MatmulGroup& g : groups) {
        KN_CUDA_REQUIRE(g.m > 0 && g.n > 0 && g.k > 0 && g.count > 0, "Cublas::grouped_matmul",
                        "sizes m={} n={} k={} count={} are not all positive", g.m, g.n, g.k,
                        g.count);
        op_a.push_back(g.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
        op_b.push_back(g.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
        m.push_back(g.m);
        n.push_back(g.n);
        k.push_back(g.k);
        lda.push_back(g.lda ? g.lda : (g.transpose_a ? g.m : g.k));
        ldb.push_back(g.ldb ? g.ldb : (g.transpose_b ? g.k : g.n));
        ldd.push_back(g.ldd ? g.ldd : g.n);
        alpha.push_back(g.alpha);
        beta.push_back(g.beta);
        counts.push_back(g.count);
        matrices += static_cast<std::size_t>(g.count);
    }
    KN_CUDA_REQUIRE(a.size() >= matrices && b.size() >= matrices && d.size() >= matrices,
                    "Cublas::grouped_matmul", "{} products, but {}, {} and {} addresses", matrices,
                    a.size(), b.size(), d.size());
    if (groups.empty()) return;
    detail::GatedGuard guard(device());
    cublasHandle_t handle = to_cublas_handle(handle_);
    KN_CUBLAS_CHECK(cublasSetStream(handle, stream.handle()));
    KN_CUBLAS_CHECK(cublasSetWorkspace(handle, workspace_.data(), workspace_.bytes()));
    cudaDataType_t element = detail::to_cuda(type);
    KN_CUBLAS_CHECK(cublasGemmGroupedBatchedEx(
        handle, op_b.data(), op_a.data(), n.data(), m.data(), k.data(), alpha.data(), b.data(),
        element, ldb.data(), a.data(), element, lda.data(), beta.data(), d.data(), element,
        ldd.data(), static_cast<int>(groups.size()), counts.data(), detail::to_cublas(compute)));
#else
    static_cast<void>(type), static_cast<void>(compute), static_cast<void>(groups);
    static_cast<void>(a), static_cast<void>(b), static_cast<void>(d);
    KN_CUDA_REQUIRE(false, "Cublas::grouped_matmul", "cuBLAS before 12.5 cannot");
#endif
}

}  // namespace kn::cuda
