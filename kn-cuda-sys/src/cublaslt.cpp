#include "kn/cuda_sys/cublaslt.h"

#include <cstdio>
#include <cstring>
#include <utility>

#include "cublas_check.h"
#include "release.h"

namespace kn::cuda {

static_assert(sizeof(cublasLtMatmulAlgo_t) == sizeof(MatmulAlgo::data));

namespace {

cublasLtHandle_t to_lt(void* handle) { return static_cast<cublasLtHandle_t>(handle); }

cudaDataType_t scale_type(const MatmulDesc& d) {
    switch (d.compute) {
        case MatmulCompute::F16: return CUDA_R_16F;
        case MatmulCompute::F64: return CUDA_R_64F;
        case MatmulCompute::I32: return d.d_type == DataType::I32 ? CUDA_R_32I : CUDA_R_32F;
        case MatmulCompute::F32:
        case MatmulCompute::Tf32: break;
    }
    return CUDA_R_32F;
}

// alpha or beta in the type that the computation wants.
struct Scalar {
    alignas(8) std::byte bytes[8];

    Scalar(cudaDataType_t type, double value) {
        if (type == CUDA_R_64F)
            store(value);
        else if (type == CUDA_R_32I)
            store(static_cast<std::int32_t>(value));
        else if (type == CUDA_R_32F)
            store(static_cast<float>(value));
        else
            store(static_cast<_Float16>(value));
    }
    template <class T>
    void store(T value) {
        std::memcpy(bytes, &value, sizeof value);
    }
};

struct Layout {
    cublasLtMatrixLayoutOpaque_t opaque{};

    // A row-major matrix of `rows` x `cols` is a column-major one of `cols` x `rows`.
    Layout(DataType type, std::int64_t rows, std::int64_t cols, std::int64_t ld, std::int64_t batch,
           std::int64_t stride) {
        KN_LT_CHECK(cublasLtMatrixLayoutInit_internal(&opaque, sizeof opaque, detail::to_cuda(type),
                                                      static_cast<std::uint64_t>(cols),
                                                      static_cast<std::uint64_t>(rows), ld));
        auto count = static_cast<std::int32_t>(batch);
        KN_LT_CHECK(cublasLtMatrixLayoutSetAttribute(&opaque, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT,
                                                     &count, sizeof count));
        KN_LT_CHECK(cublasLtMatrixLayoutSetAttribute(
            &opaque, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride, sizeof stride));
    }
};

struct Operation {
    cublasLtMatmulDescOpaque_t opaque{};

