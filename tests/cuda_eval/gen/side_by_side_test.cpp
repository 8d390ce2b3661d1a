// Kernels of one kind stand in one program, each in a namespace: what one defines must not keep the
// other from having it.
#include <fmt/core.h>

#include <algorithm>

#include <kn/cuda_sys/nvrtc.h>

#include "check.h"
#include "codegen/emit.h"

namespace kn::test {

namespace {

void expect_side_by_side(const std::function<Var(Graph&, std::int64_t)>& build,
                         const std::string& step, Precision precision = Precision::F32) {
    std::string text = cuda::kernel_prelude();
    std::string arch = "sm_90";
    for (const std::int64_t size : {0, 1}) {
        Graph g;
        g.output("y", build(g, size));
        const cuda::Plan plan = cuda::plan(g, h200(), {.precision = precision});
        const auto found = std::ranges::find(plan.steps, step, &cuda::Step::name);
        ASSERT_NE(found, plan.steps.end()) << plan.to_string();
        const auto& work = std::get<cuda::KernelWork>(found->work);
        const cuda::PlanKernel& kernel = plan.kernels.at(work.kernel);
        ASSERT_TRUE(kernel.source.starts_with(cuda::kernel_prelude()));
        text += fmt::format("\nnamespace in_{} {{\n{}\n}}\n", size,
                            kernel.source.substr(cuda::kernel_prelude().size()));
        if (!kernel.arch.empty()) arch = kernel.arch;
    }
    EXPECT_NO_THROW(cuda::compile(text, {.arch = arch}));
}

TEST(KernelsSideBySide, RowsInParts) {
    expect_side_by_side(
        [](Graph& g, std::int64_t i) {
            return mean(g.input("x", DType::F32, Shape::of({2, 50000 + i})), {1});
        },
        "row_parts");
}

TEST(KernelsSideBySide, SmallProducts) {
    expect_side_by_side(
        [](Graph& g, std::int64_t i) {
            const Var x = g.input("x", DType::F32, Shape::of({3, 32}));
            return matmul(relu(matmul(x, weight(g, {32, 16}))), weight(g, {16, 32 + 4 * i}));
        },
        "products");
}

TEST(KernelsSideBySide, TensorCores) {
    for (const Precision precision : {Precision::F32, Precision::F16})
        expect_side_by_side(
            [](Graph& g, std::int64_t i) {
                const Var x = g.input("x", DType::F32, Shape::of({4096 + i, 128}));
                return gelu(matmul(x, weight(g, {128, 512})));
            },
            "tensor_product", precision);
}

TEST(KernelsSideBySide, Attention) {
    expect_side_by_side(
        [](Graph& g, std::int64_t i) {
            const Shape shape = Shape::of({2, 8, 4096 + i, 40});
            return attention(g.input("q", DType::F16, shape), g.input("k", DType::F16, shape),
                             g.input("v", DType::F16, shape));
        },
        "tensor_attention");
}

}  // namespace

}  // namespace kn::test
