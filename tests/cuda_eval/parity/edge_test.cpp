// Sizes nobody plans for: nothing at all, one, very many elements; and what must stay as it is over
// many runs.
#include <unistd.h>

#include <algorithm>
#include <fstream>

#include <kn/cuda_eval/executor.h>
#include <kn/cuda_sys/device.h>

#include "cuda_eval/parity/parity.h"

namespace kn::test {
namespace {

TEST(ParityEdge, EmptyTensors) {
    Parity p;
    const Var none = p.input(DType::F32, {0, 5}), some = p.input(DType::F32, {3, 5}),
              empty_rows = p.input(DType::F32, {3, 0});
    p.output(none + 1.0, Loses::Nothing);
    p.output(concat({none, some, none}, 0), Loses::Nothing);
    p.output(sum(none, {0}), Loses::Nothing);
    p.output(sum(none, {1}), Loses::Nothing);
    p.output(reduce(ReduceOp::Max, empty_rows, {1}), Loses::Nothing);
    p.output(softmax(none, -1), Loses::Nothing);
    p.output(matmul(none, p.weight(DType::F32, {5, 4})), Loses::Nothing);
    p.output(matmul(empty_rows, p.input(DType::F32, {0, 4})), Loses::Nothing);
    p.output(relu(none), Loses::Nothing);
    p.check();
}

TEST(ParityEdge, GatherOfNothing) {
    Parity p;
    const Var x = p.input(DType::F32, {4, 6}), nobody = p.input(DType::I64, {0}, Fill::Index);
    p.output(gather(x, nobody, 0), Loses::Nothing);
    p.output(gather(x, nobody, 1) + 1.0, Loses::Nothing);
    p.output(sum(gather(x, nobody, 0), {0}), Loses::Nothing);
    p.output(p.graph.var(p.graph.add(
                 op::ScatterElements{x, p.input(DType::I64, {0, 6}, Fill::Index),
                                     p.input(DType::F32, {0, 6}), 0, ScatterReduction::Add})),
             Loses::Nothing);
    p.check();
}

TEST(ParityEdge, ScalarsAndSingleElements) {
    Parity p;
    const Var a = p.input(DType::F32, {}), b = p.input(DType::F32, {1, 1, 1});
    p.output(a * a + 1.0, Loses::Rounding);
    p.output(softmax(b, -1), Loses::Nothing);
    p.output(sum(b, {0, 1, 2}), Loses::Nothing);
    p.output(matmul(reshape(b, {1, 1}), reshape(b, {1, 1})), Loses::Rounding);
    p.output(reshape(a, {1, 1}) - reshape(b, {1, 1}), Loses::Rounding);
    p.check();
}

TEST(ParityEdge, ConstantsAndInputsAsOutputs) {
    Parity p;
    const Var x = p.input(DType::F32, {3, 4});
    p.output(x, Loses::Nothing);
    p.output(x, Loses::Nothing);
    p.output(p.weight(DType::F32, {2, 2}), Loses::Nothing);
    p.output(permute(x, {1, 0}), Loses::Nothing);
    p.check();
}

TEST(ParityEdge, HighRanks) {
    Parity p;
    const Var x = p.input(DType::F32, {2, 3, 2, 2, 3, 2, 2});
    p.output(permute(x, {6, 2, 0, 4, 1, 5, 3}) * 2.0, Loses::Rounding);
    p.output(sum(x, {1, 3, 5}), Loses::Sum);
    p.check();
}

// More than 2^31 elements: an index of 32 bits wraps. Looks at the ends on the device's own
// results, since the CPU would take minutes.
TEST(GpuHuge, IndicesBeyond31Bits) {
    if (cuda::device_count() == 0) GTEST_SKIP() << cuda::why_unavailable();
    const std::int64_t rows = (std::int64_t{1} << 16) + 1,
                       columns = std::int64_t{1} << 15;  // 2^31 + 2^15
    Graph g;
    const Var x = g.input("x", DType::I8, {Dim(rows), Dim(columns)}), y = x + scalar_like(x, 1);
    g.output("all", reduce(ReduceOp::Max, y, {0, 1}));
    g.output("end", slice(y, 0, rows - 2, rows));
    g.output("turned", slice(flip(y, 0), 0, 0, 2));
    g.output("column", slice(permute(y, {1, 0}), 0, columns - 1, columns));
    Tensor input = Tensor::zeros(DType::I8, {rows, columns});
    auto data = input.mutable_data<std::int8_t>();
    for (std::int64_t r = 0; r < rows; r++)
        data[static_cast<std::size_t>(r * columns + columns - 1)] =
            static_cast<std::int8_t>(r % 50);
    data[data.size() - 2] = 99;
    const cuda::Device device(0);
    cuda::Executor executor(std::make_shared<cuda::Plan>(cuda::plan(g, device.properties())),
                            device, {.tuning = Tuning::None});
    const auto got = executor.run({input});
    EXPECT_EQ(got[0].int_at(0), 100);
    const std::int64_t last_row = (rows - 1) % 50 + 1;
    EXPECT_EQ(got[1].int_at(2 * columns - 1), last_row);
    EXPECT_EQ(got[1].int_at(2 * columns - 2), 100);
    EXPECT_EQ(got[2].int_at(columns - 1), last_row);
    EXPECT_EQ(got[3].int_at(rows - 1), last_row);
    EXPECT_EQ(got[3].int_at(rows - 2), (rows - 2) % 50 + 1);
}

double resident_mb() {
    std::ifstream file("/proc/self/statm");
    double total = 0, resident = 0;
    file >> total >> resident;
    return resident * static_cast<double>(::sysconf(_SC_PAGESIZE)) / 1e6;
}

// Weights, the arena and the staged inputs and outputs, to the byte; and the device has that much
// less, but for its units of 2 MiB and what the libraries and the captured graph take.
TEST(GpuPeak, IsWhatThePlanStates) {
    if (cuda::device_count() == 0) GTEST_SKIP() << cuda::why_unavailable();
    const cuda::Device device(0);
    const auto make = [&](float value) {
        Graph g;
        const Var x = g.input("x", DType::F32, Shape::of({1024, 4096}));
        Tensor weights(DType::F32, {4096, 4096});
        std::ranges::fill(weights.mutable_data<float>(), value);
        const Var w = g.constant(weights);
        g.output("y", softmax(matmul(softmax(matmul(x, w), -1), w), -1));
        return std::make_shared<const cuda::Plan>(cuda::plan(g, device.properties()));
    };
    const cuda::Executor first(make(0.5f), device,
                               {.tuning = Tuning::None});  // loads libraries and kernels
    const auto plan = make(0.25f);
    const std::size_t free = device.memory().free;
    const cuda::Executor executor(plan, device, {.tuning = Tuning::None});
    const std::size_t taken = free - device.memory().free, unit = std::size_t{2} << 20;
    std::size_t stated = plan->arena_bytes + plan->constant_bytes;
    for (const auto& ports : {plan->inputs, plan->outputs})
        for (const cuda::TensorRef& port : ports)
            stated += static_cast<std::size_t>(checked_size(port.shape)) * size_of(port.dtype);
    EXPECT_EQ(executor.device_bytes(), stated);
    EXPECT_GE(taken + unit, stated);
    EXPECT_LE(taken, stated + 16 * unit);
}

TEST(GpuSoak, MemoryIsFlatOverManyRuns) {
    if (cuda::device_count() == 0) GTEST_SKIP() << cuda::why_unavailable();
    Parity p;
    const Var x = p.input(DType::F32, {4, 8, 12, 12});
    const Var y = relu(conv(x, p.weight(DType::F32, {16, 8, 3, 3}), p.weight(DType::F32, {16}),
                            {.pads = {1, 1, 1, 1}}));
    p.graph.output("y", softmax(linear(mean(y, {2, 3}), p.weight(DType::F32, {16, 10})), -1));
    const cuda::Device device(0);
    cuda::Executor executor(
        std::make_shared<cuda::Plan>(cuda::plan(optimize(p.graph), device.properties())), device);
    const auto first = executor.run(p.inputs());
    for (int i = 0; i < 1000; i++) executor.run(p.inputs());
    const std::size_t free = device.memory().free, bytes = executor.device_bytes();
    const double resident = resident_mb();
    std::vector<Tensor> last;
    for (int i = 0; i < 100000; i++) last = executor.run(p.inputs());
    EXPECT_EQ(device.memory().free, free);
    EXPECT_EQ(executor.device_bytes(), bytes);
    EXPECT_LT(resident_mb(), resident + 4);
    EXPECT_TRUE(testing::compare(last[0], first[0], {}).equal);
}

}  // namespace
}  // namespace kn::test
