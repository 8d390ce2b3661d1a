#include "rules/epilogue.h"

namespace kn::cuda {

std::optional<double> uniform_constant(const Graph& graph, Value value) {
    while (true) {
        if (const auto* broadcast = graph.get_if<op::Broadcast>(value))
            value = broadcast->x;
        else if (const auto* reshape = graph.get_if<op::Reshape>(value))
            value = reshape->x;
        else
            break;
    }
    const auto* constant = graph.get_if<op::Constant>(value);
    if (!constant || constant->data->tensor.size() != 1) return std::nullopt;
    return constant->data->tensor.at(0);
}

std::optional<Value> bias_along(const Graph& graph, Value value, std::size_t axis) {
    const Shape full = graph.shape(value);
    if (const auto* broadcast = graph.get_if<op::Broadcast>(value)) value = broadcast->x;
    const Shape shape = graph.shape(value);
    for (std::size_t i = 0; i < shape.rank(); i++)
        if (shape[i] != (i == axis ? full[i] : Dim(1))) return std::nullopt;
    return value;
}

namespace {

struct Matcher {
    const Grouping& grouping;
    std::size_t axis;
    bool (*is_main)(const Operation&);
    EpiloguePattern found;

    const Graph& graph() const { return grouping.graph(); }

    bool is_inner(Value value) const {
        return grouping.has_one_user(value) && !grouping.is_grouped(value) &&
               !grouping.is_stored(value);
    }

    bool take_term(Value term) {
        if (!found.bias) {
            found.bias = bias_along(graph(), term, axis);
            if (found.bias) return true;
        }
        if (found.residual || graph().get_if<op::Broadcast>(term)) return false;
        found.residual = term;
        return true;
    }

    bool sums(Value value) {
        if (is_main(graph()[value].operation)) {
            found.main = value;
            return true;
        }
        const auto* add = graph().get_if<op::Binary>(value);
        if (!add || add->op != BinaryOp::Add || add->a == add->b) return false;
        for (const bool swap : {false, true}) {
            const Value side = swap ? add->b : add->a, term = swap ? add->a : add->b;
            const EpiloguePattern before = found;
            if (is_inner(side) && take_term(term) && sums(side)) {
                found.swallowed.push_back(side);
                return true;
            }
            found = before;
        }
        return false;
    }

    bool whole(Value value) {
        if (const auto* unary = graph().get_if<op::Unary>(value);
            unary && unary->op == UnaryOp::GeluTanh && is_inner(unary->x) && sums(unary->x)) {
            found.gelu_tanh = true;
            found.swallowed.push_back(unary->x);
            return true;
        }
        if (const auto* max = graph().get_if<op::Binary>(value);
            max && max->op == BinaryOp::Max && max->a != max->b)
            for (const bool swap : {false, true}) {
                const Value inner = swap ? max->b : max->a, other = swap ? max->a : max->b;
                if (uniform_constant(graph(), other) != 0.0 || !is_inner(inner)) continue;
                if (!sums(inner)) continue;
                found.relu = true;
                found.swallowed.push_back(inner);
                return true;
            }
        return sums(value);
    }
};

}  // namespace

std::optional<EpiloguePattern> match_epilogue(const Grouping& grouping, Value value,
                                              std::size_t axis, bool (*is_main)(const Operation&)) {
    Matcher matcher{grouping, axis, is_main, {}};
    if (!matcher.whole(value)) return std::nullopt;
    return matcher.found;
}

}  // namespace kn::cuda
