// Normalisation over the batch, spatial axes, groups, trailing axes and neighbouring channels.
#include "onnx/import_util.h"

namespace kn::onnx {

namespace {

double read_epsilon(Node& node, double otherwise = 1e-5) {
    return node.attr_float("epsilon", otherwise);
}

/// The dtype of stage one of a normalisation: what stash_type asks for, but never less than x has.
DType stash_dtype(Node& node, DType x) {
    const DType asked = node.has_attr("stash_type")
                            ? node.attr_dtype("stash_type").value_or(DType::F32)
                            : DType::F32;
    if (!is_float(asked)) node.broken("stash_type is not a floating-point type");
    // Normalisation of half types works in f32 by itself.
    return size_of(asked) > 4 && size_of(asked) > size_of(x) ? asked : x;
}

/// x [N, C, ...]: all axes but C.
Ints all_but_channels(Var x) {
    Ints axes = {0};
    for (std::size_t i = 2; i < x.rank(); ++i) axes.push_back(static_cast<std::int64_t>(i));
    return axes;
}

/// A vector over axis 1 of a tensor of `rank` dims.
Var per_channel(Var vector, std::size_t rank) { return along_axis(vector, 1, rank); }

std::vector<Var> import_batch_normalization(Node& node) {
    Var x = node.input(0);
    const DType dtype = x.dtype();
    const DType wide = wide_dtype(dtype);
    Var scale = cast(node.input(1), wide);
    Var bias = cast(node.input(2), wide);
    Var mean_in = node.input(3);
    Var variance_in = node.input(4);
    const double epsilon = read_epsilon(node);
    const double momentum = node.attr_float("momentum", 0.9);
    const bool training = node.opset() >= 14 && node.attr_int("training_mode", 0) != 0;
    for (std::size_t i = training ? 3 : 1; i < node.output_count(); ++i)
        if (node.wants_output(i)) node.unsupported("outputs for training");
    // spatial = 0: one statistic for each element of [C, ...].
    const bool per_element =
        node.opset() < 9 && node.attr_int("spatial", 1) == 0 && mean_in.rank() > 1;
    // A vector x has one channel.
    const bool vector = x.rank() == 1;
    if (vector) x = unsqueeze(x, {1});
    if (x.rank() < 2) node.broken("the input is a scalar");
    auto shaped = [&](Var v) { return per_element ? v : per_channel(v, x.rank()); };

    std::vector<Var> statistics;
    Var mu = cast(mean_in, wide);
    Var variance = cast(variance_in, wide);
    if (training) {
        Var wide_x = cast(x, wide);
        Var batch_mean = mean(wide_x, all_but_channels(x));
        Var batch_variance =
            mean(square(wide_x - per_channel(batch_mean, x.rank())), all_but_channels(x));
        statistics = {
            cast(mu * momentum + batch_mean * (1 - momentum), mean_in.dtype()),
            cast(variance * momentum + batch_variance * (1 - momentum), variance_in.dtype())};
        mu = batch_mean;
        variance = batch_variance;
    }
    Var factor = scale / sqrt(variance + epsilon);
    Var y = x * shaped(cast(factor, dtype)) + shaped(cast(bias - mu * factor, dtype));
    if (vector) y = squeeze(y, {1});
    statistics.insert(statistics.begin(), y);
    return statistics;
}

std::vector<Var> import_instance_normalization(Node& node) {
    Var x = node.input(0);
    if (x.rank() < 2) node.broken("the input is not [N, C, ...]");
    Var y = normalize(NormKind::MeanVariance, x, axes_from(x.rank(), 2), read_epsilon(node));
    return {y * per_channel(node.input(1), x.rank()) + per_channel(node.input(2), x.rank())};
}

std::vector<Var> import_group_normalization(Node& node) {
    Var x = node.input(0);
    if (x.rank() < 2) node.broken("the input is not [N, C, ...]");
    const auto groups = node.attr_int("num_groups");
    if (groups < 1) node.broken(fmt::format("num_groups is {}", groups));
    Var scale = node.input(1);
    Var bias = node.input(2);
    const double epsilon = read_epsilon(node);
    const DType stage = node.opset() >= 21 ? stash_dtype(node, x.dtype()) : x.dtype();
    const Dim channels = x.shape()[1];
    if (node.opset() < 21) {
        // Version 18 has one scale a group.
        const Shape spread = {groups, floor_div(channels, groups)};
        scale = reshape(broadcast_to(unsqueeze(scale, {1}), spread), {channels});
        bias = reshape(broadcast_to(unsqueeze(bias, {1}), spread), {channels});
    }
    if (stage == x.dtype()) return {group_norm(x, groups, scale, bias, epsilon)};
    Shape grouped = {x.shape()[0], groups, floor_div(channels, groups)};
    for (std::size_t i = 2; i < x.rank(); ++i) grouped.push_back(x.shape()[i]);
    Var split = reshape(cast(x, stage), grouped);
    Var y = reshape(normalize(NormKind::MeanVariance, split, axes_from(split.rank(), 2), epsilon),
                    x.shape());
    return {cast(y, x.dtype()) * per_channel(scale, x.rank()) + per_channel(bias, x.rank())};
}

std::vector<Var> import_layer_normalization(Node& node) {
    Var x = node.input(0);
    Var scale = node.input(1);
    const auto bias = node.optional_input(2);
    const auto first = normalize_axis(node.attr_int("axis", -1), x.rank());
    const double epsilon = read_epsilon(node);
    const DType stage = stash_dtype(node, x.dtype());
    const Ints axes = axes_from(x.rank(), first);
    Var y = normalize(NormKind::MeanVariance, cast(x, stage), axes, epsilon);
    y = cast(y, x.dtype()) * scale;
    if (bias) y = y + *bias;
    if (!node.wants_output(1) && !node.wants_output(2)) return {y};
    Var wide_x = cast(x, wide_dtype(stage));
    const DType saved = x.dtype() == DType::F64 ? DType::F64 : DType::F32;
    Var mu = mean(wide_x, axes, true);
    Var deviation = sqrt(mean(square(wide_x - mu), axes, true) + epsilon);
    return {y, cast(mu, saved), cast(1.0 / deviation, saved)};
}

std::vector<Var> import_rms_normalization(Node& node) {
    Var x = node.input(0);
    Var scale = node.input(1);
    const auto first = normalize_axis(node.attr_int("axis", -1), x.rank());
    const DType stage = stash_dtype(node, x.dtype());
    const DType result = scale.dtype();
    Var wide_x = cast(x, size_of(result) > size_of(stage) ? result : stage);
    Var y = normalize(NormKind::MeanSquare, wide_x, axes_from(x.rank(), first), read_epsilon(node));
    return {cast(y, result) * scale};
}

/// RMSNormalization as ONNX Runtime wrote it before there was one.
std::vector<Var> import_simplified_layer_normalization(Node& node) {
    std::vector<Var> outputs = import_rms_normalization(node);
    if (!node.wants_output(1)) return outputs;
    Var x = node.input(0);
    const Ints axes = axes_from(x.rank(), normalize_axis(node.attr_int("axis", -1), x.rank()));
    Var deviation =
        sqrt(mean(square(cast(x, wide_dtype(x.dtype()))), axes, true) + read_epsilon(node));
    outputs.push_back(1.0 / deviation);
    return outputs;
}

/// x / |x|_p along an axis, 0 where the norm is 0.
std::vector<Var> import_lp_normalization(Node& node) {
    Var x = node.input(0);
    const Ints axis = {
        static_cast<std::int64_t>(normalize_axis(node.attr_int("axis", -1), x.rank()))};
    const auto p = node.attr_int("p", 2);
    if (p != 1 && p != 2) node.broken(fmt::format("p is {}", p));
    Var wide_x = cast(x, wide_dtype(x.dtype()));
    Var norm = p == 1 ? sum(abs(wide_x), axis, true) : sqrt(sum(square(wide_x), axis, true));
    Var zero = scalar_like(norm, 0);
    return {cast(select(equal(norm, zero), zero, wide_x / norm), x.dtype())};
}

std::vector<Var> import_mean_variance_normalization(Node& node) {
    Var x = node.input(0);
    Ints axes = node.attr_ints("axes").value_or(Ints{0, 2, 3});
    for (auto& axis : axes) axis = static_cast<std::int64_t>(normalize_axis(axis, x.rank()));
    Var wide_x = cast(x, wide_dtype(x.dtype()));
    Var difference = wide_x - mean(wide_x, axes, true);
    Var deviation = sqrt(mean(square(difference), axes, true));
    return {cast(difference / (deviation + 1e-9), x.dtype())};
}

/// x / (bias + alpha / size * (sum of squares over `size` neighbouring channels))^beta
std::vector<Var> import_lrn(Node& node) {
    Var x = node.input(0);
    if (x.rank() < 2) node.broken("the input is not [N, C, ...]");
    const auto size = node.attr_int("size");
    if (size < 1) node.broken(fmt::format("size is {}", size));
    const double alpha = node.attr_float("alpha", 1e-4);
    const double beta = node.attr_float("beta", 0.75);
    const double bias = node.attr_float("bias", 1.0);
    Var wide_x = cast(x, wide_dtype(x.dtype()));
    std::vector<Dim> before(x.rank(), 0), after(x.rank(), 0);
    before[1] = (size - 1) / 2;
    after[1] = size - 1 - (size - 1) / 2;
    Var squares = pad(square(wide_x), before, after, 0.0);
    Var sums = sum(window(squares, {1}, {size}, {1}, {1}), {-1});
    Var divisor = pow(sums * (alpha / static_cast<double>(size)) + bias, scalar_like(sums, beta));
    return {cast(wide_x / divisor, x.dtype())};
}

}  // namespace

std::vector<ImportRow> norm_rows() {
    return {
        {"", "BatchNormalization", 7, import_batch_normalization},
        {"", "InstanceNormalization", 6, import_instance_normalization},
        {"", "GroupNormalization", 18, import_group_normalization},
        // ONNX Runtime's optimiser writes it into models of any opset.
        {"", "LayerNormalization", 1, import_layer_normalization},
        {"", "RMSNormalization", 23, import_rms_normalization},
        {"", "SimplifiedLayerNormalization", 1, import_simplified_layer_normalization},
        {"com.microsoft", "SimplifiedLayerNormalization", 1, import_simplified_layer_normalization},
        {"", "LpNormalization", 1, import_lp_normalization},
        {"", "MeanVarianceNormalization", 9, import_mean_variance_normalization},
        {"", "LRN", 1, import_lrn},
    };
}

}  // namespace kn::onnx
