#include "codegen/emit.h"
#include "rules/rules.h"

namespace kn::cuda {

namespace {

bool is_convolution(const Operation& operation) {
    return is_any_of<op::Conv, op::ConvTranspose>(operation);
}

/// Whether cuDNN convolves elements of this type.
bool has_library(DType dtype) { return is_half(dtype) || dtype == DType::F32; }

bool has_own_kernel(const Operation& operation) {
    return is_any_of<op::TopK, op::Cumulative, op::ScatterElements, op::ScatterNd, op::Recurrent,
                     op::Dft, op::Attention>(operation) ||
           is_convolution(operation);
}

void own_kernel(Grouping& grouping, Value value) {
    const Graph& graph = grouping.graph();
    const Operation& operation = graph[value].operation;
    if (!has_own_kernel(operation)) return;
    Group group;
    group.kind = Group::Kind::Special;
    group.anchor = value;
    group.outputs = {value};
    for (const Value& user : grouping.users(value))
        if (graph.get_if<op::Result>(user)) group.outputs.push_back(user);
    for (const Value& input : inputs_of(operation)) grouping.demand(input);
    group.rule = "own-kernel";
    group.reason = std::string(name_of(operation)) + " has a kernel of its own";
    grouping.add(std::move(group));
}

/// What an elementwise tree over one convolution consists of.
struct ConvTree {
    std::optional<Value> conv;
    std::vector<Value> inside;  ///< operations between the output and the convolution
    std::vector<Value> sides;   ///< other operands
};

/// Walks down from an elementwise operation while values are used here only.
void walk_down(const Grouping& grouping, Value value, int depth, ConvTree& tree) {
    const Graph& graph = grouping.graph();
    constexpr int kDeepest = 12;
    for (const Value& input : inputs_of(graph[value].operation)) {
        const Operation& operation = graph[input].operation;
        const bool own = grouping.has_one_user(input) && !grouping.is_stored(input) &&
                         !grouping.is_grouped(input) && depth < kDeepest;
        if (own && is_convolution(operation) && !tree.conv)
            tree.conv = input;
        else if (own && is_elementwise(operation) && !tree.conv) {
            ConvTree below{.conv = {}, .inside = {input}, .sides = {}};
            walk_down(grouping, input, depth + 1, below);
            if (!below.conv) {
                tree.sides.push_back(input);
                continue;
            }
            tree.conv = below.conv;
            tree.inside.insert(tree.inside.end(), below.inside.begin(), below.inside.end());
            tree.sides.insert(tree.sides.end(), below.sides.begin(), below.sides.end());
        } else {
            tree.sides.push_back(input);
        }
    }
}

/// A group of our own for the convolution and what the tree does to its elements.
void add_conv(Grouping& grouping, Value output, const ConvTree& tree, const std::string& rule,
              const std::string& reason) {
    Group group;
    group.kind = Group::Kind::Special;
    group.anchor = *tree.conv;
    group.outputs = {output};
    for (const Value& input : inputs_of(grouping.graph()[*tree.conv].operation))
        grouping.demand(input);
    for (const Value& side : tree.sides) grouping.demand(side);
    group.rule = rule;
    group.reason = reason;
    std::vector<Value> swallowed = tree.inside;
    if (*tree.conv != output) swallowed.push_back(*tree.conv);
    grouping.decide(rule, true, *tree.conv, reason);
    grouping.add(std::move(group), swallowed);
}

ConvTree conv_tree(const Grouping& grouping, Value value) {
    const Operation& operation = grouping.graph()[value].operation;
    ConvTree tree;
    if (is_convolution(operation))
        tree.conv = value;
    else if (is_elementwise(operation))
        walk_down(grouping, value, 0, tree);
    return tree;
}

void conv_epilogue(Grouping& grouping, Value value) {
    const ConvTree tree = conv_tree(grouping, value);
    if (!tree.conv || *tree.conv == value || has_library(grouping.graph().dtype(*tree.conv)))
        return;
    add_conv(grouping, value, tree, "direct-conv-epilogue",
             "what follows the convolution element by element comes before its only store");
}

void depthwise_conv(Grouping& grouping, Value value) {
    const Graph& graph = grouping.graph();
    const ConvTree tree = conv_tree(grouping, value);
    if (!tree.conv || !has_library(graph.dtype(*tree.conv))) return;
    const auto* conv = graph.get_if<op::Conv>(*tree.conv);
    if (!conv || conv->groups == 1) return;
    const Ints w = graph.shape(conv->w).to_ints();
    constexpr std::int64_t kLargest = 16;  // a kernel's side
    for (std::size_t a = 2; a < w.size(); ++a)
        if (w[a] > kLargest) return;
    if (w[1] != 1 || w[0] != conv->groups) return;
    add_conv(grouping, value, tree, "depthwise-conv",
             "each channel by itself: bound by memory, so one pass with all that follows");
}

}  // namespace

std::vector<Rule> depthwise_rules() {
    return {{{"depthwise-conv",
              "A depthwise convolution with the elementwise operations after it: a kernel of ours"},
             depthwise_conv}};
}

std::vector<Rule> special_rules() {
    return {{{"direct-conv-epilogue",
              "Elementwise operations after a convolution that no library takes: its epilogue"},
             conv_epilogue},
            {{"own-kernel", "An operation with a kernel of its own: a step"}, own_kernel}};
}

std::optional<std::string> why_not_special(const Graph& graph, Value value) {
    const Operation& operation = graph[value].operation;
    if (std::holds_alternative<op::If>(operation))
        return "control flow runs on the CPU only: the data decide which branch is taken";
    if (std::holds_alternative<op::Loop>(operation))
        return "control flow runs on the CPU only: the data decide how often the body runs";
    if (std::holds_alternative<op::NonZero>(operation))
        return "its result decides sizes, which a plan fixes beforehand";
    if (std::holds_alternative<op::ReadDims>(operation))
        return "its result decides sizes, which a plan fixes beforehand; a constant operand would "
               "do";
    constexpr std::int64_t kWidest = 512;
    if (const auto* attention = graph.get_if<op::Attention>(value)) {
        const Dim& width = graph.shape(attention->v)[3];
        if (width.is_constant() && width.value() > kWidest)
            return "values " + std::to_string(width.value()) +
                   " wide: the attention kernel takes at most " + std::to_string(kWidest);
    }
    return std::nullopt;
}

}  // namespace kn::cuda
