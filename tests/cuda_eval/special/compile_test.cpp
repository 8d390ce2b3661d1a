// Every handwritten kernel, in the forms it takes, through the GPU's compiler.
#include "special_check.h"

namespace kn::cuda::test {
namespace {

TEST(SpecialKernels, Compile) {
    Case c;
    Graph& g = c.graph;
    int outputs = 0;
    const auto give = [&](Value y) { g.output("y" + std::to_string(outputs++), y); };
    for (const DType dtype : {DType::F32, DType::F16, DType::F64, DType::I64}) {
        const std::string name(name_of(dtype));
        const auto input = [&](const std::string& part, const Ints& shape, DType type) {
            return g.input(part + name, type, Shape::of(shape));
        };
        const Var x = input("x", {4, 6, 8, 6000}, dtype);
        const TopKResult top = top_k(x, 5, 1);
        give(top.values);
        give(top.indices);
        give(top_k(x, 5, 3, false).indices);
        give(g.add(op::Cumulative{ReduceOp::Sum, x, 1, true, false}));
        give(g.add(op::Cumulative{ReduceOp::Prod, x, 3, false, true}));
        const Var i = input("i", {3, 6000}, DType::I64);
        const Var flat = input("flat", {100}, dtype);
        const Var updates = input("updates", {3, 6000}, dtype);
        const Var row = input("row", {4, 6000}, dtype);
        for (const auto reduction :
             {ScatterReduction::None, ScatterReduction::Add, ScatterReduction::Max})
            give(g.add(op::ScatterElements{row, i, updates, 0, reduction}));
        const Var one = input("one", {6000, 1}, DType::I32);
        give(g.add(op::ScatterNd{flat, one, input("u", {6000}, dtype), ScatterReduction::Add}));
        give(g.add(op::ScatterNd{flat, one, input("v", {6000}, dtype), ScatterReduction::None}));
        const Var image = input("image", {2, 16, 9, 9}, dtype);
        give(conv(image, input("w", {12, 16, 3, 3}, dtype)));
        give(conv_transpose(image, input("t", {16, 12, 3, 3}, dtype)));
        if (!is_float(dtype)) continue;
        for (const std::int64_t width : {16, 320})
            for (const std::int64_t length : {dtype == DType::F16 ? 1 : 50}) {
                const Ints shape = {2, 4, length, width};
                const std::string of = std::to_string(width) + "_" + std::to_string(length);
                const Var k = input("k" + of, {2, 2, 77, width}, dtype);
                give(attention(input("q" + of, shape, dtype), k, k,
                               input("m" + of, {1, 1, length, 77}, DType::Bool)));
            }
        for (const std::int64_t length : {10, 100, 128, 5000})
            give(g.add(
                op::Dft{input("d" + std::to_string(length), {3, length, 2}, dtype), 1, true}));
        op::Recurrent cell{};
        cell.kind = CellKind::Lstm;
        cell.x = input("steps", {5, 300, 8}, dtype);
        cell.w = input("wi", {64, 8}, dtype);
        cell.r = input("wh", {64, 16}, dtype);
        cell.activations = {CellActivation::Sigmoid, CellActivation::Tanh, CellActivation::Elu};
        cell.alphas = cell.betas = {1, 1, 1};
        give(g.add(cell));
        cell.kind = CellKind::Gru;
        cell.w = input("vi", {48, 8}, dtype);
        cell.r = input("vh", {48, 16}, dtype);
        for (auto* list : {&cell.alphas, &cell.betas}) list->pop_back();
        cell.activations.pop_back();
        give(g.add(cell));
    }
    const Plan made = plan_without_libraries(g);
    EXPECT_GT(made.kernels.size(), 40u);
    expect_compiles(made);
}

}  // namespace
}  // namespace kn::cuda::test
