// Losses over classes: x [N, C, d...], target [N, d...], weight [C].
#include "onnx/import_util.h"

namespace kn::onnx {

namespace {

Ints all_axes(Var x) {
    Ints axes;
    for (std::size_t axis = 0; axis < x.rank(); ++axis)
        axes.push_back(static_cast<std::int64_t>(axis));
    return axes;
}

Var negative_log_likelihood(Node& node, Var log_probability) {
    Var target = cast(node.input(1), DType::I64);
    const auto weight = node.optional_input(2);
    const std::string reduction = node.attr_string("reduction", "mean");
    if (reduction != "none" && reduction != "sum" && reduction != "mean")
        node.broken("reduction is '" + reduction + "'");
    if (log_probability.rank() < 2)
        node.broken("the scores are " + log_probability.shape().to_string() + ", not [N, C, ...]");
    std::optional<Var> counted;
    if (node.has_attr("ignore_index")) {
        const auto ignored = static_cast<double>(node.attr_int("ignore_index"));
        counted = not_equal(target, scalar_like(target, ignored));
        target = select(*counted, target, zero_like(target));
    }
    Var loss = -squeeze(gather_elements(log_probability, unsqueeze(target, {1}), 1), {1});
    Var share =
        weight ? gather(*weight, target, 0) : full(node.graph(), loss.dtype(), loss.shape(), 1);
    if (weight) loss = loss * share;
    if (counted) {
        loss = select(*counted, loss, zero_like(loss));
        share = select(*counted, share, zero_like(share));
    }
    if (reduction == "none") return loss;
    const Ints axes = all_axes(loss);
    if (reduction == "sum") return sum(loss, axes);
    if (!weight && !counted) return mean(loss, axes);
    return sum(loss, axes) / sum(share, axes);
}

std::vector<Var> import_negative_log_likelihood(Node& node) {
    return {negative_log_likelihood(node, node.input(0))};
}

std::vector<Var> import_softmax_cross_entropy(Node& node) {
    const Var log_probability = log_softmax(node.input(0), 1);
    return {negative_log_likelihood(node, log_probability), log_probability};
}

}  // namespace

std::vector<ImportRow> loss_rows() {
    return {
        {"", "NegativeLogLikelihoodLoss", 12, import_negative_log_likelihood},
        {"", "SoftmaxCrossEntropyLoss", 12, import_softmax_cross_entropy},
    };
}

}  // namespace kn::onnx
