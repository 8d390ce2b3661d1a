#include <gmock/gmock.h>

#include "gpu_test.h"
#include "kn/cuda_sys/cublas.h"
#include "kn/cuda_sys/cublaslt.h"
#include "kn/cuda_sys/graph.h"
#include "reference.h"

using namespace kn::cuda;
using namespace kn::test;
using testing::HasSubstr;

namespace {

struct Problem {
    MatmulDesc desc;
    std::vector<float> a, b, c, bias;
    double alpha = 1, beta = 0;
};

Problem random_problem(MatmulDesc d, double alpha = 1, double beta = 0) {
    auto count = [](std::int64_t n) { return static_cast<std::size_t>(n); };
    return {d,
            random_values(count(d.m * d.k * (d.stride_a ? d.batch : 1)), 1),
            random_values(count(d.k * d.n * (d.stride_b ? d.batch : 1)), 2),
            random_values(count(d.m * d.n * d.batch), 3),
            random_values(count(d.n), 4),
            alpha,
            beta};
}

std::vector<double> reference(const Problem& p) {
    const MatmulDesc& d = p.desc;
    std::vector<double> y(static_cast<std::size_t>(d.batch * d.m * d.n));
    for (std::int64_t t = 0; t < d.batch; ++t)
        for (std::int64_t i = 0; i < d.m; ++i)
            for (std::int64_t j = 0; j < d.n; ++j) {
                double sum = 0;
                for (std::int64_t k = 0; k < d.k; ++k)
                    sum +=
                        double(p.a[t * d.stride_a + (d.transpose_a ? k * d.m + i : i * d.k + k)]) *
                        p.b[t * d.stride_b + (d.transpose_b ? j * d.k + k : k * d.n + j)];
                std::int64_t at = (t * d.m + i) * d.n + j;
                double v = p.alpha * sum + p.beta * p.c[at] + (d.bias ? p.bias[j] : 0.0f);
                if (d.epilogue == MatmulEpilogue::Relu) v = std::max(v, 0.0);
                if (d.epilogue == MatmulEpilogue::GeluTanh)
                    v = 0.5 * v * (1 + std::tanh(0.7978845608028654 * (v + 0.044715 * v * v * v)));
                y[at] = v;
            }
    return y;
}

template <class T>
std::vector<float> run(StreamRef stream, const CublasLt& lt, const Problem& p,
                       const MatmulAlgo& algo) {
    auto device_copy = [&](const std::vector<float>& v) {
        return to_device(stream, std::vector<T>(v.begin(), v.end()));
    };
    auto a = device_copy(p.a), b = device_copy(p.b), c = device_copy(p.c),
         bias = device_copy(p.bias);
    DeviceBuffer<T> d(stream.device(), p.c.size());
    d.span().fill_bytes_async(stream, 0xff);  // NaN
    Matmul(lt, p.desc)
        .run(stream, algo,
             {.a = a.data(),
              .b = b.data(),
              .c = p.beta ? c.data() : nullptr,
              .d = d.data(),
              .bias = bias.data()},
             p.alpha, p.beta);
    return to_float(d.span().to_vector(stream));
}

template <class T>
void check_all_candidates(Problem p, double tolerance) {
    if (sizeof(T) == 2) p.desc.a_type = p.desc.b_type = p.desc.d_type = DataType::F16;
    if (sizeof(T) == 8) p.desc.a_type = p.desc.b_type = p.desc.d_type = DataType::F64;
    Stream stream{Device(0)};
    CublasLt lt{Device(0)};
    auto algos = Matmul(lt, p.desc).candidates(4);
    ASSERT_FALSE(algos.empty());
    auto expected = reference(p);
    for (const MatmulAlgo& algo : algos)
        EXPECT_LT(relative_to_peak(run<T>(stream, lt, p, algo), expected), tolerance)
            << algo.describe();
}

}  // namespace

TEST(Matmul, AlgorithmsGoThroughText) {
    MatmulAlgo algo{.data = {1, 2, 3, 4, 5, 6, 7, ~0ull}, .workspace_bytes = 12345};
    MatmulAlgo again = MatmulAlgo::from_text(algo.to_text());
    EXPECT_EQ(again.data, algo.data);
    EXPECT_EQ(again.workspace_bytes, algo.workspace_bytes);
    EXPECT_THROW(MatmulAlgo::from_text("0123"), Error);
    EXPECT_THROW(MatmulAlgo::from_text(std::string(128, 'z') + " 1"), Error);
}

TEST(Matmul, HandleWithoutGpuSaysWhy) {
    if (device_count() > 0) GTEST_SKIP() << "there is a GPU";
    try {
        CublasLt lt{Device(0)};
        FAIL();
    } catch (const Error& e) {
        EXPECT_THAT(e.what(), HasSubstr(why_unavailable()));
    }
}

KN_GPU_TEST(GpuMatmul, F32InAllTransposes) {
    for (int t = 0; t < 4; ++t)
        check_all_candidates<float>(random_problem({.m = 33,
                                                    .n = 65,
                                                    .k = 70,
                                                    .transpose_a = (t & 1) != 0,
                                                    .transpose_b = (t & 2) != 0}),
                                    1e-6);
}

KN_GPU_TEST(GpuMatmul, Tf32IsCoarser) {
    Problem p = random_problem({.m = 64, .n = 128, .k = 256, .compute = MatmulCompute::Tf32});
    for (float& v : p.a) v *= 1.0f / 3;  // more bits than TF32 has
    check_all_candidates<float>(p, 2e-3);
}