    Operation(const MatmulDesc& d, const void* bias) {
        KN_LT_CHECK(cublasLtMatmulDescInit_internal(&opaque, sizeof opaque,
                                                    detail::to_cublas(d.compute), scale_type(d)));
        // The operands trade places: D^T = B^T A^T in column-major terms.
        set(CUBLASLT_MATMUL_DESC_TRANSA, d.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
        set(CUBLASLT_MATMUL_DESC_TRANSB, d.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
        set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue(d));
        if (!d.bias) return;
        set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
        set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, detail::to_cuda(d.d_type));
        set(CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE, d.stride_bias);
    }
    template <class T>
    void set(cublasLtMatmulDescAttributes_t attribute, T value) {
        KN_LT_CHECK(cublasLtMatmulDescSetAttribute(&opaque, attribute, &value, sizeof value));
    }
    static cublasLtEpilogue_t epilogue(const MatmulDesc& d) {
        switch (d.epilogue) {
            case MatmulEpilogue::None:
                return d.bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
            case MatmulEpilogue::Relu:
                return d.bias ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_RELU;
            case MatmulEpilogue::GeluTanh:
                return d.bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
        }
        return CUBLASLT_EPILOGUE_DEFAULT;
    }
};

void check_matrix(const char* name, std::int64_t cols, std::int64_t ld) {
    KN_CUDA_REQUIRE(ld >= cols, "Matmul",
                    "rows of {} have {} elements, its leading dimension is {}", name, cols, ld);
}

MatmulDesc normalise(MatmulDesc d) {
    KN_CUDA_REQUIRE(d.m > 0 && d.n > 0 && d.k > 0 && d.batch > 0, "Matmul",
                    "sizes m={} n={} k={} batch={} are not all positive", d.m, d.n, d.k, d.batch);
    std::int64_t a_cols = d.transpose_a ? d.m : d.k, b_cols = d.transpose_b ? d.k : d.n;
    if (d.lda == 0) d.lda = a_cols;
    if (d.ldb == 0) d.ldb = b_cols;
    if (d.ldd == 0) d.ldd = d.n;
    if (d.ldc == 0) d.ldc = d.ldd;
    check_matrix("A", a_cols, d.lda);
    check_matrix("B", b_cols, d.ldb);
    check_matrix("C", d.n, d.ldc);
    check_matrix("D", d.n, d.ldd);
    KN_CUDA_REQUIRE(d.batch == 1 || d.stride_d != 0, "Matmul", "stride_d of a batch of {} is 0",
                    d.batch);
    return d;
}

int config(const MatmulAlgo& algo, cublasLtMatmulAlgoConfigAttributes_t attribute) {
    cublasLtMatmulAlgo_t raw;
    std::memcpy(&raw, algo.data.data(), sizeof raw);
    int value = -1;
    std::size_t written = 0;
    detail::cublaslt().cublasLtMatmulAlgoConfigGetAttribute(&raw, attribute, &value, sizeof value,
                                                            &written);
    return value;
}

}  // namespace

std::string MatmulAlgo::to_text() const {
    std::string text;
    for (std::uint64_t word : data) text += fmt::format("{:016x}", word);
    return text + fmt::format(" {}", workspace_bytes);
}

MatmulAlgo MatmulAlgo::from_text(const std::string& text) {
    MatmulAlgo algo;
    bool good = text.size() > 129 && text[128] == ' ';
    for (std::size_t i = 0; good && i < algo.data.size(); ++i)
        good = std::sscanf(text.c_str() + 16 * i, "%16lx", &algo.data[i]) == 1;
    good = good && std::sscanf(text.c_str() + 129, "%zu", &algo.workspace_bytes) == 1;
    KN_CUDA_REQUIRE(good, "MatmulAlgo::from_text", "\"{}\" is no algorithm", text);
    return algo;
}

std::string MatmulAlgo::describe() const {
    return fmt::format(
        "algo {} tile {} stages {} split-k {} workspace {}", config(*this, CUBLASLT_ALGO_CONFIG_ID),
        config(*this, CUBLASLT_ALGO_CONFIG_TILE_ID), config(*this, CUBLASLT_ALGO_CONFIG_STAGES_ID),
        config(*this, CUBLASLT_ALGO_CONFIG_SPLITK_NUM), workspace_bytes);
}

CublasLt::CublasLt(Device device, std::size_t workspace_bytes)
    : workspace_(device, workspace_bytes) {
    detail::GatedGuard guard(device);
    cublasLtHandle_t handle = nullptr;
    KN_LT_CHECK(cublasLtCreate(&handle));
    handle_ = handle;
}

CublasLt::~CublasLt() {
    if (handle_)
        detail::release_on(device(),
                           [this] { detail::cublaslt().cublasLtDestroy(to_lt(handle_)); });
}

CublasLt::CublasLt(CublasLt&& other) noexcept
    : workspace_(std::move(other.workspace_)), handle_(std::exchange(other.handle_, nullptr)) {}

CublasLt& CublasLt::operator=(CublasLt&& other) noexcept {
    std::swap(workspace_, other.workspace_);
    std::swap(handle_, other.handle_);
    return *this;
}

struct Matmul::Impl {
    const CublasLt* lt;
    MatmulDesc desc;
    Layout a, b, c, d;

