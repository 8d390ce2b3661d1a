// Planning for an H200 that is described by a file: no GPU needed.
#include <gmock/gmock.h>

#include <chrono>

#include "cudnn_cases.h"
#include "gpu_test.h"

using namespace kn::test;
using testing::HasSubstr;

namespace {

constexpr DataType F16 = DataType::F16, F32 = DataType::F32;

// A ResNet-like 3x3 convolution with bias and ReLU.
ConvDesc conv(DataType type, bool nhwc = true, std::int64_t batch = 4) {
    auto layout = nhwc ? channels_last : dense;
    ConvDesc d{.x = layout(type, {batch, 64, 28, 28}),
               .w = layout(type, {64, 64, 3, 3}),
               .y = layout(type, {batch, 64, 28, 28}),
               .pad_before = {1, 1},
               .pad_after = {1, 1}};
    d.epilogue.bias = layout(type, {1, 64, 1, 1});
    d.epilogue.activation = Activation::Relu;
    return d;
}

ConvDesc with_residual(ConvDesc d) {
    d.epilogue.residual = d.y;
    return d;
}

SdpaDesc attention(DataType type, std::int64_t heads_kv = 4) {
    return {.q = dense(type, {2, 4, 128, 64}),
            .k = dense(type, {2, heads_kv, 128, 64}),
            .v = dense(type, {2, heads_kv, 128, 64}),
            .o = dense(type, {2, 4, 128, 64})};
}

CudnnMatmulDesc matmul_gelu() {
    CudnnMatmulDesc d{.a = dense(F16, {1, 128, 256}),
                      .b = dense(F16, {1, 256, 512}),
                      .y = dense(F16, {1, 128, 512})};
    d.epilogue.bias = dense(F16, {1, 1, 512});
    d.epilogue.activation = Activation::Gelu;
    return d;
}

void expect_precompiled_plan(const CudnnProblem& problem, CudnnLimits limits = {}) {
    limits.runtime_compiled = false;
    limits.max_plans = 2;
    auto plans = plan_candidates(problem, h200(), limits);
    ASSERT_FALSE(plans.empty());
    EXPECT_LE(plans.size(), 2u);
    for (const CudnnPlan& plan : plans) {
        EXPECT_THAT(plan.candidate().name, HasSubstr("eng"));
        EXPECT_FALSE(plan.candidate().runtime_compiled);
        EXPECT_LE(plan.workspace_bytes(), limits.max_workspace);
        EXPECT_TRUE(limits.tensor_cores || !plan.candidate().tensor_cores);
    }
}

// Why there is no way to compute it, or "listed".
std::string reason(const CudnnProblem& problem, CudnnLimits limits = {}) {
    try {
        list_candidates(problem, h200(), limits);
    } catch (const CudnnUnsupported& e) {
        return e.what();
    }
    return "listed";
}

double seconds_since(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

TEST(CudnnPlan, ConvWithEpilogueIsPrecompiled) {
    for (DataType type : {F16, DataType::BF16, F32})
        for (bool nhwc : {true, false}) {
            SCOPED_TRACE(std::string(to_string(type)) + (nhwc ? " nhwc" : " nchw"));
            expect_precompiled_plan(conv(type, nhwc));
            expect_precompiled_plan(with_residual(conv(type, nhwc)));
        }
}

TEST(CudnnPlan, StrictF32UsesNoTensorCores) {
    expect_precompiled_plan(conv(F32), {.tensor_cores = false});
    expect_precompiled_plan(with_residual(conv(F32)), {.tensor_cores = false});
    for (const auto& c : list_candidates(conv(F32), h200(), {.tensor_cores = false}))
        EXPECT_FALSE(c.tensor_cores) << c.name;
}

TEST(CudnnPlan, OneAndThreeSpatialDimensions) {
    expect_precompiled_plan(ConvDesc{.x = dense(F32, {2, 16, 100}),
                                     .w = dense(F32, {32, 16, 5}),
                                     .y = dense(F32, {2, 32, 50}),
                                     .pad_before = {2},
                                     .pad_after = {2},
                                     .stride = {2}});
    expect_precompiled_plan(ConvDesc{.x = channels_last(F16, {1, 16, 8, 8, 8}),
                                     .w = channels_last(F16, {32, 16, 3, 3, 3}),
                                     .y = channels_last(F16, {1, 32, 6, 6, 6})});
}

TEST(CudnnPlan, GroupedAndTransposed) {
    expect_precompiled_plan(ConvDesc{.x = channels_last(F16, {1, 64, 14, 14}),
                                     .w = channels_last(F16, {64, 1, 3, 3}),
                                     .y = channels_last(F16, {1, 64, 14, 14}),
                                     .pad_before = {1, 1},
                                     .pad_after = {1, 1}});
    expect_precompiled_plan(ConvTransposeDesc{.x = channels_last(F16, {1, 64, 14, 14}),
                                              .w = channels_last(F16, {64, 32, 2, 2}),
                                              .y = channels_last(F16, {1, 32, 28, 28}),
                                              .stride = {2, 2}});
}

TEST(CudnnPlan, WorkspaceLimitHolds) {
    for (const auto& c : list_candidates(conv(F32, false), h200(), {.max_workspace = 0}))
        EXPECT_EQ(c.workspace_bytes, 0u) << c.name;
}

TEST(CudnnPlan, ANameBuildsTheSamePlanAgain) {
    auto list = list_candidates(conv(F16), h200(), {.runtime_compiled = false});
    ASSERT_GT(list.size(), 1u);
    CudnnPlan plan = build_plan(conv(F16), h200(), list[1].name);
    EXPECT_EQ(plan.candidate().name, list[1].name);
    EXPECT_EQ(plan.workspace_bytes(), list[1].workspace_bytes);
    EXPECT_THROW(build_plan(conv(F16), h200(), "eng99999"), CudnnUnsupported);
}

TEST(CudnnPlan, ParallelBuildKeepsTheOrder) {
    CudnnLimits limits{.max_plans = 6, .runtime_compiled = false, .threads = 1};
    auto serial = plan_candidates(conv(F16), h200(), limits);
    limits.threads = 4;
    auto parallel = plan_candidates(conv(F16), h200(), limits);
    ASSERT_EQ(serial.size(), 6u);
    ASSERT_EQ(parallel.size(), 6u);
    for (std::size_t i = 0; i < 6; ++i)
        EXPECT_EQ(serial[i].candidate().name, parallel[i].candidate().name);
}

TEST(CudnnPlan, RefusalsGiveReasons) {
    EXPECT_THAT(reason(attention(F32)), HasSubstr("attention in f32"));
    ConvDesc swish = conv(F32);
    swish.epilogue.activation = Activation::Swish;
    EXPECT_THAT(reason(swish, {.tensor_cores = false}), HasSubstr("cudnn:"));
    ConvDesc wrong = conv(F16);
    wrong.w.dims[1] = 48;
    EXPECT_NE(reason(wrong), "listed");
    wrong = conv(F16);
    wrong.pad_before = {1};
    EXPECT_THROW(list_candidates(wrong, h200()), Error);
    wrong = conv(F16);
    wrong.x.strides.pop_back();
    EXPECT_THROW(list_candidates(wrong, h200()), Error);
}

TEST(CudnnPlan, FusionsWithoutLibcudaAreRefused) {
    if (have_libcuda()) GTEST_SKIP() << "there is a libcuda";
    EXPECT_THAT(reason(matmul_gelu()), HasSubstr("cudnn:"));
}

TEST(CudnnPlan, OperandsComeInTheirOrder) {
    std::string names;
    for (const auto& o : operands(with_residual(conv(F16))))
        names += o.name + (o.output ? "! " : " ");
    EXPECT_EQ(names, "x w residual bias y! ");
    SdpaDesc sdpa = attention(F16);
    sdpa.bias = dense(F16, {1, 1, 128, 128});
    sdpa.sequence_lengths = true;
    names.clear();
    for (const auto& o : operands(sdpa)) names += o.name + " ";
    EXPECT_EQ(names, "q k v bias seq_q seq_kv o ");
}

TEST(CudnnPlan, TextTellsProblemsApart) {
    EXPECT_EQ(to_text(conv(F16)), to_text(conv(F16)));
    EXPECT_NE(to_text(conv(F16)), to_text(conv(F16, false)));
    ConvDesc other = conv(F16);
    other.epilogue.activation = Activation::Tanh;
    EXPECT_NE(to_text(conv(F16)), to_text(other));
}

TEST(CudnnPlan, PrecompiledPlansCanBeStored) {
    auto plan =
        plan_candidates(conv(F16), h200(), {.max_plans = 1, .runtime_compiled = false}).at(0);
    std::string stored = plan.serialize();
    CudnnPlan loaded = load_plan(conv(F16), h200(), stored);
    EXPECT_EQ(loaded.candidate().name, plan.candidate().name);
    EXPECT_EQ(loaded.workspace_bytes(), plan.workspace_bytes());
    EXPECT_THROW(load_plan(conv(F16, false), h200(), stored), Error);
    EXPECT_THROW(load_plan(conv(F16), h200(), "nonsense"), Error);
    std::string old = stored;
    old.replace(old.find("kn-cudnn-plan ") + 14, 5, "90001");
    EXPECT_THROW(load_plan(conv(F16), h200(), old), Error);
}

TEST(CudnnFusion, ActivationsAfterConvAndMatmul) {
    KN_REQUIRE_LIBCUDA();
    for (Activation a :
         {Activation::Swish, Activation::Gelu, Activation::GeluTanh, Activation::Sigmoid}) {
        ConvDesc d = conv(F16);
        d.epilogue.activation = a;
        EXPECT_FALSE(list_candidates(d, h200()).empty()) << static_cast<int>(a);
    }
    EXPECT_FALSE(list_candidates(matmul_gelu(), h200()).empty());
}

TEST(CudnnFusion, ResidualAfterBiasIsARuntimeFusion) {
    KN_REQUIRE_LIBCUDA();
    ConvDesc d = with_residual(conv(F16));
    EXPECT_FALSE(list_candidates(d, h200()).at(0).runtime_compiled);
    d.epilogue.bias_first = true;
    EXPECT_TRUE(list_candidates(d, h200()).at(0).runtime_compiled);
}

TEST(CudnnFusion, AttentionInAllItsMasks) {
    KN_REQUIRE_LIBCUDA();
    for (auto causal : {CausalMask::None, CausalMask::TopLeft, CausalMask::BottomRight})
        for (bool lengths : {false, true})
            for (bool bias : {false, true}) {
                SdpaDesc d = attention(F16, 2);
                d.causal = causal;
                d.sequence_lengths = lengths;
                if (bias) d.bias = dense(F16, {1, 4, 128, 128});
                std::string why = reason(d);
                // cuDNN itself knows no bias with this mask.
                bool known = !bias || causal != CausalMask::BottomRight;
                EXPECT_EQ(why == "listed", known)
                    << "causal " << static_cast<int>(causal) << " lengths " << lengths << " bias "
                    << bias << ": " << why;
            }
}

TEST(CudnnFusion, PoolingInAllItsModes) {
    KN_REQUIRE_LIBCUDA();
    for (Pooling mode : {Pooling::Max, Pooling::Average, Pooling::AverageWithPadding})
        EXPECT_FALSE(list_candidates(PoolDesc{.x = channels_last(F16, {2, 64, 28, 28}),
                                              .y = channels_last(F16, {2, 64, 14, 14}),
                                              .mode = mode,
                                              .window = {3, 3},
                                              .pad_before = {1, 1},
                                              .pad_after = {1, 1},
                                              .stride = {2, 2}},
                                     h200())
                         .empty());
}

// A warm start depends on this: loading must not compile again.
TEST(CudnnFusion, RuntimeFusionsCanBeStored) {
    KN_REQUIRE_LIBCUDA();
    for (const CudnnProblem& problem :
         {CudnnProblem(matmul_gelu()), CudnnProblem(attention(F16))}) {
        auto start = std::chrono::steady_clock::now();
        auto plan = plan_candidates(problem, h200(), {.max_plans = 1, .threads = 1}).at(0);
        double build_seconds = seconds_since(start);
        ASSERT_TRUE(plan.candidate().runtime_compiled);
        std::string stored = plan.serialize();
        start = std::chrono::steady_clock::now();
        CudnnPlan loaded = load_plan(problem, h200(), stored);
        double load_seconds = seconds_since(start);
        EXPECT_EQ(loaded.workspace_bytes(), plan.workspace_bytes());
        std::printf("%s: built in %.3f s, loaded in %.3f s, %zu bytes\n",
                    plan.candidate().name.c_str(), build_seconds, load_seconds, stored.size());
    }
}
