#include "lower/squeeze_scaling.h"

#include <algorithm>
#include <utility>

namespace kn::cuda {

namespace {

const op::Binary* binary(const Graph& graph, Value value, BinaryOp op) {
    const auto* binary = graph.get_if<op::Binary>(value);
    return binary && binary->op == op ? binary : nullptr;
}

bool is_zero(const Graph& graph, Value value) {
    while (graph.get_if<op::Broadcast>(value) || graph.get_if<op::Reshape>(value))
        value = inputs_of(graph[value].operation)[0];
    const auto* constant = graph.get_if<op::Constant>(value);
    return constant && constant->data->tensor.size() == 1 && constant->data->tensor.at(0) == 0;
}

/// Whether all positions of an image have the same numbers.
bool is_wide_row(const Graph& graph, Value value) {
    const auto* wide = graph.get_if<op::Broadcast>(value);
    if (!wide || graph.shape(wide->x).rank() != graph.shape(value).rank()) return false;
    const Ints row = graph.shape(wide->x).to_ints();
    return row.size() > 2 &&
           std::all_of(row.begin() + 2, row.end(), [](std::int64_t size) { return size == 1; });
}

/// Goes through a sum, whose terms may be in any order.
class Search {
  public:
    Search(const Graph& graph, Value squeezed, std::optional<Value> before)
        : graph_(graph), squeezed_(squeezed), before_(before) {}

    std::optional<SqueezeScaling> run(Value y) {
        SqueezeScaling scaling;
        if (const auto* max = binary(graph_, y, BinaryOp::Max)) {
            scaling.relu = true;
            y = is_zero(graph_, max->b) ? max->a : max->b;
            if (!is_zero(graph_, y == max->a ? max->b : max->a)) return std::nullopt;
        }
        if (!add(y) || !scale_ || before_.has_value() != has_before_) return std::nullopt;
        scaling.scale = *scale_;
        scaling.shift = shift_;
        return scaling;
    }

  private:
    bool add(Value term) {
        if (const auto* sum = binary(graph_, term, BinaryOp::Add))
            return add(sum->a) && add(sum->b);
        if (before_ && term == *before_) return !std::exchange(has_before_, true);
        if (is_wide_row(graph_, term)) return !std::exchange(shift_, term);
        const auto* product = binary(graph_, term, BinaryOp::Mul);
        if (!product || (product->a != squeezed_ && product->b != squeezed_)) return false;
        const Value scale = product->a == squeezed_ ? product->b : product->a;
        return is_wide_row(graph_, scale) && !std::exchange(scale_, scale);
    }

    const Graph& graph_;
    Value squeezed_;
    std::optional<Value> before_, scale_, shift_;
    bool has_before_ = false;
};

}  // namespace

std::optional<SqueezeScaling> find_scaling(const Graph& graph, const Group& group,
                                           const std::optional<Value>& before) {
    return Search(graph, group.roles.at("squeezed"), before).run(group.outputs.at(0));
}

std::optional<Value> bias_of_image(const Graph& graph, const Group& group) {
    const auto* sum = binary(graph, group.roles.at("squeezed"), BinaryOp::Add);
    const auto& mean = std::get<op::Reduce>(graph[group.roles.at("mean")].operation);
    if (!sum || mean.op != ReduceOp::Mean) return std::nullopt;
    if (sum->a != group.anchor && sum->b != group.anchor) return std::nullopt;
    const Value bias = sum->a == group.anchor ? sum->b : sum->a;
    return is_wide_row(graph, bias) ? std::optional(bias) : std::nullopt;
}

}  // namespace kn::cuda
