// Sizes that the data decide, If and Loop on the CPU.
#include <gmock/gmock.h>

#include "cpu_reference.h"

namespace kn {
namespace {

using namespace reference;
using testing::ElementsAre;
using testing::HasSubstr;

const Dim n = Dim::symbol("n");

TEST(CpuControl, NonZeroBindsItsCount) {
    Graph g;
    const Var x = g.input("x", DType::F32, {2, n});
    const Var found = g.var(g.add(op::NonZero{x, "count"}));
    g.output("found", found);
    g.output("next",
             reshape(found, {2 * Dim::symbol("count")}) + iota(g, 2 * Dim::symbol("count")));
    const auto y = cpu::run(g, {floats({2, 3}, {0, 1, NAN, -2, 0, 0})});
    EXPECT_THAT(y[0].shape(), ElementsAre(2, 3));
    EXPECT_THAT(doubles(y[0]), ElementsAre(0, 0, 1, 1, 2, 0));
    EXPECT_THAT(doubles(y[1]), ElementsAre(0, 1, 3, 4, 6, 5));
}

TEST(CpuControl, ReadDimsGivesSizes) {
    Graph g;
    const Var sizes = g.input("sizes", DType::I32, {2});
    const Var read = g.var(g.add(op::ReadDims{sizes, {"rows", "columns"}, 1}));
    g.output("read", read);
    g.output("y", full(g, DType::F32, {Dim::symbol("rows"), Dim::symbol("columns")}, 1.5));
    const auto size = [](std::int32_t a, std::int32_t b) {
        return Tensor::from_span<std::int32_t>({2}, std::vector<std::int32_t>{a, b});
    };
    EXPECT_THAT(cpu::run(g, {size(2, 3)})[1].shape(), ElementsAre(2, 3));
    EXPECT_THAT(message_of([&] { cpu::run(g, {size(2, 0)}); }), HasSubstr("columns"));
    EXPECT_THAT(message_of([&] { cpu::run(g, {size(-1, 2)}); }), HasSubstr("rows"));
}

TEST(CpuControl, IfRunsOneBranch) {
    Graph then_body, else_body;
    const Var a = then_body.input("a", DType::F32, {n});
    then_body.output("y", concat({a, a}, 0));
    const Var b = else_body.input("b", DType::F32, {n});
    else_body.output("y", b * 3.0);
    Graph g;
    const Var x = g.input("x", DType::F32, {n}), c = g.input("c", DType::Bool, {1});
    g.output("y", g.var(g.add(op::If{c,
                                     {x},
                                     std::make_shared<Graph>(std::move(then_body)),
                                     std::make_shared<Graph>(std::move(else_body)),
                                     {{DType::F32, {Dim::symbol("size")}}}})));
    const Tensor yes =
        Tensor::from_span<std::uint8_t>({1}, std::vector<std::uint8_t>{1}).cast(DType::Bool);
    const Tensor no =
        Tensor::from_span<std::uint8_t>({1}, std::vector<std::uint8_t>{0}).cast(DType::Bool);
    const cpu::Executor executor(std::move(g));
    EXPECT_THAT(doubles(executor.run({floats({2}, {1, 2}), yes})[0]), ElementsAre(1, 2, 1, 2));
    EXPECT_THAT(doubles(executor.run({floats({2}, {1, 2}), no})[0]), ElementsAre(3, 6));
}

/// x = x * f each time, while x < limit; the old x and the number of the iteration are stacked.
Graph powers(bool with_count, std::int64_t carried_size = 1) {
    auto body = std::make_shared<Graph>();
    const Var i = body->input("i", DType::I64, {});
    (void)body->input("go", DType::Bool, {});
    const Var x = body->input("x", DType::F32, {carried_size});
    const Var factor = body->input("factor", DType::F32, {carried_size});
    const Var next = x * factor;
    body->output("go", reshape(less(slice(next, 0, 0, 1), full(*body, DType::F32, {1}, 100)), {}));
    body->output("x", next);
    body->output("old", x);
    body->output("i", i);
    Graph g;
    const Var start = g.input("start", DType::F32, {carried_size}),
              f = g.input("f", DType::F32, {carried_size});
    std::optional<Value> count;
    if (with_count) count = g.input("count", DType::I64, {}).value;
    const Dim trips = Dim::symbol("trips");
    const Value loop = g.add(op::Loop{count,
                                      {},
                                      {start},
                                      {f},
                                      body,
                                      {{DType::F32, {carried_size}},
                                       {DType::F32, {trips, carried_size}},
                                       {DType::I64, {trips}}}});
    for (std::size_t r = 0; r < 3; ++r) g.output("r" + std::to_string(r), g.result(loop, r));
    return g;
}

TEST(CpuControl, LoopsCarryAndStack) {
    const auto y = cpu::run(powers(true), {floats({1}, {3}), floats({1}, {2}), ints({}, {4})});
    EXPECT_THAT(doubles(y[0]), ElementsAre(48));
    EXPECT_THAT(doubles(y[1]), ElementsAre(3, 6, 12, 24));
    EXPECT_THAT(doubles(y[2]), ElementsAre(0, 1, 2, 3));
    EXPECT_THAT(y[1].shape(), ElementsAre(4, 1));
}

TEST(CpuControl, LoopsEndByTheirCondition) {
    const auto y = cpu::run(powers(true), {floats({1}, {3}), floats({1}, {10}), ints({}, {99})});
    EXPECT_THAT(doubles(y[0]), ElementsAre(300));
    EXPECT_THAT(doubles(y[1]), ElementsAre(3, 30));
}

TEST(CpuControl, LoopsOfNoIteration) {
    const auto y =
        cpu::run(powers(true, 2), {floats({2}, {3, 4}), floats({2}, {1, 1}), ints({}, {0})});
    EXPECT_THAT(doubles(y[0]), ElementsAre(3, 4));
    EXPECT_THAT(y[1].shape(), ElementsAre(0, 2));
    EXPECT_THAT(y[2].shape(), ElementsAre(0));
}

TEST(CpuControl, LoopsAreLimited) {
    const Graph g = powers(false);
    const std::string message = message_of([&] {
        cpu::run(g, {floats({1}, {1}), floats({1}, {1})}, {.max_loop_iterations = 50});
    });
    EXPECT_THAT(message, HasSubstr("Loop"));
    EXPECT_THAT(message, HasSubstr("50 iterations"));
}

TEST(CpuControl, LoopsMayGrowWhatTheyCarry) {
    auto body = std::make_shared<Graph>();
    (void)body->input("i", DType::I64, {});
    const Var go = body->input("go", DType::Bool, {});
    const Var x = body->input("x", DType::F32, {Dim::symbol("length")});
    body->output("go", go);
    body->output("x", concat({x, x * 2.0}, 0));
    Graph g;
    const Var start = g.input("start", DType::F32, {n}), count = g.input("count", DType::I64, {});
    g.output(
        "y",
        g.var(g.add(op::Loop{count, {}, {start}, {}, body, {{DType::F32, {Dim::symbol("end")}}}})));
    EXPECT_THAT(doubles(cpu::run(g, {floats({1}, {1}), ints({}, {3})})[0]),
                ElementsAre(1, 2, 2, 4, 2, 4, 4, 8));
}

TEST(CpuControl, SlicesToStackMustHaveOneShape) {
    auto body = std::make_shared<Graph>();
    const Var i = body->input("i", DType::I64, {});
    const Var go = body->input("go", DType::Bool, {});
    const Var size = body->var(body->add(op::ReadDims{i, {"size"}, 0}));
    body->output("go", go);
    body->output("old", iota(*body, Dim::symbol("size")));
    (void)size;
    Graph g;
    const Var count = g.input("count", DType::I64, {});
    g.output("y",
             g.var(g.add(op::Loop{count,
                                  {},
                                  {},
                                  {},
                                  body,
                                  {{DType::I64, {Dim::symbol("trips"), Dim::symbol("length")}}}})));
    EXPECT_THAT(cpu::run(g, {ints({}, {1})})[0].shape(), ElementsAre(1, 0));
    EXPECT_THAT(message_of([&] { cpu::run(g, {ints({}, {2})}); }),
                HasSubstr("iteration 1 gives [1] to stack"));
}

}  // namespace
}  // namespace kn
