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
        if (const auto* shift = graph_.get_if<op::Broadcast>(term))
            return !std::exchange(shift_, shift->x);
        const auto* product = binary(graph_, term, BinaryOp::Mul);
        if (!product || (product->a != squeezed_ && product->b != squeezed_)) return false;
        const auto* scale =
            graph_.get_if<op::Broadcast>(product->a == squeezed_ ? product->b : product->a);
        return scale && !std::exchange(scale_, scale->x);
    }

    const Graph& graph_;
    Value squeezed_;
    std::optional<Value> before_, scale_, shift_;
    bool has_before_ = false;
};

bool is_row(const Ints& shape) {
    return shape.size() > 2 &&
           std::all_of(shape.begin() + 2, shape.end(), [](std::int64_t size) { return size == 1; });
}

}  // namespace

std::optional<SqueezeScaling> find_scaling(const Graph& graph, const Group& group,
                                           const std::optional<Value>& before) {
    const auto scaling = Search(graph, group.roles.at("squeezed"), before).run(group.outputs.at(0));
    if (!scaling || !is_row(graph.shape(scaling->scale).to_ints())) return std::nullopt;
    if (scaling->shift && !is_row(graph.shape(*scaling->shift).to_ints())) return std::nullopt;
    return scaling;
}

std::optional<Value> bias_of_image(const Graph& graph, const Group& group) {
    const auto* sum = binary(graph, group.roles.at("squeezed"), BinaryOp::Add);
    const auto& mean = std::get<op::Reduce>(graph[group.roles.at("mean")].operation);
    if (!sum || mean.op != ReduceOp::Mean) return std::nullopt;
    if (sum->a != group.anchor && sum->b != group.anchor) return std::nullopt;
    const Value bias = sum->a == group.anchor ? sum->b : sum->a;
    const auto* wide = graph.get_if<op::Broadcast>(bias);
    if (!wide || !is_row(graph.shape(wide->x).to_ints())) return std::nullopt;
    return bias;
}

}  // namespace kn::cuda
