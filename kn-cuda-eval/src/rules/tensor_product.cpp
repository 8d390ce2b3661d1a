#include "lower/tensor_product.h"

#include "lower/conv.h"
#include "lower/few_channels.h"
#include "rules/product_group.h"
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

constexpr int longest = 12;  // way up from the end

// "with 3 operations behind it".
std::string describe(const Grouping& grouping, const Found& found) {
    const DType dtype = grouping.graph().dtype(found.main);
    const bool exact = !uses_tensor_cores(grouping.options(), dtype);
    return (exact ? " in float32 by three TF32 products, with " : " with ") +
           std::to_string(found.swallowed.size()) + " operations behind it";
}

// What an image is computed from, element by element with constants, on the way to the kernel.
Value image_source(const Grouping& grouping, Value value) {
    const Graph& graph = grouping.graph();
    for (int depth = 0; depth < longest; ++depth) {
        const Operation& operation = graph[value].operation;
        if (grouping.is_stored(value) || grouping.is_grouped(value) || !is_elementwise(operation))
            break;
        std::optional<Value> source;
        for (const Value& operand : inputs_of(operation)) {
            const auto* broadcast = graph.get_if<op::Broadcast>(operand);
            if (graph.get_if<op::Constant>(broadcast ? broadcast->x : operand)) continue;
            if (source) return value;
            source = operand;
        }
        if (!source) break;
        value = *source;
    }
    return value;
}

void few_channels(Grouping& grouping, Value value) {
    const Graph& graph = grouping.graph();
    Found found;
    if (!find_product(grouping, value, longest, found)) return;
    const auto* conv = graph.get_if<op::Conv>(found.main);
    constexpr std::int64_t most = 8;
    if (!conv || conv->groups != 1 || graph.shape(conv->x).rank() != 4 ||
        graph.shape(conv->x)[1].value() > most)
        return;
    const std::string rule = "few channels";
    if (const auto why = why_no_few_channels(grouping, found.main)) {
        if (found.main == value) grouping.decide(rule, false, value, *why);
        return;
    }
    Group group = product_group(graph, rule, found.main, value);
    group.roles = {{"image", conv->x}, {"w", conv->w}, {"y", value}};
    grouping.demand(image_source(grouping, conv->x));
    for (const Value& other : found.others) demand_operand(grouping, other);
    group.reason = "convolution over few channels" + describe(grouping, found) +
                   ", read from the image as it lies";
    grouping.decide(rule, true, value, group.reason);
    grouping.add(std::move(group), found.swallowed);
}

void tensor_product(Grouping& grouping, Value value) {
    const Graph& graph = grouping.graph();
    Found found;
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
    Group group = product_group(graph, "tensor core product", found.main, value);
    grouping.demand(inputs_of(graph[found.main].operation)[0]);
    for (const Value& other : found.others) demand_operand(grouping, other);
    group.reason = (conv ? "convolution" : "product") + describe(grouping, found);
    grouping.decide(group.rule, true, value, group.reason);
    grouping.add(std::move(group), found.swallowed);
}

}  // namespace

std::vector<Rule> tensor_product_rules() {
    return {{{"few channels",
              "A convolution over few channels, with all elementwise operations behind it, by a "
              "kernel that reads the image as it lies"},
             few_channels},
            {{"tensor core product",
              "A convolution or float32 product by a weight, with all elementwise operations "
              "behind it, on Hopper's tensor cores "
              "without loss of accuracy"},
             tensor_product}};
}

}  // namespace kn::cuda
