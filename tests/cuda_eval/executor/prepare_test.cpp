// What the executor does before it touches a device.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <numeric>

#include <kn/cuda_sys/nvrtc.h>
#include <kn/graph/random.h>

#include "executor/algorithms.h"
#include "executor/constants.h"
#include "executor/fastest_overlap.h"
#include "executor/kernels.h"
#include "executor/laid_out.h"
#include "executor/launch.h"
#include "executor/overlap.h"
#include "executor/state.h"
#include "executor/strided.h"
#include "hand_plans.h"

namespace kn::cuda {
namespace {

Tensor counting(const Ints& shape) {
    Tensor out(DType::F32, shape);
    auto data = out.mutable_data<float>();
    std::iota(data.begin(), data.end(), 0.0f);
    return out;
}

std::shared_ptr<const ConstantData> constant(Tensor tensor) {
    return std::make_shared<const ConstantData>(ConstantData{std::move(tensor), "w", {}, false});
}

// All rows, of the physical shape, in pieces of `step`.
Tensor lay_out(const PlanConstant& constant, std::int64_t step = 1 << 30) {
    const LaidOut laid_out(constant);
    Ints shape;
    for (std::size_t i = 0; i < constant.shape().size(); i++)
        shape.push_back(
            constant
                .shape()[constant.order.empty() ? i : static_cast<std::size_t>(constant.order[i])]);
    Tensor out(constant.dtype, shape);
    const auto bytes = out.mutable_bytes();
    if (bytes.empty()) return out;
    EXPECT_EQ(bytes.size(), static_cast<std::size_t>(laid_out.rows()) * laid_out.row_bytes());
    for (std::int64_t at = 0; at < laid_out.rows(); at += step)
        laid_out.write(at, std::min(laid_out.rows(), at + step),
                       bytes.data() + static_cast<std::size_t>(at) * laid_out.row_bytes());
    return out;
}

TEST(LayOut, PermutesAxes) {
    const auto data = constant(counting({2, 3, 4, 5}));
    const Tensor out = lay_out({{data}, 0, DType::F32, {0, 2, 3, 1}});
    ASSERT_EQ(out.shape(), (Ints{2, 4, 5, 3}));
    std::int64_t i = 0;
    for (int a = 0; a < 2; a++)
        for (int c = 0; c < 4; c++)
            for (int d = 0; d < 5; d++)
                for (int b = 0; b < 3; b++) ASSERT_EQ(out.at(i++), ((a * 3 + b) * 4 + c) * 5 + d);
}

TEST(LayOut, Converts) {
    const auto data = constant(counting({2, 3}));
    EXPECT_EQ(lay_out({{data}, 0, DType::F32, {0, 1}}).at(4), 4);
    const Tensor half = lay_out({{data}, 0, DType::F16, {1, 0}});
    EXPECT_EQ(half.dtype(), DType::F16);
    EXPECT_EQ(half.at(1), 3);
    EXPECT_EQ(half.at(5), 5);
    EXPECT_EQ(lay_out({{constant(Tensor(DType::I64, {0, 4}))}, 0, DType::I32, {1, 0}}).shape(),
              (Ints{4, 0}));
    EXPECT_EQ(lay_out({{constant(Tensor::scalar(2.5f))}, 0, DType::F64, {}}).at(0), 2.5);
    EXPECT_THROW(lay_out({{data}, 0, DType::F32, {0}}), InternalError);
}

TEST(LayOut, JoinsParts) {
    const auto a = constant(counting({2, 2})), b = constant(counting({2, 1}));
    const Tensor out = lay_out({{a, b}, 1, DType::F32, {0, 1}});
    ASSERT_EQ(out.shape(), (Ints{2, 3}));
    const auto data = out.data<float>();
    EXPECT_EQ(std::vector<float>(data.begin(), data.end()), (std::vector<float>{0, 1, 0, 2, 3, 1}));
    const Tensor turned = lay_out({{a, b}, 1, DType::I32, {1, 0}});
    ASSERT_EQ(turned.shape(), (Ints{3, 2}));
    EXPECT_EQ(turned.at(4), 0);
    EXPECT_EQ(turned.at(5), 1);
    EXPECT_EQ(device_bytes({{a, b}, 1, DType::I32, {1, 0}}), 256u);
}

// Against an independent walk over all indices: any order, joined axis and cut into pieces.
TEST(LayOut, EqualsAWalkOverIndices) {
    Random random(3);
    const auto between = [&](std::int64_t low, std::int64_t high) {
        return low + static_cast<std::int64_t>(random.bits() %
                                               static_cast<std::uint64_t>(high - low + 1));
    };
    for (int round = 0; round < 200; round++) {
        const std::size_t rank = 1 + static_cast<std::size_t>(round % 5);
        Ints shape, order;
        for (std::size_t i = 0; i < rank; i++) {
            shape.push_back(between(1, rank < 3 ? 70 : 7));
            order.insert(order.begin() + between(0, static_cast<std::int64_t>(i)),
                         static_cast<std::int64_t>(i));
        }
        PlanConstant all{{}, between(0, static_cast<std::int64_t>(rank) - 1), DType::F16, order};
        const auto axis = static_cast<std::size_t>(all.axis);
        std::vector<Tensor> parts;
        for (int p = 0; p < 1 + round % 3; p++) {
            shape[axis] = between(1, 9);
            parts.push_back(random_tensor(DType::F32, shape, random));
            auto cast = std::make_shared<ConstantData>();
            cast->tensor = parts.back().cast_later(DType::F16);
            if (round % 2)
                cast->recipe = std::make_shared<const ConstantData::Recipe>(ConstantData::Recipe{
                    op::Cast{Value{0, 0}, DType::F16}, {constant(parts.back())}});
            all.parts.push_back(cast);
        }
        const Tensor got = lay_out(all, between(1, 5));
        const Ints whole = all.shape();
        Ints at(rank, 0);
        for (std::int64_t i = 0; i < got.size(); i++) {
            std::int64_t rest = i;
            for (std::size_t k = rank; k-- > 0;) {
                const auto a = static_cast<std::size_t>(order[k]);
                at[a] = rest % whole[a];
                rest /= whole[a];
            }
            std::size_t part = 0;
            Ints inside = at;
            while (inside[axis] >= parts[part].shape()[axis])
                inside[axis] -= parts[part++].shape()[axis];
            std::int64_t index = 0;
            for (std::size_t a = 0; a < rank; a++)
                index = index * parts[part].shape()[a] + inside[a];
            ASSERT_EQ(got.at(i), parts[part].cast(DType::F16).at(index))
                << "round " << round << ", element " << i;
        }
    }
}

TEST(GatherStrided, TakesAnyStrides) {
    const Tensor source = counting({24});
    const auto gather = [&](std::int64_t offset, const Ints& shape, const Ints& strides) {
        Tensor out(DType::F32, shape);
        gather_strided(source.bytes().data() + offset * 4, out.mutable_bytes().data(), 4, shape,
                       strides);
        const auto data = out.data<float>();
        return std::vector<float>(data.begin(), data.end());
    };
    EXPECT_EQ(gather(5, {2, 3}, {-1, 0}), (std::vector<float>{5, 5, 5, 4, 4, 4}));
    EXPECT_EQ(gather(0, {2, 2, 2}, {1, 12, 4}), (std::vector<float>{0, 4, 12, 16, 1, 5, 13, 17}));
    EXPECT_EQ(gather(7, {}, {}), std::vector<float>{7});
    EXPECT_TRUE(gather(0, {3, 0}, {1, 1}).empty());
}

TEST(Staging, PutsInputsBeforeOutputs) {
    const Plan plan = test::affine_plan(test::h200(), 100, counting({100}));
    const Staging staging = lay_out_staging(plan);
    EXPECT_EQ(staging.inputs, std::vector<std::size_t>{0});
    EXPECT_EQ(staging.outputs, std::vector<std::size_t>{512});
    EXPECT_EQ(staging.input_bytes, 512u);
    EXPECT_EQ(staging.bytes, 1024u);
}

TEST(Addresses, FollowTheKindsOfBuffers) {
    Plan plan = test::affine_plan(test::h200(), 100, counting({100}));
    plan.buffers[2].offset = 256;
    std::byte memory[4096];
    const auto weight = std::make_shared<DeviceConstant>();
    weight->address = memory + 1024;
    std::byte *input = memory + 2048, *output = memory + 3072;
    const auto addresses = buffer_addresses(plan, memory, {weight}, {&input, 1}, {&output, 1});
    EXPECT_EQ(addresses, (std::vector<std::byte*>{input, memory + 1024, memory + 256, output}));
    EXPECT_THROW(buffer_addresses(plan, memory, {}, {&input, 1}, {&output, 1}), InternalError);
}

TEST(Addresses, CountOffsetsInBytes) {
    Step step;
    step.operands = {{{3, 5, DType::F16, {2}, {1}}, Access::Read, "x"},
                     {{1, 0, DType::I64, {2}, {-1}}, Access::Write, "y"}};
    step.operands[1].tensor.offset = 1;
    const auto addresses = operand_addresses(step);
    EXPECT_EQ(addresses[0].buffer, 3u);
    EXPECT_EQ(addresses[0].bytes, 10);
    EXPECT_EQ(addresses[1].bytes, 8);
}

Step matmul_step(bool bias, double beta, std::int64_t workspace) {
    MatMulWork work;
    work.desc = {.m = 4, .n = 8, .k = 16};
    work.desc.bias = bias;
    work.beta = beta;
    Step step;
    step.work = work;
    const std::size_t count = 3 + (bias ? 1 : 0) + (beta != 0 ? 1 : 0);
    for (std::size_t i = 0; i < count; i++)
        step.operands.push_back({test::row_major(0, DType::F32, {4}), Access::Read, ""});
    if (workspace > 0)
        step.operands.push_back({test::row_major(0, DType::U8, {workspace}), Access::Scratch, ""});
    return step;
}

TEST(MatmulSlots, FollowTheOrderOfOperands) {
    const MatmulSlots plain = matmul_slots(matmul_step(false, 0, 0));
    EXPECT_EQ(plain.d, 2);
    EXPECT_EQ(plain.c, -1);
    EXPECT_EQ(plain.workspace, -1);
    const MatmulSlots all = matmul_slots(matmul_step(true, 1, 1 << 20));
    EXPECT_EQ(all.c, 2);
    EXPECT_EQ(all.bias, 3);
    EXPECT_EQ(all.d, 4);
    EXPECT_EQ(all.workspace, 5);
    EXPECT_EQ(workspace_bytes(matmul_step(true, 1, 1 << 20)), std::size_t{1} << 20);
    Step empty = matmul_step(false, 0, 1);
    empty.operands.back().tensor.shape = {0};
    EXPECT_EQ(matmul_slots(empty).workspace, 3);
    EXPECT_EQ(workspace_bytes(empty), 0u);
    Step wrong = matmul_step(true, 1, 0);
    wrong.operands.pop_back();
    EXPECT_THROW(matmul_slots(wrong), InternalError);
}

TEST(ChoiceKey, HoldsEverythingTheChoiceDependsOn) {
    const DeviceProperties device = test::h200();
    std::vector<std::string> keys = {choice_key(matmul_step(false, 0, 0), device),
                                     choice_key(matmul_step(true, 0, 0), device),
                                     choice_key(matmul_step(false, 1, 0), device),
                                     choice_key(matmul_step(false, 0, 64), device)};
    const auto changed = [&](auto change) {
        Step step = matmul_step(false, 0, 0);
        change(std::get<MatMulWork>(step.work).desc);
        keys.push_back(choice_key(step, device));
    };
    changed([](MatmulDesc& d) { d.m++; });
    changed([](MatmulDesc& d) { d.transpose_a = true; });
    changed([](MatmulDesc& d) { d.transpose_b = true; });
    changed([](MatmulDesc& d) { d.a_type = DataType::F16; });
    changed([](MatmulDesc& d) { d.d_type = DataType::F16; });
    changed([](MatmulDesc& d) { d.compute = MatmulCompute::Tf32; });
    changed([](MatmulDesc& d) { d.epilogue = MatmulEpilogue::Relu; });
    changed([](MatmulDesc& d) { d.ldd = 9; });
    changed([](MatmulDesc& d) { d.batch = 2; });
    changed([](MatmulDesc& d) { d.stride_b = 5; });
    changed([](MatmulDesc& d) { d.alignment = 16; });
    DeviceProperties other = device;
    other.name = "another";
    keys.push_back(choice_key(matmul_step(false, 0, 0), other));
    CudnnWork conv{ConvDesc{.x = channels_last(DataType::F16, {1, 8, 4, 4}),
                            .w = channels_last(DataType::F16, {8, 8, 1, 1}),
                            .y = channels_last(DataType::F16, {1, 8, 4, 4})},
                   true};
    Step step;
    step.work = conv;
    keys.push_back(choice_key(step, device));
    conv.tensor_cores = false;
    step.work = conv;
    keys.push_back(choice_key(step, device));
    std::ranges::sort(keys);
    EXPECT_EQ(std::ranges::adjacent_find(keys), keys.end());
    step.work = ClearWork{};
    EXPECT_EQ(choice_key(step, device), "");
}

std::vector<PlanKernel> kernels(int count, const std::string& prelude) {
    std::vector<PlanKernel> list;
    for (int i = 0; i < count; i++)
        list.push_back({"kn_same_name",
                        prelude + "__device__ float helper(float x) { return x + " +
                            std::to_string(i) +
                            "; }\nextern \"C\" __global__ void kn_same_name(float* x) {"
                            " x[threadIdx.x] = helper(shared_helper(x[threadIdx.x])); }",
                        {}});
    return list;
}

bool holds(const CompiledKernel& kernel) {
    const std::string_view image(reinterpret_cast<const char*>(kernel.image->data()),
                                 kernel.image->size());
    return image.find(kernel.name) != image.npos;
}

const std::string shared_prelude = "__device__ float shared_helper(float x) { return 2 * x; }\n";

TEST(CompileKernels, SharesPrograms) {
    auto list = kernels(5, shared_prelude);
    list.push_back(list[0]);
    list.push_back({"kn_other", "extern \"C\" __global__ void kn_other() {}", {}});
    const auto compiled = compile_kernels(
        list, {.prelude = shared_prelude, .kernels_a_program = 4, .few_kernels = 0});
    ASSERT_EQ(compiled.size(), 7u);
    for (const CompiledKernel& kernel : compiled) EXPECT_TRUE(holds(kernel)) << kernel.name;
    EXPECT_EQ(compiled[0].image, compiled[3].image);
    EXPECT_NE(compiled[0].image, compiled[4].image);
    EXPECT_NE(compiled[0].name, compiled[1].name);
    EXPECT_EQ(compiled[0].name, compiled[5].name);
    EXPECT_NE(compiled[6].image, compiled[0].image);
    EXPECT_TRUE(compiled[6].name.starts_with("kn_other_"));
}

TEST(Overlap, PutsTheWaitFirst) {
    const PlanKernel kernel{"kn_k",
                            "// kn_k is\n#define KERNEL(a) a\nKN_KERNEL __launch_bounds__(32)\n "
                            "kn_k (int (&a)(int), float* b)\n{ b[0] = 1; }",
                            {}};
    const std::string source = with_wait(kernel).source;
    EXPECT_NE(source.find("float* b)\n{\n    asm volatile(\"griddepcontrol.wait;"),
              std::string::npos)
        << source;
    EXPECT_GT(source.find("b[0] = 1"), source.find("launch_dependents"));
    EXPECT_THROW(with_wait({"kn_other", kernel.source, {}}), InternalError);
    EXPECT_EQ(compile_kernels({with_wait({"kn_affine", test::affine_source, {}})}, {}).size(), 1u);
    const Plan plan = test::affine_plan(test::h200(), 100, counting({100}));
    EXPECT_FALSE(may_overlap(plan, 0, Overlap::All));
    EXPECT_FALSE(may_overlap(plan, 1, Overlap::None));
    EXPECT_TRUE(may_overlap(plan, 1, Overlap::Own));
    Plan other = plan;
    other.steps[0].work = MatMulWork{};
    EXPECT_FALSE(may_overlap(other, 1, Overlap::Own));
    EXPECT_TRUE(may_overlap(other, 1, Overlap::All));
    other.steps[0].work = ClearWork{};
    EXPECT_FALSE(may_overlap(other, 1, Overlap::All));
    other.steps[1].work = MatMulWork{};
    EXPECT_FALSE(may_overlap(other, 1, Overlap::All));
}

TEST(Overlap, TakesTheFastestThatGains) {
    using Times = std::vector<std::pair<Overlap, std::vector<double>>>;
    const auto fastest = [](Times times) { return fastest_overlap(std::move(times)); };
    EXPECT_EQ(fastest({{Overlap::None, {3, 9, 2}}, {Overlap::Own, {2.9, 2.8, 9}}}), Overlap::Own);
    EXPECT_EQ(fastest({{Overlap::None, {3}}, {Overlap::Own, {2.99}}}), Overlap::None);
    EXPECT_EQ(fastest({{Overlap::None, {3}}, {Overlap::Own, {2.5}}, {Overlap::All, {2}}}),
              Overlap::All);
    EXPECT_EQ(fastest({}), Overlap::None);
    for (const Overlap overlap : {Overlap::None, Overlap::Own, Overlap::All})
        EXPECT_EQ(parse_overlap(name_of(overlap)), overlap);
    EXPECT_EQ(parse_overlap("timed"), std::nullopt);
    EXPECT_EQ(parse_overlap(""), std::nullopt);
}

// Another order of steps is another answer; what makes no difference is not timed.
TEST(Overlap, IsAskedOncePerChainOfSteps) {
    const Plan plan = test::affine_plan(test::h200(), 100, counting({100}));
    EXPECT_EQ(overlaps_to_try(plan), (std::vector{Overlap::None, Overlap::Own}));
    Plan other = plan;
    other.steps[0].work = ClearWork{};
    EXPECT_EQ(overlaps_to_try(other), std::vector{Overlap::None});
    EXPECT_EQ(overlap_key(plan, test::h200()), overlap_key(plan, test::h200()));
    EXPECT_NE(overlap_key(plan, test::h200()), overlap_key(other, test::h200()));
}

TEST(CompileKernels, NamesTheKernelAtFault) {
    auto list = kernels(3, shared_prelude);
    list[1].source += "\nextern \"C\" __global__ void kn_broken() { no_such_function(); }";
    try {
        compile_kernels(list, {.prelude = shared_prelude});
        FAIL();
    } catch (const CompileError& error) {
        EXPECT_NE(std::string(error.what()).find("no_such_function"), std::string::npos);
        EXPECT_EQ(error.numbered_source().find("return x + 2"), std::string::npos);
    }
}

TEST(CompileKernels, ComeFromTheCache) {
    const auto folder =
        std::filesystem::temp_directory_path() / ("kn-kernels-test-" + std::to_string(::getpid()));
    DiskCache cache(folder, 1 << 30);
    const CompileSetup setup{.prelude = shared_prelude, .cache = &cache};
    const auto list = kernels(4, shared_prelude);
    const auto first = compile_kernels({list[0], list[1], list[2]}, setup);
    const auto second = compile_kernels(list, setup);
    for (std::size_t i = 0; i < 3; i++) {
        EXPECT_FALSE(first[i].from_cache);
        EXPECT_TRUE(second[i].from_cache);
        EXPECT_EQ(first[i].name, second[i].name);
        EXPECT_EQ(*first[i].image, *second[i].image);
    }
    EXPECT_FALSE(second[3].from_cache);
    auto other_flags = list[0];
    other_flags.flags = {"--use_fast_math"};
    EXPECT_FALSE(compile_kernels({other_flags}, setup)[0].from_cache);
    CompileSetup other_arch = setup;
    other_arch.arch = "sm_80";
    EXPECT_FALSE(compile_kernels({list[0]}, other_arch)[0].from_cache);
    std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace kn::cuda
