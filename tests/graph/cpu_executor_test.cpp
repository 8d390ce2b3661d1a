// The executor around the kernels: inputs, symbols, memory, threads, errors.
#include <atomic>
#include <thread>

#include <gmock/gmock.h>

#include "cpu/thread_pool.h"
#include "cpu_support.h"

namespace kn::test {
namespace {

using testing::HasSubstr;

/// What f throws as GraphError; empty if nothing.
std::string refusal(const std::function<void()>& f) {
    try {
        f();
    } catch (const GraphError& error) {
        return error.what();
    }
    return "";
}

Graph layers(int count) {
    Graph g;
    const Dim batch = Dim::symbol("batch");
    Var x = g.input("x", DType::F32, {batch, 64});
    for (int i = 0; i < count; ++i)
        x = relu(matmul(
            x, g.constant(random(DType::F32, {64, 64}, static_cast<unsigned>(i), -0.2, 0.2))));
    g.output("y", x);
    return g;
}

TEST(CpuExecutor, WrongInputsAreNamed) {
    const Graph g = layers(1);
    const auto message = [&](const std::vector<Tensor>& inputs) {
        return refusal([&] { cpu::run(g, inputs); });
    };
    EXPECT_THAT(message({}), HasSubstr("0 inputs given, 1 expected"));
    EXPECT_THAT(message({Tensor(), Tensor()}), HasSubstr("2 inputs given, 1 expected"));
    EXPECT_THAT(message({Tensor::zeros(DType::F64, {2, 64})}),
                HasSubstr("input 'x' has dtype f64, expected f32"));
    EXPECT_THAT(message({Tensor::zeros(DType::F32, {2, 64, 1})}),
                HasSubstr("input 'x' has shape [2, 64, 1], expected [batch, 64]"));
    EXPECT_THAT(message({Tensor::zeros(DType::F32, {2, 63})}),
                HasSubstr("input 'x' has shape [2, 63], expected [batch, 64]"));
    EXPECT_EQ(message({Tensor::zeros(DType::F32, {2, 64})}), "");
}

TEST(CpuExecutor, OneExecutorForAllSizes) {
    const cpu::Executor executor(layers(3));
    for (std::int64_t batch : {1, 7, 0, 300, 2}) {
        const Tensor x = random(DType::F32, {batch, 64}, 9);
        const Tensor expected = cpu::run(layers(3), {x}, {.threads = 1})[0];
        const Tensor y = executor.run({x})[0];
        expect_each(y, {batch, 64}, 1e-6, [&](const Ints& i) { return at(expected, i); });
    }
}

TEST(CpuExecutor, OutputsOutliveTheExecutorAndLaterRuns) {
    std::vector<Tensor> first, second;
    const Tensor x = random(DType::F32, {5, 64}, 1), z = random(DType::F32, {5, 64}, 2);
    {
        const cpu::Executor executor(layers(2));
        first = executor.run({x});
        second = executor.run({z});
    }
    EXPECT_EQ(first[0].at(7), cpu::run(layers(2), {x})[0].at(7));
    EXPECT_EQ(second[0].at(7), cpu::run(layers(2), {z})[0].at(7));
}

TEST(CpuExecutor, InputsAreNeverWrittenAndMayBeOutputs) {
    Graph g;
    const Var x = g.input("x", DType::F32, {1000});
    const Var w = g.constant(Tensor::zeros(DType::F32, {1000}));
    g.output("sum", (x + w) * 2.0);
    g.output("same", x);
    const Tensor in = random(DType::F32, {1000}, 1),
                 copy = Tensor::from_bytes(DType::F32, {1000}, in.bytes());
    const auto y = cpu::run(g, {in});
    EXPECT_TRUE(std::equal(in.bytes().begin(), in.bytes().end(), copy.bytes().begin()));
    EXPECT_EQ(y[1].bytes().data(), in.bytes().data());
}

TEST(CpuExecutor, ReusesMemory) {
    const cpu::Executor executor(layers(50), {.threads = 1});
    const Tensor x = Tensor::zeros(DType::F32, {1024, 64});
    (void)executor.run({x});
    const std::size_t peak = executor.peak_bytes();
    EXPECT_GE(peak, x.byte_size());
    EXPECT_LE(peak, 4 * x.byte_size());
    for (int i = 0; i < 5; ++i) (void)executor.run({x});
    EXPECT_EQ(executor.peak_bytes(), peak);
}

TEST(CpuExecutor, RunAllKeepsEveryValue) {
    Graph g;
    const Var x = g.input("x", DType::F32, {2, 3});
    const Var a = exp(x), b = permute(a, {1, 0});
    g.output("y", b + b);
    const Tensor in = random(DType::F32, {2, 3}, 1);
    const cpu::Executor executor(g.clone());
    const auto all = executor.run_all({in});
    expect_each(all[a.value.index][0], {2, 3}, 1e-6,
                [&](const Ints& i) { return std::exp(at(in, i)); });
    expect_each(all[b.value.index][0], {3, 2}, 1e-6, [&](const Ints& i) {
        return std::exp(at(in, {i[1], i[0]}));
    });
}

TEST(CpuExecutor, SizesThatTheDataDecide) {
    Graph g;
    const Var n = g.input("n", DType::I64, {});
    const Dim size = Dim::symbol("n");
    const Value read = g.add(op::ReadDims{n, {"n"}, 1});
    g.output("ones", full(g, DType::F32, {size, 2}, 1));
    g.output("n", g.var(read));
    EXPECT_EQ(cpu::run(g, {Tensor::scalar<std::int64_t>(4)})[0].shape(), (Ints{4, 2}));
    EXPECT_THAT(refusal([&] { cpu::run(g, {Tensor::scalar<std::int64_t>(0)}); }),
                HasSubstr("would be 0, at least 1"));
    EXPECT_THAT(
        refusal([&] { cpu::run(g, {Tensor::scalar<std::int64_t>(std::int64_t{1} << 60)}); }),
        HasSubstr("n"));
}

TEST(CpuExecutor, ConstraintsOfRunTimeSizesAreChecked) {
    Graph g;
    const Var n = g.input("n", DType::I64, {1});
    const Var x = g.input("x", DType::F32, {3});
    (void)g.add(op::ReadDims{n, {"n"}, 0});
    g.output("y", x + full(g, DType::F32, {Dim::symbol("n")}, 1));
    const Tensor three = Tensor::zeros(DType::F32, {3});
    EXPECT_EQ(
        cpu::run(g, {Tensor::from_span<std::int64_t>({1}, std::vector<std::int64_t>{3}), three})[0]
            .at(0),
        1);
    EXPECT_NE(refusal([&] {
                  cpu::run(g, {Tensor::from_span<std::int64_t>({1}, std::vector<std::int64_t>{4}),
                               three});
              }),
              "");
}

TEST(CpuExecutor, AnyByteIsABool) {
    Graph g;
    g.output("y", logical_not(g.input("x", DType::Bool, {3})));
    const std::byte bytes[] = {std::byte{0}, std::byte{1}, std::byte{7}};
    const auto y = cpu::run(g, {Tensor::from_bytes(DType::Bool, {3}, bytes)});
    expect_each(y[0], {3}, 0, [](const Ints& i) { return i[0] == 0 ? 1.0 : 0.0; });
}

TEST(CpuExecutor, ManyThreadsMayRunOneExecutor) {
    const cpu::Executor executor(layers(4), {.threads = 3});
    std::vector<std::thread> callers;
    std::atomic<int> wrong = 0;
    for (unsigned t = 0; t < 4; ++t)
        callers.emplace_back([&, t] {
            const Tensor x = random(DType::F32, {100 + static_cast<std::int64_t>(t), 64}, t);
            const Tensor expected = cpu::run(layers(4), {x}, {.threads = 1})[0];
            for (int i = 0; i < 10; ++i) {
                const Tensor y = executor.run({x})[0];
                for (std::int64_t k = 0; k < y.size(); ++k)
                    wrong += std::fabs(y.at(k) - expected.at(k)) > 1e-5;
            }
        });
    for (auto& caller : callers) caller.join();
    EXPECT_EQ(wrong, 0);
}

TEST(CpuThreadPool, CoversEachIndexOnce) {
    cpu::ThreadPool pool(4);
    for (std::int64_t count : {1, 5, 1000})
        for (std::int64_t grain : {1, 7, 2000}) {
            std::vector<std::atomic<int>> hits(static_cast<std::size_t>(count));
            pool.parallel_for(count, grain, [&](std::int64_t begin, std::int64_t end) {
                for (std::int64_t i = begin; i < end; ++i) ++hits[static_cast<std::size_t>(i)];
            });
            for (const auto& hit : hits) EXPECT_EQ(hit, 1);
        }
}

TEST(CpuThreadPool, NestedCallsAndExceptions) {
    cpu::ThreadPool pool(3);
    std::atomic<int> inner = 0;
    pool.parallel_for(8, 1, [&](std::int64_t, std::int64_t) {
        pool.parallel_for(10, 1, [&](std::int64_t begin, std::int64_t end) {
            inner += static_cast<int>(end - begin);
        });
    });
    EXPECT_EQ(inner, 80);
    for (int repeat = 0; repeat < 20; ++repeat)
        EXPECT_THROW(pool.parallel_for(100, 1,
                                       [](std::int64_t begin, std::int64_t) {
                                           if (begin == 50) throw GraphError("here");
                                       }),
                     GraphError);
    std::atomic<int> after = 0;
    pool.parallel_for(10, 1, [&](std::int64_t begin, std::int64_t end) {
        after += static_cast<int>(end - begin);
    });
    EXPECT_EQ(after, 10);
}

}  // namespace
}  // namespace kn::test
