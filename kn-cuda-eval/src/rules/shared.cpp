#include "rules/shared.h"

#include <algorithm>
#include <set>

#include "codegen/emit.h"
#include "planner/rows.h"

namespace kn::cuda {

namespace {

constexpr std::int64_t kDear = 24;        // additions that cost as much as a pass over memory
constexpr std::int64_t kDearLoop = 64;    // likewise, where elements are computed again
constexpr std::size_t kMostLeaves = 28;   // operands of a kernel
constexpr std::size_t kMostValues = 160;  // operations in a kernel

bool is_product(const Operation& operation) { return is_any_of<op::MatMul, op::Conv>(operation); }

bool is_arithmetic(const Operation& operation) {
    return is_any_of<op::Unary, op::Binary, op::Select, op::Reduce, op::ArgReduce, op::Softmax,
                     op::Norm>(operation) ||
           is_product(operation);
}

/// Rough cost of one element in additions.
std::int64_t work(const Graph& graph, Value value) {
    const Operation& operation = graph[value].operation;
    if (const auto* o = std::get_if<op::Unary>(&operation)) {
        switch (o->op) {
            case UnaryOp::Neg:
            case UnaryOp::Abs:
            case UnaryOp::Sign:
            case UnaryOp::Not:
            case UnaryOp::BitNot:
            case UnaryOp::Floor:
            case UnaryOp::Ceil:
            case UnaryOp::Round:
            case UnaryOp::Trunc:
            case UnaryOp::Square:
            case UnaryOp::IsNan:
            case UnaryOp::IsInf: return 1;
            case UnaryOp::Sqrt:
            case UnaryOp::Rsqrt:
            case UnaryOp::Reciprocal:
            case UnaryOp::Exp:
            case UnaryOp::Log:
            case UnaryOp::Softsign: return 8;
            default: return 16;
        }
    }
    if (const auto* o = std::get_if<op::Binary>(&operation)) {
        switch (o->op) {
            case BinaryOp::Div: return 6;
            case BinaryOp::Mod:
            case BinaryOp::Fmod:
            case BinaryOp::Pow:
            case BinaryOp::Atan2: return 24;
            default: return 1;
        }
    }
    if (is_product(operation)) return 1 << 20;
    if (const std::int64_t count = reduced_count(graph, value); count > 0)
        return is_long_reduction(graph, value) ? 1 << 20 : 2 * count;
    return 1;
}

struct Expression {
    std::vector<Value> values;  // computed, in the order met
    std::vector<Value> leaves;  // read
    std::int64_t work = 0;
};

Expression expression_of(const Grouping& grouping, Value root, std::size_t most) {
    Expression result;
    std::set<std::uint32_t> seen{root.index};
    std::vector<Value> stack{root};
    while (!stack.empty() && result.values.size() < most) {
        const Value value = stack.back();
        stack.pop_back();
        result.values.push_back(value);
        result.work += work(grouping.graph(), value);
        for (const Value& x : inputs_of(grouping.graph()[value].operation)) {
            if (!seen.insert(x.index).second) continue;
            const auto* constant = grouping.graph().get_if<op::Constant>(x);
            if (constant && constant->data->tensor.size() == 1) continue;
            if (ends_kernel(grouping, x))
                result.leaves.push_back(x);
            else
                stack.push_back(x);
        }
    }
    return result;
}

std::int64_t elements(const Graph& graph, Value value) { return graph.shape(value).size().value(); }

/// Stored values whose kernels would compute this one, up to two.
std::size_t count_kernels(const Grouping& grouping, Value value) {
    std::set<std::uint32_t> roots, seen;
    std::vector<Value> stack{value};
    while (!stack.empty() && roots.size() < 2) {
        const Value at = stack.back();
        stack.pop_back();
        for (const Value& user : grouping.users(at)) {
            if (!seen.insert(user.index).second) continue;
            if (grouping.is_stored(user) || grouping.is_grouped(user))
                roots.insert(user.index);
            else
                stack.push_back(user);
        }
    }
    return roots.size();
}

/// How often an element is computed because its readers repeat it, at most.
std::int64_t repetitions(const Grouping& grouping, Value value) {
    const Graph& graph = grouping.graph();
    std::int64_t most = 1;
    for (const Value& user : grouping.users(value)) {
        if (grouping.is_grouped(user) && !grouping.is_stored(user)) continue;
        const Operation& operation = graph[user].operation;
        if (is_product(operation)) return 1 << 20;
        if (is_any_of<op::Broadcast, op::Window, op::Gather>(operation))
            most = std::max(
                most, elements(graph, user) / std::max<std::int64_t>(elements(graph, value), 1));
    }
    return most;
}

}  // namespace

bool ends_kernel(const Grouping& grouping, Value value) {
    return grouping.is_stored(value) || grouping.is_grouped(value) ||
           is_product(grouping.graph()[value].operation) ||
           Emitter::why_not_inline(grouping.graph(), value).has_value();
}

void store_shared(Grouping& grouping, Value value) {
    const Graph& graph = grouping.graph();
    const Operation& operation = graph[value].operation;
    if (grouping.is_stored(value) || !is_arithmetic(operation)) return;
    const auto store = [&](const std::string& reason) {
        grouping.store(value);
        grouping.decide("store shared", true, value, reason);
    };
    if (is_product(operation)) return store("products are computed once");
    const std::int64_t times = repetitions(grouping, value);
    const std::size_t kernels = count_kernels(grouping, value);
    if (times <= 1 && kernels < 2) return;
    const Expression expression = expression_of(grouping, value, kMostValues);
    if (times > 1 && expression.work > kDearLoop)
        return store("its readers would compute each element again and again");
    if (kernels < 2) return;
    if (expression.work > kDear) return store("several kernels read it, and it is dear");
    std::size_t large = 0;
    for (const Value& leaf : expression.leaves)
        if (elements(graph, leaf) * 2 >= elements(graph, value)) ++large;
    if (large > 1) store("several kernels read it, and it has several operands");
}

void limit_expression(Grouping& grouping, Value root) {
    for (;;) {
        const Expression whole = expression_of(grouping, root, 4 * kMostValues);
        if (whole.leaves.size() <= kMostLeaves && whole.values.size() <= kMostValues) return;
        // The part that is nearest to half of it.
        Value best;
        std::size_t nearest = ~std::size_t{0};
        const std::size_t half = (whole.leaves.size() + whole.values.size() / 4) / 2;
        for (std::size_t i = 1; i < whole.values.size(); ++i) {
            const Value value = whole.values[i];
            const Operation& operation = grouping.graph()[value].operation;
            if (!is_arithmetic(operation) && !std::holds_alternative<op::Concat>(operation) &&
                !std::holds_alternative<op::Cast>(operation))
                continue;
            const Expression part = expression_of(grouping, value, 4 * kMostValues);
            const std::size_t size = part.leaves.size() + part.values.size() / 4;
            const std::size_t distance = size > half ? size - half : half - size;
            if (distance < nearest && part.values.size() > 1) {
                nearest = distance;
                best = value;
            }
        }
        if (best.graph == 0) return;
        grouping.store(best);
        grouping.decide("store shared", true, best, "its reader would be too large a kernel");
    }
}

}  // namespace kn::cuda
