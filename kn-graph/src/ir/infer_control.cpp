// Sizes that the data decide, operations with several results, and control flow.
#include <ir/infer.h>
#include <ir/require.h>

#include <algorithm>

namespace kn {
using namespace rules;

namespace {

/// `given` may be passed where `wanted` is declared: numbers must agree, symbols are bound at run
/// time.
void check_passable(const Type& given, const Type& wanted, const std::string& what) {
    bool fine = given.dtype == wanted.dtype && given.shape.rank() == wanted.shape.rank();
    for (std::size_t i = 0; fine && i < given.shape.rank(); ++i) {
        const auto a = given.shape[i].constant();
        const auto b = wanted.shape[i].constant();
        fine = !a || !b || *a == *b;
    }
    if (!fine) fail("{} is {}, {} is needed", what, describe(given), describe(wanted));
}

void check_body_input(const Graph& body, std::size_t i, const Type& given, const char* name) {
    check_passable(given, body.type(body.inputs()[i].value),
                   fmt::format("what is passed to input {} of the {}", i, name));
}

void check_counts(const Graph& body, const char* name, std::size_t inputs, std::size_t outputs) {
    if (body.inputs().size() != inputs)
        fail("the {} has {} inputs, {} are passed", name, body.inputs().size(), inputs);
    if (body.outputs().size() != outputs)
        fail("the {} has {} outputs, {} are needed", name, body.outputs().size(), outputs);
}

void check_branch(const std::shared_ptr<const Graph>& body, const char* name, const op::If& op,
                  const Graph& graph) {
    if (!body) fail("there is no {}", name);
    check_counts(*body, name, op.captures.size(), op.results.size());
    for (std::size_t i = 0; i < op.captures.size(); ++i)
        check_body_input(*body, i, graph.type(op.captures[i]), name);
    for (std::size_t i = 0; i < op.results.size(); ++i)
        check_passable(body->type(body->outputs()[i].value), op.results[i],
                       fmt::format("output {} of the {}", i, name));
}

const std::vector<Type>& checked(const std::vector<Type>& results, Graph& graph) {
    if (results.empty()) fail("there are no results");
    for (const Type& type : results)
        for (const Dim& dim : type.shape)
            at_least(graph, dim, 0, "the dims of a result must not be negative");
    return results;
}

}  // namespace

std::vector<Type> infer(const op::ReadDims& op, Graph& graph) {
    const Type& x = graph.type(op.x);
    if (!is_int(x.dtype)) fail("x has dtype {}, an integer type is needed", name_of(x.dtype));
    if (!x.shape.is_static()) fail("the shape of x {} must be static", x.shape.to_string());
    const std::int64_t count = checked_size(x.shape.to_ints());
    if (count != static_cast<std::int64_t>(op.symbols.size()))
        fail("{} symbols for {} elements of x {}", op.symbols.size(), count, x.shape.to_string());
    for (std::size_t i = 0; i < op.symbols.size(); ++i) {
        if (op.symbols[i].empty()) fail("symbol {} has no name", i);
        if (std::find(op.symbols.begin(), op.symbols.begin() + i, op.symbols[i]) !=
            op.symbols.begin() + i)
            fail("symbol {} is bound twice", op.symbols[i]);
    }
    return one(x.dtype, x.shape);
}

std::vector<Type> infer(const op::NonZero& op, Graph& graph) {
    if (op.count.empty()) fail("the count needs a symbol");
    const auto rank = static_cast<std::int64_t>(graph.shape(op.x).rank());
    return one(DType::I64, {rank, Dim::symbol(op.count)});
}

std::vector<Type> infer(const op::Result& op, Graph& graph) {
    const Node& source = graph[op.source];
    if (op.index < 1 || op.index >= static_cast<std::int64_t>(source.results.size()))
        fail("result {} of {}, which has {}", op.index, name_of(source.operation),
             source.results.size());
    return {source.results[op.index]};
}

std::vector<Type> infer(const op::If& op, Graph& graph) {
    const Type& condition = graph.type(op.condition);
    dtype_is("the condition", condition.dtype, DType::Bool);
    one_element(graph, condition.shape, "the condition");
    check_branch(op.then_body, "then branch", op, graph);
    check_branch(op.else_body, "else branch", op, graph);
    return checked(op.results, graph);
}

std::vector<Type> infer(const op::Loop& op, Graph& graph) {
    if (op.trip_count) {
        const Type& count = graph.type(*op.trip_count);
        dtype_is("the trip count", count.dtype, DType::I64);
        one_element(graph, count.shape, "the trip count");
    }
    if (op.condition) {
        const Type& condition = graph.type(*op.condition);
        dtype_is("the condition", condition.dtype, DType::Bool);
        one_element(graph, condition.shape, "the condition");
    }
    if (!op.body) fail("there is no body");
    const Graph& body = *op.body;
    const std::size_t carried = op.carried.size();
    if (op.results.size() < carried)
        fail("{} carried values but {} results", carried, op.results.size());
    check_counts(body, "body", 2 + carried + op.captures.size(), 1 + op.results.size());
    check_passable({DType::I64, {}}, body.type(body.inputs()[0].value), "the iteration number");
    check_passable({DType::Bool, {}}, body.type(body.inputs()[1].value), "the condition passed");
    for (std::size_t i = 0; i < carried; ++i)
        check_body_input(body, 2 + i, graph.type(op.carried[i]), "body");
    for (std::size_t i = 0; i < op.captures.size(); ++i)
        check_body_input(body, 2 + carried + i, graph.type(op.captures[i]), "body");

    const Type& condition = body.type(body.outputs()[0].value);
    dtype_is("the body's condition", condition.dtype, DType::Bool);
    one_element(graph, condition.shape, "the body's condition");
    for (std::size_t i = 0; i < op.results.size(); ++i) {
        Type made = body.type(body.outputs()[1 + i].value);
        const std::string what = fmt::format("output {} of the body", 1 + i);
        if (i < carried) {
            check_passable(made, body.type(body.inputs()[2 + i].value), what);
            check_passable(graph.type(op.carried[i]), op.results[i],
                           fmt::format("the start of carried value {}", i));
            check_passable(made, op.results[i], what);
        } else {
            Shape stacked = op.results[i].shape;
            if (stacked.rank() == 0) fail("scanned result {} has rank 0", i);
            check_passable(made, {op.results[i].dtype, stacked.slice(1, stacked.rank())}, what);
        }
    }
    return checked(op.results, graph);
}

}  // namespace kn
