// cuDNN's plans on a GPU, against references in double.
#include <gmock/gmock.h>

#include <algorithm>

#include "cudnn_cases.h"
#include "gpu_test.h"
#include "kn/cuda_sys/graph.h"

using namespace kn::test;
using testing::HasSubstr;

namespace {

constexpr DataType F16 = DataType::F16, F32 = DataType::F32, BF16 = DataType::BF16;

std::vector<std::byte> encode(const HostTensor& t) {
    std::size_t size = size_of(t.desc.type);
    std::vector<std::byte> bytes(t.values.size() * size);
    for (std::size_t i = 0; i < t.values.size(); ++i) {
        float v = t.values[i];
        std::byte* at = bytes.data() + i * size;
        auto store = [at](auto value) { std::memcpy(at, &value, sizeof value); };
        switch (t.desc.type) {
            case F16: store(static_cast<_Float16>(v)); break;
            // The test values have few enough bits for truncation to be exact, or nearly so.
            case BF16: std::memcpy(at, reinterpret_cast<std::byte*>(&v) + 2, 2); break;
            case DataType::I32: store(static_cast<std::int32_t>(v)); break;
            default: store(v);
        }
    }
    return bytes;
}

void decode(const std::vector<std::byte>& bytes, HostTensor* t) {
    std::size_t size = size_of(t->desc.type);
    for (std::size_t i = 0; i < t->values.size(); ++i) {
        const std::byte* at = bytes.data() + i * size;
        if (t->desc.type == F16) {
            _Float16 half;
            std::memcpy(&half, at, 2);
            t->values[i] = half;
        } else if (t->desc.type == BF16) {
            std::uint32_t bits = 0;
            std::memcpy(reinterpret_cast<std::byte*>(&bits) + 2, at, 2);
            std::memcpy(&t->values[i], &bits, 4);
        } else {
            std::memcpy(&t->values[i], at, 4);
        }
    }
}

// Random inputs for all operands but the output; sequence lengths are 1 to the extent.
std::vector<HostTensor> random_inputs(const CudnnProblem& problem) {
    std::vector<HostTensor> inputs;
    std::int64_t rows = 0;
    for (const CudnnOperand& o : operands(problem)) {
        if (o.output) continue;
        if (o.name == "q" || o.name == "k") rows = o.tensor.dims[2];
        HostTensor t(o.tensor, static_cast<unsigned>(inputs.size() + 1));
        if (o.tensor.type == DataType::I32) {
            if (o.name == "seq_q") rows = inputs[0].desc.dims[2];
            if (o.name == "seq_kv") rows = inputs[1].desc.dims[2];
            for (std::size_t b = 0; b < t.values.size(); ++b)
                t.values[b] = static_cast<float>(rows - static_cast<std::int64_t>(b * 7) % rows);
        }
        if (o.tensor.type == BF16)
            for (float& v : t.values) v = std::round(v * 16) / 16;
        inputs.push_back(std::move(t));
    }
    return inputs;
}

std::vector<float> run(const CudnnPlan& plan, const CudnnProblem& problem,
                       const std::vector<HostTensor>& inputs, bool captured) {
    Stream stream{Device(0)};
    CudnnHandle handle{Device(0)};
    std::vector<DeviceBuffer<std::byte>> buffers;
    std::vector<void*> addresses;
    for (const HostTensor& t : inputs) buffers.push_back(to_device(stream, encode(t)));
    HostTensor output(operands(problem).back().tensor);
    buffers.emplace_back(Device(0), output.values.size() * size_of(output.desc.type));
    buffers.back().span().fill_bytes_async(stream, 0xff);  // NaN
    for (auto& b : buffers) addresses.push_back(b.data());
    DeviceBuffer<std::byte> workspace(Device(0), plan.workspace_bytes());
    if (captured)
        capture(stream, [&] { plan.run(handle, stream, addresses, workspace.span()); })
            .instantiate()
            .launch(stream);
    else
        plan.run(handle, stream, addresses, workspace.span());
    decode(buffers.back().span().to_vector(stream), &output);
    std::vector<float> dense_values;
    for_each_index(output.desc.dims,
                   [&](const auto& index) { dense_values.push_back(output.at(index)); });
    return dense_values;
}

std::vector<double> reference_of(const CudnnProblem& problem,
                                 const std::vector<HostTensor>& inputs) {
    return std::visit([&](const auto& desc) { return reference(desc, inputs); }, problem);
}

// Plans of at most `count` engines: all must give the reference's values, also inside a CUDA graph.
void check(const CudnnProblem& problem, double tolerance, CudnnLimits limits = {.max_plans = 3}) {
    limits.threads = 2;
    auto inputs = random_inputs(problem);
    auto expected = reference_of(problem, inputs);
    auto plans = plan_candidates(problem, Device(0).properties(), limits);
    ASSERT_FALSE(plans.empty());
    for (std::size_t i = 0; i < plans.size(); ++i) {
        bool captured = i == 0;
        std::string what =
            plans[i].candidate().name + (captured ? " captured" : "") + " for " + to_text(problem);
        try {
            double error = relative_to_peak(run(plans[i], problem, inputs, captured), expected);
            EXPECT_LT(error, tolerance) << what;
        } catch (const Error& e) {
            ADD_FAILURE() << what << ": " << e.what();
        }
    }
}

ConvDesc conv(DataType type, bool nhwc = true) {
    auto layout = nhwc ? channels_last : dense;
    ConvDesc d{.x = layout(type, {2, 16, 9, 11}),
               .w = layout(type, {24, 16, 3, 3}),
               .y = layout(type, {2, 24, 5, 6}),
               .pad_before = {1, 1},
               .pad_after = {1, 1},
               .stride = {2, 2}};
    d.epilogue.bias = layout(type, {1, 24, 1, 1});
    d.epilogue.activation = Activation::Relu;
    return d;
}

SdpaDesc attention(std::int64_t heads_kv, std::int64_t columns) {
    return {.q = dense(F16, {2, 4, 48, 64}),
            .k = dense(F16, {2, heads_kv, columns, 64}),
            .v = dense(F16, {2, heads_kv, columns, 64}),
            .o = dense(F16, {2, 4, 48, 64})};
}

}  // namespace

