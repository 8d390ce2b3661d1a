// What moves elements, over dtypes of every size, alone and between arithmetic; bits must be equal.
#include "cuda_eval/parity/parity.h"

namespace kn::test {
namespace {

class ParityMovement : public ::testing::TestWithParam<DType> {};

TEST_P(ParityMovement, Views) {
    Parity p;
    const Var x = p.input(GetParam(), {4, 6, 5, 8});
    p.output(permute(x, {3, 1, 0, 2}), Loses::Nothing);
    p.output(permute(x, {0, 2, 3, 1}), Loses::Nothing);
    p.output(reshape(permute(x, {1, 0, 2, 3}), {24, 40}), Loses::Nothing);
    p.output(reshape(x, {2, 2, 3, 2, 40}), Loses::Nothing);
    p.output(flip(flip(x, 1), 3), Loses::Nothing);
    p.output(slice(x, 3, 7, -1, -2), Loses::Nothing);
    p.output(slice(slice(x, 2, 1, 5, 2), 0, 1, 4), Loses::Nothing);
    p.output(broadcast_to(slice(x, 1, 2, 3), {3, 4, 6, 5, 8}), Loses::Nothing);
    p.output(window(x, {2, 3}, {2, 3}, {1, 2}, {2, 1}), Loses::Nothing);
    p.output(x, Loses::Nothing);
    p.check();
}

TEST_P(ParityMovement, Copies) {
    Parity p;
    const DType dtype = GetParam();
    const Var x = p.input(dtype, {3, 5, 7}), y = p.input(dtype, {3, 2, 7}),
              z = p.input(dtype, {3, 5, 7});
    p.output(concat({x, y, flip(x, 1)}, 1), Loses::Nothing);
    p.output(concat({x, z}, 2), Loses::Nothing);
    p.output(concat({permute(x, {0, 2, 1}), permute(z, {0, 2, 1})}, 0), Loses::Nothing);
    p.output(tile(x, {2, 1, 3}), Loses::Nothing);
    if (dtype != DType::Bool) {
        p.output(pad(x, {0, 1, 2}, {1, 0, 3}, 7.0), Loses::Nothing);
        p.output(pad(x, {0, 1, -2}, {1, -1, 3}, 1.0), Loses::Nothing);
    }
    for (const PadMode mode : {PadMode::Reflect, PadMode::Edge, PadMode::Wrap})
        p.output(pad(x, {0, 2, 3}, {1, 1, 2}, mode), Loses::Nothing);
    p.check();
}

TEST_P(ParityMovement, Gathers) {
    Parity p;
    const DType dtype = GetParam();
    const Var x = p.input(dtype, {6, 9, 4}), last = p.input(DType::I64, {3, 2}, Fill::Index, 9),
              first = p.input(DType::I32, {5}, Fill::Index, 6);
    const Var backwards = last - scalar_like(last, 9);
    p.output(gather(x, last, 1), Loses::Nothing);
    p.output(gather(x, backwards, 1), Loses::Nothing);
    p.output(gather(x, first, 0), Loses::Nothing);
    p.output(gather(permute(x, {2, 0, 1}), last, 2), Loses::Nothing);
    p.output(gather_elements(x, p.input(DType::I64, {6, 3, 4}, Fill::Index, 9), 1), Loses::Nothing);
    p.output(p.graph.var(
                 p.graph.add(op::GatherNd{x, p.input(DType::I64, {6, 2, 1}, Fill::Index, 9), 1})),
             Loses::Nothing);
    p.check();
}

// Distinct targets and, for the sums, repeated ones.
TEST_P(ParityMovement, Scatters) {
    Parity p;
    const DType dtype = GetParam();
    if (dtype == DType::Bool) return;
    const Var x = p.input(dtype, {5, 8}), updates = p.input(dtype, {3, 8});
    const Var rows = p.input(DType::I64, {3, 8}, Fill::Index, 5);
    for (const ScatterReduction reduction : {ScatterReduction::None, ScatterReduction::Add,
                                             ScatterReduction::Max, ScatterReduction::Min})
        p.output(p.graph.var(p.graph.add(op::ScatterElements{x, rows, updates, 0, reduction})),
                 reduction == ScatterReduction::Add ? Loses::Sum : Loses::Nothing);
    const Var places = p.input(DType::I64, {4, 1}, Fill::Index, 5);
    for (const ScatterReduction reduction : {ScatterReduction::None, ScatterReduction::Add})
        p.output(
            p.graph.var(p.graph.add(op::ScatterNd{x, places, p.input(dtype, {4, 8}), reduction})),
            reduction == ScatterReduction::Add ? Loses::Sum : Loses::Nothing);
    p.check();
}

// Arithmetic in front of and behind every kind of movement, so that it is fused.
TEST_P(ParityMovement, BetweenArithmetic) {
    Parity p;
    const DType dtype = GetParam();
    if (!is_float(dtype)) return;
    const Var x = p.input(dtype, {4, 6, 10}), y = p.input(dtype, {4, 10, 6});
    p.output(permute(x * 2.0, {0, 2, 1}) + y, Loses::Rounding);
    p.output(concat({x + 1.0, permute(y, {0, 2, 1}) * 3.0}, 1) - 0.5, Loses::Rounding);
    p.output(pad(x - 1.0, {0, 1, 1}, {0, 1, 1}) * pad(x, {0, 1, 1}, {0, 1, 1}, PadMode::Edge),
             Loses::Rounding);
    p.output(gather(x + 1.0, p.input(DType::I64, {3}, Fill::Index, 10), 2) * 0.5, Loses::Rounding);
    p.output(reshape(flip(x, 0) * 2.0, {24, 10}) + reshape(permute(y, {0, 2, 1}), {24, 10}),
             Loses::Rounding);
    p.check();
}

INSTANTIATE_TEST_SUITE_P(Types, ParityMovement,
                         ::testing::Values(DType::F32, DType::F16, DType::F64, DType::I8,
                                           DType::I64, DType::Bool),
                         [](const auto& test) { return std::string(name_of(test.param)); });

}  // namespace
}  // namespace kn::test