KN_GPU_TEST(GpuMatmul, F16WithBiasAndEpilogues) {
    for (auto epilogue : {MatmulEpilogue::None, MatmulEpilogue::Relu, MatmulEpilogue::GeluTanh})
        check_all_candidates<_Float16>(
            random_problem({.m = 48, .n = 64, .k = 128, .epilogue = epilogue, .bias = true}), 1e-3);
}

KN_GPU_TEST(GpuMatmul, F64) {
    check_all_candidates<double>(
        random_problem({.m = 20, .n = 30, .k = 40, .compute = MatmulCompute::F64}), 1e-7);
}

KN_GPU_TEST(GpuMatmul, ResidualGoesInBeforeTheActivation) {
    check_all_candidates<float>(
        random_problem({.m = 31, .n = 64, .k = 40, .epilogue = MatmulEpilogue::Relu, .bias = true},
                       0.5, 2.0),
        1e-6);
}

KN_GPU_TEST(GpuMatmul, BatchesWithABroadcastOperand) {
    check_all_candidates<_Float16>(random_problem({.m = 16,
                                                   .n = 24,
                                                   .k = 32,
                                                   .batch = 5,
                                                   .stride_a = 16 * 32,
                                                   .stride_b = 0,
                                                   .stride_c = 16 * 24,
                                                   .stride_d = 16 * 24}),
                                   1e-3);
}

KN_GPU_TEST(GpuMatmul, StoredAlgorithmsWorkAgain) {
    Stream stream{Device(0)};
    CublasLt lt{Device(0)};
    Problem p = random_problem({.m = 64, .n = 64, .k = 64});
    Matmul matmul(lt, p.desc);
    MatmulAlgo algo = MatmulAlgo::from_text(matmul.candidates().at(0).to_text());
    ASSERT_TRUE(matmul.check(algo).has_value());
    EXPECT_LE(*matmul.check(algo), std::size_t{32} << 20);
    EXPECT_LT(relative_to_peak(run<float>(stream, lt, p, algo), reference(p)), 1e-6);
    MatmulAlgo nonsense{.data = {~0ull, ~0ull, ~0ull}};
    EXPECT_FALSE(matmul.check(nonsense).has_value());
}

KN_GPU_TEST(GpuMatmul, RunsInsideACapture) {
    Stream stream{Device(0)};
    CublasLt lt{Device(0)};
    Problem p = random_problem({.m = 32, .n = 32, .k = 32});
    Matmul matmul(lt, p.desc);
    auto a = to_device(stream, p.a), b = to_device(stream, p.b);
    DeviceBuffer<float> d(Device(0), p.c.size());
    auto algo = matmul.candidates().at(0);
    auto graph = capture(
        stream, [&] { matmul.run(stream, algo, {.a = a.data(), .b = b.data(), .d = d.data()}); });
    auto exec = graph.instantiate();
    exec.launch(stream);
    EXPECT_LT(relative_to_peak(d.span().to_vector(stream), reference(p)), 1e-6);
}

KN_GPU_TEST(GpuMatmul, MistakesAreNamed) {
    Stream stream{Device(0)};
    CublasLt lt(Device(0), 0);
    EXPECT_THROW(Matmul(lt, {.m = 0, .n = 1, .k = 1}), Error);
    EXPECT_THROW(Matmul(lt, {.m = 4, .n = 4, .k = 4, .lda = 3}), Error);
    EXPECT_THROW(Matmul(lt, {.m = 4, .n = 4, .k = 4, .batch = 2}), Error);
    Matmul matmul(lt, {.m = 4, .n = 4, .k = 4, .bias = true});
    MatmulAlgo algo = matmul.candidates(8, 0).at(0);
    DeviceBuffer<float> x(Device(0), 16);
    EXPECT_THROW(matmul.run(stream, algo, {}), Error);
    EXPECT_THROW(matmul.run(stream, algo, {.a = x.data(), .b = x.data(), .d = x.data()}), Error);
    algo.workspace_bytes = 1000;
    EXPECT_THROW(
        matmul.run(stream, algo, {.a = x.data(), .b = x.data(), .d = x.data(), .bias = x.data()}),
        Error);
}

KN_GPU_TEST(GpuMatmul, GroupedProductsOfManySizes) {
    Stream stream{Device(0)};
    Cublas blas{Device(0)};
    Problem p = random_problem({.m = 8,
                                .n = 16,
                                .k = 24,
                                .batch = 2,
                                .stride_a = 8 * 24,
                                .stride_b = 24 * 16,
                                .stride_d = 8 * 16});
    Problem q = random_problem({.m = 40, .n = 4, .k = 12, .transpose_b = true});
    auto pa = to_device(stream, p.a), pb = to_device(stream, p.b), qa = to_device(stream, q.a),
         qb = to_device(stream, q.b);
    DeviceBuffer<float> pd(Device(0), p.c.size()), qd(Device(0), q.c.size());
    auto a = to_device(stream, std::vector<const void*>{pa.data(), pa.data() + 8 * 24, qa.data()});
    auto b = to_device(stream, std::vector<const void*>{pb.data(), pb.data() + 24 * 16, qb.data()});
    auto d = to_device(stream, std::vector<void*>{pd.data(), pd.data() + 8 * 16, qd.data()});
    std::vector<MatmulGroup> groups{{.m = 8, .n = 16, .k = 24, .count = 2},
                                    {.m = 40, .n = 4, .k = 12, .transpose_b = true}};
    blas.grouped_matmul(stream, DataType::F32, MatmulCompute::F32, groups, a.span(), b.span(),
                        d.span());
    EXPECT_LT(relative_to_peak(pd.span().to_vector(stream), reference(p)), 1e-6);
    EXPECT_LT(relative_to_peak(qd.span().to_vector(stream), reference(q)), 1e-6);
}