KN_GPU_TEST(GpuCudnn, ConvBiasReluInHalf) {
    for (bool nhwc : {true, false}) check(conv(F16, nhwc), 2e-3);
}

KN_GPU_TEST(GpuCudnn, ConvInBfloat16) { check(conv(BF16), 1e-2); }

KN_GPU_TEST(GpuCudnn, ConvInStrictF32) {
    for (bool nhwc : {true, false})
        check(conv(F32, nhwc), 2e-6, {.max_plans = 3, .tensor_cores = false});
}

KN_GPU_TEST(GpuCudnn, ConvInTf32) { check(conv(F32), 2e-3); }

KN_GPU_TEST(GpuCudnn, ResidualThenBias) {
    ConvDesc d = conv(F16);
    d.epilogue.residual = d.y;
    check(d, 2e-3);
    d = conv(F32);
    d.epilogue.residual = d.y;
    check(d, 2e-6, {.max_plans = 2, .tensor_cores = false});
}

KN_GPU_TEST(GpuCudnn, BiasThenResidualIsTheSameSum) {
    ConvDesc d = conv(F16);
    d.epilogue.residual = d.y;
    d.epilogue.bias_first = true;
    check(d, 2e-3, {.max_plans = 1});
}

KN_GPU_TEST(GpuCudnn, RuntimeFusedActivations) {
    for (Activation a : {Activation::Swish, Activation::Gelu}) {
        ConvDesc d = conv(F16);
        d.epilogue.activation = a;
        check(d, 2e-3, {.max_plans = 1});
    }
}

KN_GPU_TEST(GpuCudnn, DilatedGroupedConv) {
    check(ConvDesc{.x = channels_last(F16, {1, 32, 12, 12}),
                   .w = channels_last(F16, {32, 8, 3, 3}),
                   .y = channels_last(F16, {1, 32, 8, 8}),
                   .dilation = {2, 2}},
          2e-3);
}

KN_GPU_TEST(GpuCudnn, OneAndThreeSpatialDimensions) {
    check(ConvDesc{.x = dense(F32, {2, 8, 33}),
                   .w = dense(F32, {16, 8, 5}),
                   .y = dense(F32, {2, 16, 17}),
                   .pad_before = {2},
                   .pad_after = {2},
                   .stride = {2}},
          2e-6, {.max_plans = 2, .tensor_cores = false});
    check(ConvDesc{.x = channels_last(F16, {1, 8, 6, 6, 6}),
                   .w = channels_last(F16, {16, 8, 3, 3, 3}),
                   .y = channels_last(F16, {1, 16, 4, 4, 4})},
          2e-3, {.max_plans = 2});
}

KN_GPU_TEST(GpuCudnn, TransposedConv) {
    ConvTransposeDesc d{.x = channels_last(F16, {2, 16, 5, 7}),
                        .w = channels_last(F16, {16, 8, 3, 3}),
                        .y = channels_last(F16, {2, 8, 9, 13}),
                        .pad_before = {1, 1},
                        .pad_after = {1, 1},
                        .stride = {2, 2}};
    check(d, 2e-3);
    for (TensorDesc* t : {&d.x, &d.w, &d.y}) *t = channels_last(F32, t->dims);
    check(d, 2e-6, {.max_plans = 2, .tensor_cores = false});
}

