// The batch in slices: which operations keep rows apart, that slices compute the same, and what
// plans make of them.
#include "planner/batch_slices.h"

#include <functional>

#include <kn/testing/compare.h>

#include "cuda_eval/host_shim/host_shim.h"
#include "cuda_eval/plan/support.h"
#include "planner/prepare.h"
#include "planner/slice_count.h"

namespace kn::test {

namespace {

using namespace kn::cuda;
using Build = std::function<Var(Var)>;

Graph network(const Ints& shape, const Build& build, DType dtype = DType::F32) {
    Graph graph;
    graph.output("y", build(graph.input("x", dtype, Shape::of(shape))));
    return graph;
}

Var constant(Var like, const Ints& shape, std::uint64_t seed = 3) {
    return weight(*like.graph, shape, like.dtype(), seed);
}

void expect_equal(const std::vector<Tensor>& got, const std::vector<Tensor>& expected,
                  const std::string& what, Precision precision = Precision::F32) {
    ASSERT_EQ(got.size(), expected.size());
    for (std::size_t i = 0; i < got.size(); i++) {
        const auto tolerance = testing::looser(testing::default_tolerance(expected[i].dtype()),
                                               testing::default_tolerance(precision));
        const auto difference = testing::compare(got[i], expected[i], tolerance);
        EXPECT_TRUE(difference.equal) << difference.message << "\n" << what;
    }
}

// The CPU computes the same from the graph and from it in slices, in double: rounding apart.
void expect_slices(const Graph& graph, std::int64_t count = 2) {
    const BatchAxes batch = batch_axes(graph);
    ASSERT_EQ(batch.why_not, "") << graph.to_string();
    const Slices slices = in_slices(graph, batch, count);
    const std::vector<Tensor> inputs = random_inputs(graph);
    const auto run = [&](const Graph& which) {
        return cpu::run(to_precision(which, DType::F64), inputs);
    };
    expect_equal(run(slices.graph), run(graph), slices.graph.to_string());
}

void expect_slices(const Ints& shape, const Build& build) { expect_slices(network(shape, build)); }

void expect_mixes(const Ints& shape, const Build& build, const std::string& reason) {
    const Graph graph = network(shape, build);
    EXPECT_NE(batch_axes(graph).why_not.find(reason), std::string::npos)
        << batch_axes(graph).why_not << "\n"
        << graph.to_string();
}

TEST(BatchSlices, OfEachOperationAreTheWholesRows) {
    expect_slices({4, 6}, [](Var x) { return relu(x) * constant(x, {6}) + 1.0; });
    expect_slices({4, 6}, [](Var x) { return x + constant(x, {4, 6}); });
    expect_slices({4, 6}, [](Var x) { return select(less(x, constant(x, {4, 1})), x, -x); });
    expect_slices({4, 6, 2}, [](Var x) { return permute(x, {2, 0, 1}); });
    expect_slices({4, 6, 2}, [](Var x) { return softmax(permute(x, {1, 2, 0}), 1); });
    expect_slices({4, 6}, [](Var x) { return flip(slice(x, 1, 1, 5), 1); });
    expect_slices({4, 6}, [](Var x) { return concat({x, constant(x, {4, 2})}, 1); });
    expect_slices({4, 6}, [](Var x) { return pad(x, {0, 1}, {0, 2}, 1.5); });
    expect_slices({4, 6, 3}, [](Var x) { return sum(x, {1}, true) + mean(x, {1, 2}, true); });
    expect_slices({4, 6}, [](Var x) { return cast(arg_max(x, 1), DType::F32); });
    expect_slices({4, 6}, [](Var x) { return top_k(x, 3).values; });
    expect_slices({4, 6}, [](Var x) { return cast(top_k(x, 3).indices, DType::F32); });
    expect_slices({4, 6}, [](Var x) { return layer_norm(x, constant(x, {6}), constant(x, {6})); });
    expect_slices({4, 8, 3, 3},
                  [](Var x) { return group_norm(x, 2, constant(x, {8}), constant(x, {8})); });
    expect_slices({4, 3, 8, 8}, [](Var x) {
        return max_pool(conv(x, constant(x, {5, 3, 3, 3}), constant(x, {5})), {2, 2});
    });
    expect_slices({4, 3, 5, 5}, [](Var x) { return conv_transpose(x, constant(x, {3, 2, 3, 3})); });
    expect_slices({4, 3, 6}, [](Var x) { return linear(x, constant(x, {6, 5})); });
    expect_slices({4, 3, 6}, [](Var x) { return matmul(x, transpose(x)); });
    expect_slices({4, 3, 6}, [](Var x) { return matmul(constant(x, {4, 2, 3}), x); });
    expect_slices({4, 3}, [](Var x) { return matmul(constant(x, {2, 3}), transpose(x)); });
    expect_slices({4, 2, 5, 8}, [](Var x) {
        return attention(x, x, x, constant(x, {1, 1, 5, 5}));
    });
    expect_slices({4, 2, 5, 8}, [](Var x) {
        return attention(x, x, x, constant(x, {4, 1, 5, 5}));
    });
    expect_slices({4, 6}, [](Var x) { return gather(x, vector_i64(*x.graph, {3, 0, 5}), 1); });
    expect_slices({4, 6}, [](Var x) {
        return gather(constant(x, {7, 2}), cast(clamp(x, 0, 1), DType::I64), 0);
    });
}

TEST(BatchSlices, FollowTheBatchThroughReshapes) {
    expect_slices({4, 3, 6}, [](Var x) {
        const Var rows = relu(linear(reshape(x, {12, 6}), constant(x, {6, 10})));
        return reshape(rows, {4, 3, 2, 5});
    });
    expect_slices({4, 3, 2}, [](Var x) { return reshape(permute(x, {1, 0, 2}), {1, 3, 8}); });
    expect_slices({4, 6}, [](Var x) { return reshape(x, {1, 4, 1, 2, 3}) * 2.0; });
    expect_slices({4, 6}, [](Var x) { return reshape(x, {24}) + constant(x, {24}); });
    expect_mixes(
        {4, 6},
        [](Var x) {
            return reshape(x, {2, 2, 6});
        },
        "spreads the batch");
    expect_mixes(
        {4, 3, 2},
        [](Var x) {
            return reshape(permute(x, {1, 0, 2}), {12, 2});
        },
        "spreads the batch");
    expect_mixes(
        {4, 6},
        [](Var x) {
            return sum(reshape(x, {8, 3}), {0});
        },
        "reduces over the batch");
}

TEST(BatchSlices, AreRefusedWhereRowsMeet) {
    expect_mixes(
        {4, 6}, [](Var x) { return x - mean(x, {0}, true); }, "reduces over the batch");
    expect_mixes(
        {4, 6}, [](Var x) { return softmax(x, 0); }, "normalises over the batch");
    expect_mixes(
        {4, 6}, [](Var x) { return matmul(x, transpose(x)); },
        "multiplies rows of the batch with each other");
    expect_mixes(
        {4, 6},
        [](Var x) {
            return matmul(constant(x, {3, 4}), x);
        },
        "sums over the batch");
    expect_mixes(
        {4, 4}, [](Var x) { return x + transpose(x); },
        "has the batch along different axes of its operands");
    expect_mixes(
        {4, 6}, [](Var x) { return slice(x, 0, 0, 2); }, "takes some rows");
    expect_mixes(
        {4, 6}, [](Var x) { return flip(x, 0); }, "takes some rows");
    expect_mixes(
        {4, 6},
        [](Var x) {
            return concat({x, x}, 0);
        },
        "joins values along the batch");
    expect_mixes(
        {4, 6},
        [](Var x) {
            return pad(x, {1, 0}, {0, 0}, 0.0);
        },
        "pads the batch");
    expect_mixes(
        {4, 6},
        [](Var x) {
            return gather(x, vector_i64(*x.graph, {0, 1}), 0);
        },
        "gathers along the batch");
    expect_mixes(
        {4, 3, 5, 5},
        [](Var x) {
            return conv(permute(x, {1, 0, 2, 3}), constant(x, {2, 4, 3, 3}));
        },
        "has the batch in an image");
    expect_mixes(
        {1, 6}, [](Var x) { return relu(x); }, "no input has a first axis");
    Graph graph;
    const Var x = graph.input("x", DType::F32, {4, 6});
    graph.output("y", relu(x));
    graph.output("z", exp(weight(graph, {3})));
    EXPECT_EQ(batch_axes(graph).why_not, "output z is the same for all rows");
}

TEST(BatchSlices, RecurrentNetworksAreRefused) {
    Graph graph;
    const Var x = graph.input("x", DType::F32, {4, 2, 3});
    op::Recurrent cell{};
    cell.kind = CellKind::Rnn;
    cell.x = x;
    cell.w = weight(graph, {5, 3});
    cell.r = weight(graph, {5, 5});
    cell.activations = {CellActivation::Tanh};
    cell.alphas = cell.betas = {0};
    graph.output("y", graph.add(std::move(cell)));
    EXPECT_NE(batch_axes(graph).why_not.find("is not known to keep rows"), std::string::npos)
        << batch_axes(graph).why_not;
}

TEST(BatchSlices, ShareWhatIsTheSameForAllRows) {
    Graph graph;
    const Var x = graph.input("x", DType::F32, {4, 6}), table = graph.input("t", DType::F32, {6});
    const Var shared = exp(sin(table));
    graph.output("y", x * broadcast_to(reshape(shared, {1, 6}), {4, 6}));
    const Slices slices = in_slices(graph, batch_axes(graph), 4);
    std::size_t unary = 0;
    for (const Value& value : slices.graph.live()) {
        const bool is_unary = slices.graph.get_if<op::Unary>(value) != nullptr;
        unary += is_unary;
        if (is_unary) {
            EXPECT_EQ(slices.slice_of(value), 0u);
        }
    }
    EXPECT_EQ(unary, 2u) << slices.graph.to_string();
    expect_slices(graph, 4);
}

// Blocks of two convolutions with a mean over the board, and two heads.
Graph tower(std::int64_t batch, DType dtype = DType::F32, std::int64_t channels = 16,
            int blocks = 2) {
    Graph graph;
    Var x = graph.input("boards", dtype, Shape::of({batch, 8, 8, 8}));
    std::uint64_t seed = 1;
    const auto layer = [&](Var from, std::int64_t to, int size) {
        const std::int64_t channels_in = from.shape()[1].value();
        const Var w = weight(graph, {to, channels_in, size, size}, dtype, seed++) * 0.05;
        return conv(from, w, weight(graph, {to}, dtype, seed++),
                    {.pads = std::vector<Dim>(4, size / 2)});
    };
    x = relu(layer(x, channels, 3));
    for (int block = 0; block < blocks; block++) {
        const Var y = layer(relu(layer(x, channels, 3)), channels, 3);
        const Var scale = sigmoid(
            linear(mean(y, {2, 3}), weight(graph, {channels, channels}, dtype, seed++) * 0.1));
        x = relu(y * broadcast_to(reshape(scale, {batch, channels, 1, 1}), y.shape()) + x);
    }
    graph.output("policy", reshape(layer(x, 3, 1), {batch, 192}));
    const Var value = relu(layer(x, 4, 1));
    graph.output("value", tanh(linear(reshape(value, {batch, 256}),
                                      weight(graph, {256, 1}, dtype, seed++) * 0.05)));
    return optimize(graph);
}

PlanOptions with_slices(std::int64_t slices, Precision precision = Precision::F32) {
    return {.precision = precision, .slices = slices};
}

TEST(BatchSlices, PlansGoSliceBySliceInTheMemoryOfOne) {
    const Graph graph = tower(64);
    for (const Precision precision : {Precision::F32, Precision::TF32, Precision::F16}) {
        SCOPED_TRACE(name_of(precision));
        const Plan quarter = plan(tower(16), h200(), with_slices(1, precision));
        const Plan sliced = plan(graph, h200(), with_slices(4, precision));
        EXPECT_EQ(sliced.slices, 4);
        std::size_t last = 1;
        for (const Step& step : sliced.steps) {
            EXPECT_TRUE(step.slice == last || step.slice == last + 1) << sliced.to_string();
            last = step.slice;
        }
        EXPECT_EQ(last, 4u);
        EXPECT_EQ(sliced.steps.size(), 4 * quarter.steps.size())
            << sliced.to_string() << quarter.to_string();
        EXPECT_EQ(sliced.constant_bytes, quarter.constant_bytes);
        EXPECT_EQ(sliced.kernels.size(), quarter.kernels.size());
        EXPECT_LE(sliced.arena_bytes, quarter.arena_bytes + 1024);
        const Plan whole = plan(graph, h200(), with_slices(1, precision));
        EXPECT_LT(sliced.arena_bytes, whole.arena_bytes);
    }
}

TEST(BatchSlices, PlansSayWhichSliceAStepIsOf) {
    const Plan sliced = plan(tower(8), h200(), with_slices(2));
    EXPECT_NE(sliced.to_string().find("the batch in 2 slices\n"), std::string::npos);
    EXPECT_NE(sliced.to_string().find(" of slice 2: "), std::string::npos);
    EXPECT_NE(sliced.to_json().find("\"slices\": 2"), std::string::npos);
    EXPECT_NE(sliced.to_json().find("\"slice\": 2"), std::string::npos);
    const Plan whole = plan(tower(8), h200(), with_slices(1));
    EXPECT_EQ(whole.to_string().find("slice"), std::string::npos);
    EXPECT_EQ(whole.to_json().find("\"slice\""), std::string::npos);
}

TEST(BatchSlices, PlansInSlicesComputeTheSame) {
    for (const auto& [dtype, precision] : {std::pair(DType::F32, Precision::F32),
                                           {DType::F32, Precision::F16},
                                           {DType::F16, Precision::F16}}) {
        SCOPED_TRACE(std::string(name_of(dtype)) + " in " + name_of(precision));
        const Graph graph = tower(6, dtype, 64);
        const std::vector<Tensor> inputs = random_inputs(graph);
        const Plan sliced = plan(graph, h200(), with_slices(3, precision));
        const auto expected =
            cpu::run(*plan(graph, h200(), with_slices(1, precision)).graph, inputs);
        expect_equal(run_plan_on_host(sliced, inputs), expected, sliced.to_string(), precision);
    }
}

// An output whose batch is its second axis is written in stripes.
TEST(BatchSlices, OutputsAreWrittenWhereverTheirBatchIs) {
    const Graph graph = network({6, 5, 8}, [](Var x) {
        return permute(softmax(matmul(x, constant(x, {6, 8, 8})), 2), {1, 0, 2});
    });
    const Plan sliced = plan(graph, h200(), with_slices(3));
    const std::vector<Tensor> inputs = random_inputs(graph);
    expect_equal(run_plan_on_host(sliced, inputs), cpu::run(graph, inputs), sliced.to_string());
    const Plan third =
        plan(network({2, 5, 8},
                     [](Var x) {
                         return permute(softmax(matmul(x, constant(x, {2, 8, 8})), 2), {1, 0, 2});
                     }),
             h200(), with_slices(1));
    EXPECT_EQ(sliced.steps.size(), 3 * third.steps.size()) << sliced.to_string();
}

TEST(BatchSlices, ThatCannotBeAreRefused) {
    const auto refusal = [](const Graph& graph, std::int64_t slices) -> std::string {
        try {
            static_cast<void>(plan(graph, h200(), with_slices(slices)));
        } catch (const GraphError& error) {
            return error.what();
        }
        return "";
    };
    EXPECT_NE(refusal(tower(6), 4).find("a batch of 6 cannot be cut into 4 slices"),
              std::string::npos);
    EXPECT_NE(refusal(tower(6), -1).find("cannot be cut into -1"), std::string::npos);
    EXPECT_NE(refusal(network({4, 6}, [](Var x) { return softmax(x, 0); }), 2)
                  .find("normalises over the batch"),
              std::string::npos);
}

void expect_outputs_written(const Plan& plan) {
    for (const TensorRef& output : plan.outputs) {
        std::int64_t written = 0;
        for (const Step& step : plan.steps)
            for (const Operand& operand : step.operands)
                if (operand.tensor.buffer == output.buffer && operand.access == Access::Write)
                    written += checked_size(operand.tensor.shape);
        EXPECT_EQ(written, checked_size(output.shape)) << plan.to_string();
    }
}

// Each network of the zoo whose rows are independent, in as few slices as its batch allows.
TEST(BatchSlices, OfTheZooAreTheWholesRows) {
    std::size_t networks = 0;
    for (const auto& folder : zoo_cases()) {
        SCOPED_TRACE(folder.filename().string());
        const auto graph = case_graph(folder);
        const BatchAxes batch = graph ? batch_axes(*graph) : BatchAxes{0, {}, "it has no graph"};
        if (!batch.why_not.empty()) continue;
        networks++;
        std::int64_t count = 2;
        while (batch.rows % count != 0) count++;
        expect_slices(*graph, count);
        try {
            expect_outputs_written(plan(*graph, h200(), with_slices(count)));
        } catch (const UnsupportedError& error) {
            EXPECT_THROW(static_cast<void>(plan(*graph, h200(), with_slices(1))), UnsupportedError)
                << error.what();
        }
    }
    EXPECT_GT(networks, 10u);
}

// What a plan would decide on a device whose L2 cache has this size.
SliceChoice choice(const Graph& graph, std::size_t l2_bytes, Precision precision = Precision::F16) {
    DeviceProperties device = h200();
    device.l2_bytes = l2_bytes;
    const Plan whole = plan(graph, device, with_slices(1, precision));
    std::optional<Plan> sliced;
    return choose_slices(whole, [&](std::int64_t count) -> const Plan& {
        return sliced.emplace(plan(graph, device, with_slices(count, precision)));
    });
}

TEST(BatchSlices, AreChosenWhereTheBatchLeavesL2) {
    constexpr std::size_t mb = 1 << 20;
    const Graph boards = tower(1024, DType::F16, 256, 10);
    const auto expect = [](const SliceChoice& choice, std::int64_t count, const std::string& why) {
        EXPECT_EQ(choice.count, count) << choice.reason;
        EXPECT_NE(choice.reason.find(why), std::string::npos) << choice.reason;
    };
    expect(choice(boards, 60 * mb), 2, "us are expected, and ");
    EXPECT_EQ(choice(boards, 4096 * mb).reason, "");
    expect(choice(boards, mb), 1, "no slices of one size");
    expect(choice(tower(1021, DType::F16, 256), 60 * mb), 1, "no slices of one size");
    expect(choice(tower(512, DType::F32, 256), 60 * mb, Precision::TF32), 1,
           "products of float32 take longer");
    // A slice of a small batch leaves most multiprocessors idle.
    expect(choice(tower(256, DType::F16, 256), 10 * mb), 1, "us are expected, and ");
    const auto mixing = [](Var x) {
        return softmax(conv(x, constant(x, {256, 256, 3, 3}), {}, {.pads = {1, 1, 1, 1}}), 0);
    };
    expect(choice(network({1024, 256, 8, 8}, mixing, DType::F16), 60 * mb), 1,
           "normalises over the batch");
}

}  // namespace

}  // namespace kn::test
