#include <set>

#include <fmt/core.h>

#include "cpu/frame.h"

namespace kn::cpu {

Program::Program(std::shared_ptr<const Graph> source) : graph(std::move(source)) {
    order = graph->live();
    dead_after.resize(order.size());
    constants.resize(graph->size());

    constexpr std::size_t kept = static_cast<std::size_t>(-1);
    std::vector<std::size_t> last_use(graph->size(), 0);
    for (std::size_t step = 0; step < order.size(); ++step) {
        const Value value = order[step];
        last_use[value.index] = step;
        for (Value operand : inputs_of((*graph)[value].operation)) last_use[operand.index] = step;
        if (const auto* constant = graph->get_if<op::Constant>(value))
            constants[value.index] = {Array(constant->data->tensor)};
    }
    for (const NamedValue& output : graph->outputs()) last_use[output.value.index] = kept;
    for (Value value : order)
        if (last_use[value.index] != kept) dead_after[last_use[value.index]].push_back(value.index);

    for (const Constraint& constraint : graph->constraints()) {
        std::set<std::string> symbols;
        constraint.a.collect_symbols(symbols);
        constraint.b.collect_symbols(symbols);
        for (const std::string& symbol : symbols) constraints[symbol].push_back(&constraint);
    }
}

std::shared_ptr<const Program> Engine::program(const std::shared_ptr<const Graph>& graph) {
    std::lock_guard lock(mutex_);
    auto& program = programs_[graph.get()];
    if (!program) program = std::make_shared<const Program>(graph);
    return program;
}

void check_constraint(const Constraint& constraint, const Bindings& bindings) {
    const Dim a = constraint.a.substitute(bindings);
    const Dim b = constraint.b.substitute(bindings);
    if (!a.is_constant()) return;
    const std::int64_t left = a.value();
    if (constraint.kind == Constraint::Kind::NotNegative) {
        if (left < 0)
            throw GraphError(fmt::format("{}: {} is {}, which must not be negative",
                                         printable(constraint.origin), constraint.a.to_string(),
                                         left));
        return;
    }
    if (!b.is_constant()) return;
    const std::int64_t right = b.value();
    const bool broadcast =
        constraint.kind == Constraint::Kind::Broadcast && (left == 1 || right == 1);
    if (left != right && !broadcast)
        throw GraphError(fmt::format("{}: {} = {} does not fit {} = {}",
                                     printable(constraint.origin), constraint.a.to_string(), left,
                                     constraint.b.to_string(), right));
}

namespace {

Arrays evaluate_one(const Operation& operation, EvalContext& ctx) {
    return std::visit(
        [&](const auto& op) -> Arrays {
            if constexpr (std::is_same_v<std::decay_t<decltype(op)>, std::monostate>)
                throw_internal(__FILE__, __LINE__, "an operation", "");
            else
                return eval(op, ctx);
        },
        operation);
}

void check_results(const Node& node, const Arrays& results, EvalContext& ctx) {
    KN_CHECK(results.size() == node.results.size(), std::string(name_of(node.operation)));
    for (std::size_t i = 0; i < results.size(); ++i)
        if (results[i].dtype() != node.results[i].dtype ||
            results[i].shape() != ctx.eval(node.results[i].shape))
            ctx.fail(fmt::format("result {} is {}{}, expected {}{}", i, name_of(results[i].dtype()),
                                 Shape::of(results[i].shape()).to_string(),
                                 name_of(node.results[i].dtype),
                                 node.results[i].shape.to_string()));
}

}  // namespace

void evaluate(Frame& frame) {
    const Program& program = frame.program;
    for (const Constraint& constraint : program.graph->constraints())
        check_constraint(constraint, frame.bindings);
    for (frame.step = 0; frame.step < program.order.size(); ++frame.step) {
        const Value value = program.order[frame.step];
        Arrays& results = frame.values[value.index];
        const Node& node = (*program.graph)[value];
        if (!program.constants[value.index].empty()) {
            results = program.constants[value.index];
        } else if (results.empty()) {  // inputs are there already
            EvalContext ctx(frame, value);
            results = evaluate_one(node.operation, ctx);
            check_results(node, results, ctx);
        }
        if (frame.keep_all) continue;
        for (std::uint32_t dead : program.dead_after[frame.step]) frame.values[dead].clear();
    }
}

}  // namespace kn::cpu