    Impl(const CublasLt& handle, const MatmulDesc& desc_)
        : lt(&handle),
          desc(desc_),
          a(desc.a_type, desc.transpose_a ? desc.k : desc.m, desc.transpose_a ? desc.m : desc.k,
            desc.lda, desc.batch, desc.stride_a),
          b(desc.b_type, desc.transpose_b ? desc.n : desc.k, desc.transpose_b ? desc.k : desc.n,
            desc.ldb, desc.batch, desc.stride_b),
          c(desc.d_type, desc.m, desc.n, desc.ldc, desc.batch, desc.stride_c),
          d(desc.d_type, desc.m, desc.n, desc.ldd, desc.batch, desc.stride_d) {}
};

Matmul::Matmul(const CublasLt& lt, const MatmulDesc& desc)
    : impl_(std::make_unique<Impl>(lt, normalise(desc))) {}
Matmul::~Matmul() = default;
Matmul::Matmul(Matmul&& other) noexcept = default;
Matmul& Matmul::operator=(Matmul&& other) noexcept = default;

const MatmulDesc& Matmul::desc() const noexcept { return impl_->desc; }

std::vector<MatmulAlgo> Matmul::candidates(int count, std::size_t max_workspace) const {
    KN_CUDA_REQUIRE(count > 0, "Matmul::candidates", "{} candidates asked for", count);
    detail::GatedGuard guard(impl_->lt->device());
    // The address only has to be there, and aligned, for the heuristics to know of a bias.
    Operation operation(impl_->desc, impl_->lt->workspace().data());
    cublasLtMatmulPreferenceOpaque_t preference{};
    KN_LT_CHECK(cublasLtMatmulPreferenceInit_internal(&preference, sizeof preference));
    auto set = [&preference](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
        KN_LT_CHECK(
            cublasLtMatmulPreferenceSetAttribute(&preference, attribute, &value, sizeof value));
    };
    set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<std::uint64_t>(max_workspace));
    for (auto attribute :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
        set(attribute, static_cast<std::uint32_t>(impl_->desc.alignment));

    std::vector<cublasLtMatmulHeuristicResult_t> found(static_cast<std::size_t>(count));
    int returned = 0;
    cublasStatus_t status = detail::cublaslt().cublasLtMatmulAlgoGetHeuristic(
        to_lt(impl_->lt->handle()), &operation.opaque, &impl_->b.opaque, &impl_->a.opaque,
        &impl_->c.opaque, &impl_->d.opaque, &preference, count, found.data(), &returned);
    if (status == CUBLAS_STATUS_NOT_SUPPORTED) return {};
    detail::check_cublas(ErrorSource::CublasLt, status, "cublasLtMatmulAlgoGetHeuristic", __FILE__,
                         __LINE__);
    std::vector<MatmulAlgo> algos;
    for (int i = 0; i < returned; ++i) {
        const auto& result = found[static_cast<std::size_t>(i)];
        if (result.state != CUBLAS_STATUS_SUCCESS) continue;
        MatmulAlgo& algo = algos.emplace_back();
        std::memcpy(algo.data.data(), &result.algo, sizeof result.algo);
        algo.workspace_bytes = result.workspaceSize;
        algo.waves = result.wavesCount;
    }
    return algos;
}

std::optional<std::size_t> Matmul::check(const MatmulAlgo& algo) const {
    detail::GatedGuard guard(impl_->lt->device());
    Operation operation(impl_->desc, impl_->lt->workspace().data());
    cublasLtMatmulAlgo_t raw;
    std::memcpy(&raw, algo.data.data(), sizeof raw);
    cublasLtMatmulHeuristicResult_t result{};
    cublasStatus_t status = detail::cublaslt().cublasLtMatmulAlgoCheck(
        to_lt(impl_->lt->handle()), &operation.opaque, &impl_->b.opaque, &impl_->a.opaque,
        &impl_->c.opaque, &impl_->d.opaque, &raw, &result);
    if (status != CUBLAS_STATUS_SUCCESS) return std::nullopt;
    return result.workspaceSize;
}

void Matmul::run(StreamRef stream, const MatmulAlgo& algo, const MatmulPointers& pointers,
                 double alpha, double beta, std::optional<DeviceSpan<std::byte>> workspace) const {
    const CublasLt& lt = *impl_->lt;
    const MatmulDesc& desc = impl_->desc;
    KN_CUDA_REQUIRE(stream.device() == lt.device(), "Matmul::run",
                    "the handle is of device {}, the stream of device {}", lt.device().index(),
                    stream.device().index());
    KN_CUDA_REQUIRE(pointers.a && pointers.b && pointers.d, "Matmul::run", "a, b or d is null");
    KN_CUDA_REQUIRE(pointers.c || beta == 0, "Matmul::run", "c is null, but beta is {}", beta);
    KN_CUDA_REQUIRE(!desc.bias || pointers.bias, "Matmul::run", "the bias is null");
    void* scratch = workspace ? workspace->data() : lt.workspace().data();
    std::size_t scratch_bytes = workspace ? workspace->size() : lt.workspace().bytes();
    KN_CUDA_REQUIRE(scratch_bytes >= algo.workspace_bytes, "Matmul::run",
                    "the algorithm needs {} bytes of workspace, there are {}", algo.workspace_bytes,
                    scratch_bytes);
    Scalar alpha_value(scale_type(desc), alpha), beta_value(scale_type(desc), beta);
    Operation operation(desc, pointers.bias);
    cublasLtMatmulAlgo_t raw;
    std::memcpy(&raw, algo.data.data(), sizeof raw);
    // Without a C the layout of D stands for it.
    Layout& c = pointers.c ? impl_->c : impl_->d;
    detail::GatedGuard guard(lt.device());
    KN_LT_CHECK(cublasLtMatmul(to_lt(lt.handle()), &operation.opaque, alpha_value.bytes, pointers.b,
                               &impl_->b.opaque, pointers.a, &impl_->a.opaque, beta_value.bytes,
                               pointers.c ? pointers.c : pointers.d, &c.opaque, pointers.d,
                               &impl_->d.opaque, &raw, scratch, scratch_bytes, stream.handle()));
}

}  // namespace kn::cuda
