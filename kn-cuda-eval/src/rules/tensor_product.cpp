#include "lower/tensor_product.h"

#include "rules/rules.h"

namespace kn::cuda {

namespace {

struct Found {
    Value main;
    std::vector<Value>
        swallowed;  ///< between the end and the product, both left out but for the product
    std::vector<Value> others;  ///< further operands of the elementwise operations
};

// Goes up from the end through elementwise operations whose results nobody else reads.
bool find_product(const Grouping& grouping, Value value, int depth, Found& found) {
    const Operation& operation = grouping.graph()[value].operation;
    if (is_any_of<op::MatMul, op::Conv>(operation)) {
        found.main = value;
        return true;
    }
    if (depth == 0 || !is_elementwise(operation)) return false;
    const std::vector<Value> operands = inputs_of(operation);
    for (const Value& inner : operands) {
        if (!grouping.has_one_user(inner) || grouping.is_grouped(inner) ||
            grouping.is_stored(inner) || !find_product(grouping, inner, depth - 1, found))
            continue;
        found.swallowed.push_back(inner);
        for (const Value& other : operands)
            if (other != inner) found.others.push_back(other);
        return true;
    }
    return false;
}

// Whether the libraries' epilogues have it.
bool is_usual(const Graph& graph, Value value) {
    const auto* binary = graph.get_if<op::Binary>(value);
    if (graph.get_if<op::Cast>(value)) return true;
    return binary && (binary->op == BinaryOp::Add || binary->op == BinaryOp::Max);
}

ProductTail tail_of(const Grouping& grouping, Value end, const Found& found) {
    const Graph& graph = grouping.graph();
    ProductTail tail;
    if (end != found.main && !is_usual(graph, end)) tail.own = true;
    for (const Value& inner : found.swallowed)
        if (inner != found.main && !is_usual(graph, inner)) tail.own = true;
    for (const Value& other : found.others)
        if (!graph.get_if<op::Broadcast>(other) && !graph.get_if<op::Constant>(other))
            tail.residual = true;
    return tail;
}

void tensor_product(Grouping& grouping, Value value) {
    const Graph& graph = grouping.graph();
    Found found;
    constexpr int longest = 12;
    if (!find_product(grouping, value, longest, found)) return;
    const bool conv = graph.get_if<op::Conv>(found.main) != nullptr;
    auto why = why_no_tensor_product(grouping, found.main);
    if (!why) {
        why = why_library_product(grouping, found.main, tail_of(grouping, value, found));
        const std::string missing = why && conv ? why_no_cudnn() : "";
        if (!missing.empty()) {
            grouping.decide("convolution", false, value, missing);
            why.reset();
        }
    }
    if (why) {
        if (found.main == value) grouping.decide("tensor core product", false, value, *why);
        return;
    }
    Group group;
    group.kind = conv ? Group::Kind::Conv : Group::Kind::MatMul;
    group.own_kernel = true;
    group.channels_last = conv;
    group.anchor = found.main;
    group.outputs = {value};
    group.rule = "tensor core product";
    const std::vector<Value> operands = inputs_of(graph[found.main].operation);
    group.roles = {{conv ? "x" : "a", operands[0]}, {conv ? "w" : "b", operands[1]}};
    if (conv) group.roles["y"] = value;
    grouping.demand(operands[0]);
    for (const Value& other : found.others) {
        const auto* broadcast = graph.get_if<op::Broadcast>(other);
        grouping.demand(broadcast ? broadcast->x : other);
    }
    const bool exact =
        graph.dtype(found.main) == DType::F32 && grouping.options().precision == Precision::F32;
    group.reason = std::string(conv ? "convolution" : "product") +
                   (exact ? " in float32 by three TF32 products, with " : " with ") +
                   std::to_string(found.swallowed.size()) + " operations behind it";
    grouping.decide(group.rule, true, value, group.reason);
    grouping.add(std::move(group), found.swallowed);
}

}  // namespace

std::vector<Rule> tensor_product_rules() {
    return {{{"tensor core product",
              "A convolution or float32 product by a weight, with all elementwise operations "
              "behind it, on Hopper's tensor cores "
              "without loss of accuracy"},
             tensor_product}};
}

}  // namespace kn::cuda
