// Small plans written by hand: what the executor runs does not depend on who planned it.
#pragma once

#include <kn/cuda_eval/plan.h>
#include <kn/graph/builder.h>

#include "cuda_eval/plan/support.h"

namespace kn::test {

inline cuda::TensorRef row_major(std::uint32_t buffer, DType dtype, const Ints& shape) {
    cuda::TensorRef ref{buffer, 0, dtype, shape, Ints(shape.size(), 1)};
    for (std::size_t i = shape.size(); i-- > 1;) ref.strides[i - 1] = ref.strides[i] * shape[i];
    return ref;
}

inline cuda::Buffer buffer(cuda::Buffer::Kind kind, std::size_t bytes, std::size_t index,
                           std::string name) {
    cuda::Buffer b;
    b.kind = kind;
    b.bytes = bytes;
    b.index = index;
    b.name = std::move(name);
    return b;
}

inline constexpr const char* affine_source = R"(
extern "C" __global__ void kn_affine(const float* x, const float* w, float* y, long long n,
                                     long long factor) {
    long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (i < n) y[i] = x[i] * w[i] * (float)factor;
})";

/// y = 3 (2 x w) by two kernel launches with a buffer between; x, w, y are f32[size].
inline cuda::Plan affine_plan(const cuda::DeviceProperties& device, std::int64_t size,
                              const Tensor& weight) {
    using Kind = cuda::Buffer::Kind;
    Graph graph;
    const Var x = graph.input("x", DType::F32, {size});
    const Var w = graph.constant(weight, "w");
    const Var middle = x * w;
    const Var y = middle * w;
    graph.output("y", y);
    cuda::Plan plan;
    const auto data = graph.get_if<op::Constant>(w)->data;
    plan.graph = std::make_shared<const Graph>(std::move(graph));
    plan.device = device;
    const auto bytes = static_cast<std::size_t>(size) * 4;
    plan.buffers = {buffer(Kind::Input, bytes, 0, "x"), buffer(Kind::Constant, bytes, 0, "w"),
                    buffer(Kind::Arena, bytes, 0, "middle"), buffer(Kind::Output, bytes, 0, "y")};
    plan.constants = {{{data}, 0, DType::F32, {0}}};
    plan.kernels = {{"kn_affine", affine_source, {}}};
    const auto ref = [&](std::uint32_t b) { return row_major(b, DType::F32, {size}); };
    const auto step = [&](std::uint32_t from, std::uint32_t to, std::int64_t factor, Value value) {
        cuda::Step s;
        s.name = "affine";
        cuda::KernelWork work;
        work.grid.x = static_cast<unsigned>((size + 127) / 128);
        work.block.x = 128;
        work.scalars = {size, factor};
        s.work = work;
        s.operands = {{ref(from), cuda::Access::Read, "x"},
                      {ref(1), cuda::Access::Read, "w"},
                      {ref(to), cuda::Access::Write, "y"}};
        s.produces = {value};
        return s;
    };
    plan.steps = {step(0, 2, 2, middle), step(2, 3, 3, y)};
    plan.inputs = {ref(0)};
    plan.outputs = {ref(3)};
    plan.stored = {{x, ref(0)}, {middle, ref(2)}, {y, ref(3)}};
    plan.arena_bytes = (bytes + 255) / 256 * 256;
    plan.constant_bytes = bytes;
    return plan;
}

inline constexpr const char* rotate_source = R"(
extern "C" __global__ void kn_rotate(const int* x, int* y, long long n) {
    long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (i < n) y[i] = x[(i * 7 + 1) % n] + 1;
})";

/// `count` steps over i32[size], each of which reads what all blocks of the one before it wrote,
/// and writes what the one before that read: y[i] = x[index(i)] + count.
inline cuda::Plan rotate_plan(const cuda::DeviceProperties& device, std::int64_t size,
                              std::size_t count) {
    using Kind = cuda::Buffer::Kind;
    Graph graph;
    const Var x = graph.input("x", DType::I32, {size});
    const Var y = -x;
    graph.output("y", y);
    cuda::Plan plan;
    plan.graph = std::make_shared<const Graph>(std::move(graph));
    plan.device = device;
    const auto bytes = static_cast<std::size_t>(size) * 4;
    plan.buffers = {buffer(Kind::Input, bytes, 0, "x"), buffer(Kind::Output, bytes, 0, "y"),
                    buffer(Kind::Arena, bytes, 0, "even"), buffer(Kind::Arena, bytes, 0, "odd")};
    plan.arena_bytes = 2 * ((bytes + 255) / 256 * 256);
    plan.buffers[3].offset = plan.arena_bytes / 2;
    plan.kernels = {{"kn_rotate", rotate_source, {}}};
    const auto ref = [&](std::size_t b) {
        return row_major(static_cast<std::uint32_t>(b), DType::I32, {size});
    };
    for (std::size_t i = 0; i < count; i++) {
        cuda::Step s;
        s.name = "rotate";
        cuda::KernelWork work;
        work.grid.x = static_cast<unsigned>((size + 127) / 128);
        work.block.x = 128;
        work.scalars = {size};
        s.work = work;
        s.operands = {{ref(i == 0 ? 0 : 2 + i % 2), cuda::Access::Read, "x"},
                      {ref(i + 1 == count ? 1 : 2 + (i + 1) % 2), cuda::Access::Write, "y"}};
        plan.steps.push_back(s);
    }
    plan.inputs = {ref(0)};
    plan.outputs = {ref(1)};
    return plan;
}

}  // namespace kn::test
