// The types that operations give, what they refuse, and what they leave for bind to check.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <kn/graph/builder.h>

namespace kn {
namespace {

using testing::HasSubstr;

const Dim batch = Dim::symbol("batch"), seq = Dim::symbol("seq");
const std::vector<Dim> none = {0, 0}, ones = {1, 1};

/// The message of the GraphError that adding the operation throws; empty if it does not throw.
std::string refusal(Graph& g, Operation operation) {
    try {
        (void)g.add(std::move(operation));
    } catch (const GraphError& error) {
        return error.what();
    }
    return "";
}

std::string shape_of(Graph& g, Operation operation) {
    return g.shape(g.add(std::move(operation))).to_string();
}

std::string demands(const Graph& g) {
    std::string out;
    for (const Constraint& c : g.constraints()) {
        const char* relation = c.kind == Constraint::Kind::Equal       ? " == "
                               : c.kind == Constraint::Kind::Broadcast ? " ~ "
                                                                       : " >= ";
        out += (out.empty() ? "" : "; ") + c.a.to_string() + relation + c.b.to_string();
    }
    return out;
}

struct Infer : testing::Test {
    Graph g;
    Var f(Shape shape, const std::string& name = "x") {
        return g.input(name, DType::F32, std::move(shape));
    }
    Var i(Shape shape, const std::string& name = "i") {
        return g.input(name, DType::I64, std::move(shape));
    }
    Var b(Shape shape, const std::string& name = "b") {
        return g.input(name, DType::Bool, std::move(shape));
    }
};

TEST_F(Infer, AxesMustExist) {
    const Var x = f({2, 3, 4, 5});
    EXPECT_THAT(refusal(g, op::Softmax{x, 5, false}), HasSubstr("axis 5 of rank 4"));
    EXPECT_THAT(refusal(g, op::Reduce{ReduceOp::Sum, x, {-1}}), HasSubstr("axis -1 of rank 4"));
    EXPECT_THAT(refusal(g, op::Reduce{ReduceOp::Sum, x, {2, 1}}), HasSubstr("ascending"));
    EXPECT_THAT(refusal(g, op::Reduce{ReduceOp::Sum, x, {1, 1}}),
                HasSubstr("axis 1 is given twice"));
    EXPECT_THAT(refusal(g, op::Permute{x, {0, 1, 2}}),
                HasSubstr("perm has 3 entries, 4 are needed"));
    EXPECT_THAT(refusal(g, op::Permute{x, {0, 1, 2, 2}}), HasSubstr("axis 2 is given twice"));
    EXPECT_THAT(refusal(g, op::Dft{x, 3, false}), HasSubstr("rank 3"));
}

TEST_F(Infer, TheMessageNamesOperationAndOrigin) {
    g.set_origins({"/block/softmax"});
    const std::string message = refusal(g, op::Softmax{f({2}), 1, false});
    EXPECT_THAT(message, HasSubstr("Softmax"));
    EXPECT_THAT(message, HasSubstr("/block/softmax"));
}

TEST_F(Infer, DTypesMustFit) {
    const Var x = i({4}), y = f({4}), c = b({4});
    EXPECT_THAT(refusal(g, op::Reduce{ReduceOp::Mean, x, {0}}), HasSubstr("i64"));
    EXPECT_THAT(refusal(g, op::Reduce{ReduceOp::Sum, c, {0}}), HasSubstr("bool"));
    EXPECT_EQ(shape_of(g, op::Reduce{ReduceOp::Max, c, {0}}), "[]");
    EXPECT_THAT(refusal(g, op::Softmax{x, 0, false}),
                HasSubstr("x has dtype i64, a float type is needed"));
    EXPECT_THAT(refusal(g, op::Unary{UnaryOp::Exp, x}), HasSubstr("exp does not take i64"));
    EXPECT_THAT(refusal(g, op::Binary{BinaryOp::Add, x, y}), HasSubstr("i64[4] and f32[4]"));
    EXPECT_THAT(refusal(g, op::Select{y, x, x}),
                HasSubstr("condition has dtype f32, bool is needed"));
    EXPECT_THAT(refusal(g, op::Gather{x, y, 0}), HasSubstr("indices has dtype f32"));
    EXPECT_THAT(refusal(g, op::BitCast{y, DType::I64}), HasSubstr("differ in size"));
    EXPECT_EQ(g.dtype(g.add(op::Binary{BinaryOp::Less, y, y})), DType::Bool);
    EXPECT_EQ(g.dtype(g.add(op::ArgReduce{true, false, y, 0})), DType::I64);
}

TEST_F(Infer, ReshapeKeepsTheSize) {
    const Var x = f({batch, seq, 768});
    EXPECT_EQ(shape_of(g, op::Reshape{x, {batch, seq, 12, 64}}), "[batch, seq, 12, 64]");
    EXPECT_EQ(demands(g), "");
    (void)g.add(op::Reshape{x, {batch, 128, 768}});
    EXPECT_EQ(g.constraints().size(), 1U);
    EXPECT_THAT(refusal(g, op::Reshape{f({2, 3}, "y"), {4, 2}}),
                HasSubstr("[2, 3] has 6 elements, [4, 2] has 8"));
    EXPECT_EQ(shape_of(g, op::Reshape{f({0, 3}, "z"), {7, 0}}), "[7, 0]");
}

TEST_F(Infer, BroadcastTakesOnesOnly) {
    EXPECT_EQ(shape_of(g, op::Broadcast{f({1, seq}), {batch, seq}}), "[batch, seq]");
    EXPECT_EQ(demands(g), "");
    EXPECT_THAT(refusal(g, op::Broadcast{f({2, 3}, "y"), {4, 3}}),
                HasSubstr("2 is neither 1 nor 4"));
    EXPECT_THAT(refusal(g, op::Broadcast{f({3}, "z"), {4, 3}}), HasSubstr("rank"));
    (void)g.add(op::Broadcast{f({seq}, "s"), {5}});
    EXPECT_EQ(demands(g), "seq ~ 5");
    (void)g.add(op::Broadcast{f({batch}, "t"), {1}});
    EXPECT_EQ(demands(g), "seq ~ 5; batch == 1");
    g.output("y", g.var(g.value_at(g.size() - 3)));
    EXPECT_THROW(g.bind({{"seq", 4}, {"batch", 1}}), GraphError);
}

TEST_F(Infer, SliceStaysInside) {
    const Var x = f({10});
    EXPECT_EQ(shape_of(g, op::Slice{x, {1}, {3}, {3}}), "[3]");
    EXPECT_THAT(refusal(g, op::Slice{x, {1}, {3}, {4}}), HasSubstr("axis 0 (size 10)"));
    EXPECT_THAT(refusal(g, op::Slice{x, {-1}, {1}, {2}}), HasSubstr("lie outside"));
    EXPECT_THAT(refusal(g, op::Slice{x, {8}, {-3}, {4}}), HasSubstr("lie outside"));
    EXPECT_EQ(shape_of(g, op::Slice{x, {9}, {-3}, {4}}), "[4]");
    EXPECT_EQ(shape_of(g, op::Slice{x, {10}, {1}, {0}}), "[0]");
    EXPECT_THAT(refusal(g, op::Slice{x, {0}, {0}, {1}}), HasSubstr("step of axis 0 is 0"));
}

TEST_F(Infer, SymbolicSlicesAreProvedOrRecorded) {
    const Var x = f({seq + 1, seq});
    EXPECT_EQ(shape_of(g, op::Slice{x, {1, seq - 1}, {1, -1}, {seq, seq}}), "[seq, seq]");
    EXPECT_EQ(shape_of(g, op::Slice{x, {0, 0}, {2, 2}, {floor_div(seq, 2) + 1, floor_div(seq, 2)}}),
              "[seq//2 + 1, seq//2]");
    EXPECT_EQ(demands(g), "");
    const Var last = g.var(g.add(op::Slice{x, {0, seq - 1}, {1, 1}, {1, 1}}));
    EXPECT_EQ(demands(g), "seq - 1 >= 0");
    g.output("last", last);
    EXPECT_NO_THROW(g.bind({{"seq", 1}}));
    EXPECT_THROW(g.bind({{"seq", 0}}), GraphError);
}

TEST_F(Infer, ASliceOfNothingMayBeBound) {
    const Dim n = Dim::symbol("n");
    const Var x = f({seq, n});
    g.output("y", g.var(g.add(op::Slice{x, {0, 0}, {3, 1}, {n, n}})));
    EXPECT_NO_THROW(g.bind({{"seq", 0}, {"n", 0}}));
    EXPECT_NO_THROW(g.bind({{"seq", 4}, {"n", 2}}));
    EXPECT_THROW(g.bind({{"seq", 3}, {"n", 2}}), GraphError);
}

TEST_F(Infer, WindowsShrinkTheirAxes) {
    const Var x = f({batch, 3, 10, seq});
    EXPECT_EQ(shape_of(g, op::Window{x, {2, 3}, {3, 2}, {2, 2}, {2, 1}}),
              "[batch, 3, 3, seq//2, 3, 2]");
    EXPECT_EQ(shape_of(g, op::Window{f({2}, "y"), {0}, {5}, {1}, {1}}), "[0, 5]");
    EXPECT_THAT(refusal(g, op::Window{x, {2}, {0}, {1}, {1}}),
                HasSubstr("size must be at least 1"));
    EXPECT_THAT(refusal(g, op::Window{x, {2}, {1}, {0}, {1}}),
                HasSubstr("strides must be at least 1, not 0"));
}

TEST_F(Infer, ConcatAddsOneAxis) {
    const Var x = f({batch, 3}, "x"), y = f({batch, seq}, "y"), z = f({2, 3}, "z");
    EXPECT_EQ(shape_of(g, op::Concat{{x, y, x}, 1}), "[batch, seq + 6]");
    EXPECT_THAT(refusal(g, op::Concat{{}, 0}), HasSubstr("nothing"));
    EXPECT_THAT(refusal(g, op::Concat{{f({4, 3}, "u"), z}, 1}), HasSubstr("4 and 2 differ"));
    EXPECT_THAT(refusal(g, op::Concat{{x, b({batch, 3})}, 0}), HasSubstr("input 1 is bool"));
    EXPECT_EQ(shape_of(g, op::Concat{{x, z}, 1}), "[2, 6]");
    EXPECT_EQ(demands(g), "batch == 2");
}

TEST_F(Infer, PadsAreLimitedByTheMode) {
    const Var x = f({3, 4});
    EXPECT_EQ(shape_of(g, op::Pad{x, {0, 2}, {1, 3}, PadMode::Reflect, {}}), "[4, 9]");
    EXPECT_THAT(refusal(g, op::Pad{x, {0, 4}, {0, 0}, PadMode::Reflect, {}}),
                HasSubstr("reflecting axis 1 by 4"));
    EXPECT_THAT(refusal(g, op::Pad{x, {0, -1}, {0, 0}, PadMode::Edge, {}}),
                HasSubstr("must not be negative"));
    EXPECT_THAT(refusal(g, op::Pad{f({0}, "e"), {1}, {0}, PadMode::Edge, {}}),
                HasSubstr("axis 0 is empty"));
    EXPECT_THAT(refusal(g, op::Pad{x, {0, 0}, {0, 0}, PadMode::Constant, {}}), HasSubstr("value"));
    EXPECT_THAT(refusal(g, op::Pad{x, none, none, PadMode::Constant, scalar(g, DType::I64, 0)}),
                HasSubstr("i64[]"));
}

TEST_F(Infer, GathersAndScatters) {
    const Var x = f({5, batch, 7}), index = i({2, 3}), full = i({2, batch, 7}, "full");
    EXPECT_EQ(shape_of(g, op::Gather{x, index, 1}), "[5, 2, 3, 7]");
    EXPECT_EQ(shape_of(g, op::GatherElements{x, full, 0}), "[2, batch, 7]");
    EXPECT_EQ(shape_of(g, op::GatherNd{x, index, 0}), "[2]");
    EXPECT_EQ(shape_of(g, op::GatherNd{x, i({5, 4, 1}, "j"), 1}), "[5, 4, 7]");
    EXPECT_EQ(demands(g), "");
    EXPECT_THAT(refusal(g, op::GatherElements{x, i({2, batch, 8}, "k"), 0}),
                HasSubstr("along axis 2: 7 < 8"));
    EXPECT_THAT(refusal(g, op::GatherNd{x, i({2, 4}, "l"), 0}), HasSubstr("length 4"));
    EXPECT_THAT(refusal(g, op::GatherNd{x, i({2, seq}, "m"), 0}), HasSubstr("must be known"));
    EXPECT_THAT(refusal(g, op::ScatterNd{x, index, f({3}, "u"), ScatterReduction::Add}),
                HasSubstr("[2] and [3] differ"));
    EXPECT_THAT(
        refusal(g, op::ScatterElements{x, full, f({2, batch}, "v"), 0, ScatterReduction::None}),
        HasSubstr("different ranks"));
}

TEST_F(Infer, TopKNeedsEnoughElements) {
    EXPECT_THAT(refusal(g, op::TopK{f({4}), 0, 5, true}),
                HasSubstr("axis 0 of size 4 has no 5 elements"));
    const Var top = g.var(g.add(op::TopK{f({batch, seq}, "y"), 1, 3, true}));
    EXPECT_EQ(demands(g), "seq - 3 >= 0");
    EXPECT_EQ(g.dtype(g.result(top, 1)), DType::I64);
    EXPECT_EQ(g.shape(g.result(top, 1)).to_string(), "[batch, 3]");
    EXPECT_THAT(refusal(g, op::Result{top, 2}), HasSubstr("result 2 of TopK, which has 2"));
    EXPECT_THAT(refusal(g, op::ArgReduce{true, false, f({0}, "e"), 0}), HasSubstr("no element"));
}

TEST_F(Infer, MatMulChecksItsDims) {
    const Var x = f({batch, seq, 8});
    EXPECT_EQ(shape_of(g, op::MatMul{x, f({batch, 8, 5}, "y")}), "[batch, seq, 5]");
    EXPECT_THAT(refusal(g, op::MatMul{x, f({batch, 7, 5}, "z")}), HasSubstr("8 and 7 differ"));
    EXPECT_THAT(refusal(g, op::MatMul{x, f({8, 5}, "u")}), HasSubstr("b has rank 2"));
    EXPECT_EQ(shape_of(g, op::MatMul{x, f({4, 8, 0}, "v")}), "[4, seq, 0]");
    EXPECT_EQ(demands(g), "batch == 4");
}

TEST_F(Infer, ConvChecksChannelsAndExtent) {
    const Var x = f({batch, 64, seq, 32}), w = f({16, 32, 3, 3}, "w");
    EXPECT_EQ(shape_of(g, op::Conv{x, w, {2, 1}, {1, 2}, {1, 1}, {1, 1}, 2}),
              "[batch, 16, (seq + 1)//2, 30]");
    EXPECT_EQ(demands(g), "");
    EXPECT_THAT(refusal(g, op::Conv{x, w, {1, 1}, {1, 1}, ones, ones, 1}),
                HasSubstr("w has 32 input channels, x gives 64 / groups 1"));
    const Var narrow = f({1, 32, 2, 9}, "narrow");
    EXPECT_THAT(refusal(g, op::Conv{narrow, w, {1, 1}, {2, 2}, none, none, 1}),
                HasSubstr("extent 5"));
    EXPECT_THAT(refusal(g, op::Conv{x, f({15, 32, 1, 1}, "v"), {1, 1}, {1, 1}, none, none, 2}),
                HasSubstr("15 output channels do not divide into 2 groups"));
    EXPECT_THAT(refusal(g, op::Conv{x, w, {1}, {1, 1}, none, none, 2}),
                HasSubstr("strides has 1 entries, 2"));
    EXPECT_EQ(
        shape_of(
            g, op::ConvTranspose{x, f({64, 8, 2, 2}, "t"), {2, 2}, {1, 1}, none, none, {0, 1}, 2}),
        "[batch, 16, 2*seq, 65]");
}

TEST_F(Infer, SizesDoNotOverflow) {
    const Dim big = std::int64_t{1} << 40;
    EXPECT_THROW((void)f({big, big}), GraphError);
    const Var x = f({big, 1});
    EXPECT_THROW((void)g.add(op::Broadcast{x, {big, std::int64_t{1} << 22}}), GraphError);
    EXPECT_EQ(shape_of(g, op::Broadcast{x, {big, 0}}), "[1099511627776, 0]");
}

TEST_F(Infer, AttentionChecksHeadsAndMask) {
    const Var q = f({batch, 8, seq, 64}, "q"), k = f({batch, 2, 77, 64}, "k"),
              v = f({batch, 2, 77, 32}, "v");
    EXPECT_EQ(shape_of(g, op::Attention{q, k, v, {}, 1, CausalMask::None}), "[batch, 8, seq, 32]");
    EXPECT_EQ(shape_of(g, op::Attention{q, k, v, b({1, 1, seq, 77}), 1, CausalMask::None}),
              "[batch, 8, seq, 32]");
    EXPECT_EQ(demands(g), "");
    EXPECT_THAT(
        refusal(g, op::Attention{f({batch, 7, seq, 64}, "q7"), k, v, {}, 1, CausalMask::None}),
        HasSubstr("7 heads, not a multiple of the 2"));
    EXPECT_THAT(refusal(g, op::Attention{q, k, v, f({1, 3, 1, 77}, "m"), 1, CausalMask::None}),
                HasSubstr("heads"));
    EXPECT_THAT(refusal(g, op::Attention{q, k, v, i({1, 1, 1, 77}), 1, CausalMask::None}),
                HasSubstr("mask"));
}

TEST_F(Infer, RecurrentChecksItsWeights) {
    const Var x = f({seq, batch, 10}), w = f({24, 10}, "w"), r = f({24, 6}, "r");
    op::Recurrent cell{};
    cell.kind = CellKind::Lstm, cell.x = x, cell.w = w, cell.r = r;
    cell.activations = {CellActivation::Sigmoid, CellActivation::Tanh, CellActivation::Tanh};
    cell.alphas = cell.betas = {0, 0, 0};
    const Value lstm = g.add(cell);
    EXPECT_EQ(g.shape(lstm).to_string(), "[seq, batch, 6]");
    EXPECT_EQ(g.shape(g.result(lstm, 2)).to_string(), "[batch, 6]");
    cell.kind = CellKind::Gru;
    EXPECT_THAT(refusal(g, cell), HasSubstr("24"));
    cell.kind = CellKind::Lstm, cell.alphas = {0};
    EXPECT_THAT(refusal(g, cell), HasSubstr("alphas has 1 entries, 3"));
}

TEST_F(Infer, SizesThatTheDataDecide) {
    const Value found = g.add(op::NonZero{f({batch, 3}), "count"});
    EXPECT_EQ(g.shape(found).to_string(), "[2, count]");
    EXPECT_EQ(g.run_time_symbols().at("count"), found);
    EXPECT_THAT(refusal(g, op::ReadDims{i({2}), {"n"}, 0}), HasSubstr("1 symbols for 2 elements"));
    EXPECT_THAT(refusal(g, op::ReadDims{i({seq}, "s"), {"n"}, 0}), HasSubstr("must be static"));
    EXPECT_THAT(refusal(g, op::ReadDims{f({1}, "y"), {"n"}, 0}), HasSubstr("f32"));
}

std::shared_ptr<const Graph> body_of(DType dtype, const Shape& shape, std::size_t outputs = 1) {
    auto body = std::make_shared<Graph>();
    const Var x = body->input("x", dtype, shape);
    for (std::size_t i = 0; i < outputs; ++i) body->output("y" + std::to_string(i), x);
    return body;
}

TEST_F(Infer, BranchesMustFit) {
    const Var x = f({4}), c = b({});
    const auto fine = body_of(DType::F32, {Dim::symbol("n")});
    const Type result{DType::F32, {4}};
    EXPECT_EQ(shape_of(g, op::If{c, {x}, fine, fine, {result}}), "[4]");
    EXPECT_THAT(refusal(g, op::If{c, {x}, fine, body_of(DType::I64, {4}), {result}}),
                HasSubstr("else branch"));
    EXPECT_THAT(refusal(g, op::If{c, {}, fine, fine, {result}}),
                HasSubstr("has 1 inputs, 0 are passed"));
    EXPECT_THAT(refusal(g, op::If{c, {x}, fine, body_of(DType::F32, {4}, 2), {result}}),
                HasSubstr("2 outputs"));
    EXPECT_THAT(refusal(g, op::If{c, {x}, body_of(DType::F32, {5}), fine, {result}}),
                HasSubstr("f32[5] is needed"));
    EXPECT_THAT(refusal(g, op::If{b({2}, "c2"), {x}, fine, fine, {result}}),
                HasSubstr("must have one element"));
}

TEST_F(Infer, LoopsMustFit) {
    auto body = std::make_shared<Graph>();
    (void)body->input("i", DType::I64, {});
    const Var go = body->input("go", DType::Bool, {});
    const Var x = body->input("x", DType::F32, {3});
    body->output("go", go);
    body->output("x", x * 2.0);
    body->output("seen", x);
    const Var start = f({3}), count = i({});
    const Type carried{DType::F32, {3}}, scanned{DType::F32, {Dim::symbol("trips"), 3}};
    const Value loop = g.add(op::Loop{count, {}, {start}, {}, body, {carried, scanned}});
    EXPECT_EQ(g.shape(g.result(loop, 1)).to_string(), "[trips, 3]");
    EXPECT_THAT(refusal(g, op::Loop{count, {}, {start}, {}, body, {carried, carried}}),
                HasSubstr("output 2"));
    EXPECT_THAT(refusal(g, op::Loop{count, {}, {f({4}, "y")}, {}, body, {carried, scanned}}),
                HasSubstr("f32[4], f32[3] is needed"));
    EXPECT_THAT(refusal(g, op::Loop{start, {}, {start}, {}, body, {carried, scanned}}),
                HasSubstr("trip count"));
    EXPECT_THAT(refusal(g, op::Loop{count, {}, {start}, {}, body, {carried}}),
                HasSubstr("outputs"));
}

}  // namespace
}  // namespace kn