KN_GPU_TEST(GpuCudnn, Pooling) {
    for (auto mode : {Pooling::Max, Pooling::Average, Pooling::AverageWithPadding})
        check(PoolDesc{.x = channels_last(F16, {2, 16, 10, 10}),
                       .y = channels_last(F16, {2, 16, 5, 5}),
                       .mode = mode,
                       .window = {3, 3},
                       .pad_before = {1, 1},
                       .pad_after = {0, 0},
                       .stride = {2, 2}},
              1e-3, {.max_plans = 1});
}

KN_GPU_TEST(GpuCudnn, MatmulWithErfGeluAndResidual) {
    CudnnMatmulDesc d{
        .a = dense(F16, {2, 32, 64}), .b = dense(F16, {1, 64, 48}), .y = dense(F16, {2, 32, 48})};
    d.epilogue.bias = dense(F16, {1, 1, 48});
    d.epilogue.activation = Activation::Gelu;
    check(d, 2e-3, {.max_plans = 1});
    d.epilogue.residual = d.y;
    check(d, 2e-3, {.max_plans = 1});
}

KN_GPU_TEST(GpuCudnn, AttentionWithMasks) {
    check(attention(4, 77), 3e-3, {.max_plans = 2});
    SdpaDesc d = attention(2, 64);  // grouped heads
    d.causal = CausalMask::BottomRight;
    check(d, 3e-3, {.max_plans = 1});
    d = attention(4, 48);
    d.causal = CausalMask::TopLeft;
    d.bias = dense(F16, {1, 4, 48, 48});
    check(d, 3e-3, {.max_plans = 1});
    d = attention(1, 64);
    d.scale = 0.25f;
    d.sequence_lengths = true;
    check(d, 3e-3, {.max_plans = 1});
}

KN_GPU_TEST(GpuCudnn, AttentionInStridedRows) {
    // [batch, row, head, depth] in memory.
    TensorDesc t = dense(F16, {2, 4, 48, 64});
    t.strides = {4 * 48 * 64, 64, 4 * 64, 1};
    check(SdpaDesc{.q = t, .k = t, .v = t, .o = t}, 3e-3, {.max_plans = 1});
}

KN_GPU_TEST(GpuCudnn, StoredPlansComputeTheSame) {
    SdpaDesc sdpa = attention(4, 64);
    for (const CudnnProblem& problem : {CudnnProblem(sdpa), CudnnProblem(conv(F16))}) {
        const DeviceProperties& device = Device(0).properties();
        auto inputs = random_inputs(problem);
        CudnnPlan plan = plan_candidates(problem, device, {.max_plans = 1}).at(0);
        CudnnPlan loaded = load_plan(problem, device, plan.serialize());
        EXPECT_EQ(run(loaded, problem, inputs, false), run(plan, problem, inputs, true));
    }
}

// What was planned for the described H200 runs on a real one.
KN_GPU_TEST(GpuCudnn, PlansOfTheFixtureRun) {
    if (Device(0).properties().name != h200().name) return;
    auto inputs = random_inputs(conv(F16));
    auto plan = plan_candidates(conv(F16), h200(), {.max_plans = 1}).at(0);
    EXPECT_LT(
        relative_to_peak(run(plan, conv(F16), inputs, false), reference_of(conv(F16), inputs)),
        2e-3);
}

KN_GPU_TEST(GpuCudnn, MistakesAreNamed) {
    Stream stream{Device(0)};
    CudnnHandle handle{Device(0)};
    auto plan = plan_candidates(conv(F16), Device(0).properties(), {.max_plans = 1}).at(0);
    DeviceBuffer<std::byte> memory(Device(0), std::max<std::size_t>(plan.workspace_bytes(), 4096));
    std::vector<void*> addresses(4, memory.data());
    auto run_with = [&](std::vector<void*> a, DeviceSpan<std::byte> workspace) {
        plan.run(handle, stream, a, workspace);
    };
    EXPECT_THROW(run_with({addresses[0]}, memory.span()), Error);
    addresses[2] = nullptr;
    EXPECT_THROW(run_with(addresses, memory.span()), Error);
    addresses[2] = memory.data() + 2;
    EXPECT_THROW(run_with(addresses, memory.span()), Error);
    std::size_t short_by_one = plan.workspace_bytes() - 1;
    if (plan.workspace_bytes() > 0) {
        EXPECT_THROW(
            run_with(std::vector<void*>(4, memory.data()), memory.span().subspan(0, short_by_one)),
            Error);
    }
}
