// LSTM, GRU and RNN: each direction is one op::Recurrent.
#include <algorithm>
#include <cctype>

#include <fmt/core.h>

#include "onnx/recurrent.h"

namespace kn::onnx {

namespace {

struct ActivationRow {
    const char* name;
    CellActivation activation;
    bool has_alpha;
    bool has_beta;
    double alpha;
    double beta;
};

constexpr ActivationRow activation_table[] = {
    {"sigmoid", CellActivation::Sigmoid, false, false, 0, 0},
    {"tanh", CellActivation::Tanh, false, false, 0, 0},
    {"relu", CellActivation::Relu, false, false, 0, 0},
    {"affine", CellActivation::Affine, true, true, 1, 0},
    {"leakyrelu", CellActivation::LeakyRelu, true, false, 0.01, 0},
    {"thresholdedrelu", CellActivation::ThresholdedRelu, true, false, 1, 0},
    {"scaledtanh", CellActivation::ScaledTanh, true, true, 1, 1},
    {"hardsigmoid", CellActivation::HardSigmoid, true, true, 0.2, 0.5},
    {"elu", CellActivation::Elu, true, false, 1, 0},
    {"softsign", CellActivation::Softsign, false, false, 0, 0},
    {"softplus", CellActivation::Softplus, false, false, 0, 0},
};

const ActivationRow& find_activation(Node& node, const std::string& name) {
    std::string lower = name;
    std::transform(lower.begin(), lower.end(), lower.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    const auto row =
        std::find_if(std::begin(activation_table), std::end(activation_table),
                     [&](const ActivationRow& candidate) { return lower == candidate.name; });
    if (row == std::end(activation_table))
        node.broken(fmt::format("activation '{}'", printable(name)));
    return *row;
}

/// The functions of all directions, in order; alphas and betas are consumed by those that have
/// them.
void read_activations(Node& node, RecurrentAttributes& attributes) {
    const std::vector<std::string> usual =
        attributes.kind == CellKind::Lstm  ? std::vector<std::string>{"Sigmoid", "Tanh", "Tanh"}
        : attributes.kind == CellKind::Gru ? std::vector<std::string>{"Sigmoid", "Tanh"}
                                           : std::vector<std::string>{"Tanh"};
    const std::size_t count = usual.size() * attributes.directions;
    std::vector<std::string> names =
        node.attr_strings("activations").value_or(std::vector<std::string>{});
    if (names.empty())
        for (std::size_t i = 0; i < attributes.directions; ++i)
            names.insert(names.end(), usual.begin(), usual.end());
    // RNN's default names two functions, whatever the number of directions.
    if (names.size() > count && attributes.kind == CellKind::Rnn && attributes.directions == 1)
        names.resize(count);
    if (names.size() != count)
        node.broken(fmt::format("{} activations, expected {}", names.size(), count));
    const auto alphas = node.attr_floats("activation_alpha").value_or(std::vector<double>{});
    const auto betas = node.attr_floats("activation_beta").value_or(std::vector<double>{});
    std::size_t next_alpha = 0, next_beta = 0;
    for (const std::string& name : names) {
        const ActivationRow& row = find_activation(node, name);
        attributes.activations.push_back(row.activation);
        const bool given_alpha = row.has_alpha && next_alpha < alphas.size();
        const bool given_beta = row.has_beta && next_beta < betas.size();
        attributes.alphas.push_back(given_alpha ? alphas[next_alpha++] : row.alpha);
        attributes.betas.push_back(given_beta ? betas[next_beta++] : row.beta);
    }
}

/// Row `direction` of axis `axis`.
Var pick(Var x, std::size_t direction, std::int64_t axis) {
    const auto i = static_cast<std::int64_t>(direction);
    return squeeze(slice(x, axis, i, i + 1), {axis});
}

template <class T>
std::vector<T> part(const std::vector<T>& all, std::size_t direction, std::size_t count) {
    const auto first = all.begin() + static_cast<std::ptrdiff_t>(direction * count);
    return {first, first + static_cast<std::ptrdiff_t>(count)};
}

std::vector<Var> import_recurrent(Node& node, CellKind kind) {
    const RecurrentAttributes attributes = read_recurrent(node, kind);
    RecurrentInputs inputs{node.input(0),
                           node.input(1),
                           node.input(2),
                           node.optional_input(3),
                           node.optional_input(4),
                           node.optional_input(5),
                           {},
                           {}};
    if (kind == CellKind::Lstm) {
        inputs.c0 = node.optional_input(6);
        inputs.peephole = node.optional_input(7);
    }
    return build_recurrent(node, attributes, inputs);
}

std::vector<Var> import_lstm(Node& node) { return import_recurrent(node, CellKind::Lstm); }
std::vector<Var> import_gru(Node& node) { return import_recurrent(node, CellKind::Gru); }
std::vector<Var> import_rnn(Node& node) { return import_recurrent(node, CellKind::Rnn); }

}  // namespace

RecurrentAttributes read_recurrent(Node& node, CellKind kind) {
    RecurrentAttributes attributes;
    attributes.kind = kind;
    const std::string direction = node.attr_string("direction", "forward");
    if (direction == "bidirectional")
        attributes.directions = 2;
    else if (direction == "reverse")
        attributes.reverse = true;
    else if (direction != "forward")
        node.broken(fmt::format("direction is '{}'", printable(direction)));
    attributes.batch_first = node.opset() >= 14 && node.attr_int("layout", 0) != 0;
    if (node.has_attr("clip")) attributes.clip = node.attr_float("clip", 0);
    attributes.linear_before_reset =
        kind == CellKind::Gru && node.attr_int("linear_before_reset", 0) != 0;
    attributes.input_forget = kind == CellKind::Lstm && node.attr_int("input_forget", 0) != 0;
    if (node.has_attr("hidden_size")) attributes.hidden_size = node.attr_int("hidden_size");
    read_activations(node, attributes);
    return attributes;
}

std::vector<Var> build_recurrent(Node& node, const RecurrentAttributes& attributes,
                                 const RecurrentInputs& inputs) {
    Graph& g = node.graph();
    if (inputs.x.rank() != 3 || inputs.w.rank() != 3 || inputs.r.rank() != 3)
        node.broken("X, W and R must have rank 3");
    const auto directions = static_cast<std::int64_t>(attributes.directions);
    g.require_equal(inputs.w.shape()[0], directions, "directions of W");
    g.require_equal(inputs.r.shape()[0], directions, "directions of R");
    if (attributes.hidden_size)
        g.require_equal(inputs.r.shape()[2], *attributes.hidden_size,
                        "hidden_size and R's last dim");
    // Batch-major: x [B, T, I], states [B, directions, H], Y [B, T, directions, H].
    const bool batch_first = attributes.batch_first;
    Var x = batch_first ? permute(inputs.x, {1, 0, 2}) : inputs.x;
    const std::int64_t state_axis = batch_first ? 1 : 0;
    const bool lstm = attributes.kind == CellKind::Lstm;
    const std::size_t functions = attributes.activations.size() / attributes.directions;

    std::vector<Var> all, last, cell;
    for (std::size_t d = 0; d < attributes.directions; d++) {
        auto chosen = [&](const std::optional<Var>& input,
                          std::int64_t axis) -> std::optional<Value> {
            return input ? std::optional<Value>(pick(*input, d, axis)) : std::nullopt;
        };
        op::Recurrent op{.kind = attributes.kind,
                         .x = x,
                         .w = pick(inputs.w, d, 0),
                         .r = pick(inputs.r, d, 0),
                         .bias = chosen(inputs.bias, 0),
                         .lengths = {},
                         .h0 = chosen(inputs.h0, state_axis),
                         .c0 = chosen(inputs.c0, state_axis),
                         .peephole = chosen(inputs.peephole, 0),
                         .activations = part(attributes.activations, d, functions),
                         .alphas = part(attributes.alphas, d, functions),
                         .betas = part(attributes.betas, d, functions),
                         .clip = attributes.clip,
                         .reverse = attributes.reverse || d == 1,
                         .linear_before_reset = attributes.linear_before_reset,
                         .input_forget = attributes.input_forget};
        if (inputs.lengths) op.lengths = cast(*inputs.lengths, DType::I32);
        const Value result = g.add(op);
        all.push_back(unsqueeze(g.var(result), {batch_first ? 2 : 1}));
        last.push_back(unsqueeze(g.var(g.result(result, 1)), {state_axis}));
        if (lstm) cell.push_back(unsqueeze(g.var(g.result(result, 2)), {state_axis}));
    }
    Var y = concat(all, batch_first ? 2 : 1);
    if (batch_first) y = permute(y, {1, 0, 2, 3});
    std::vector<Var> outputs = {y, concat(last, state_axis)};
    if (lstm) outputs.push_back(concat(cell, state_axis));
    return outputs;
}

std::vector<ImportRow> recurrent_rows() {
    return {
        {"", "LSTM", 7, import_lstm},
        {"", "GRU", 7, import_gru},
        {"", "RNN", 7, import_rnn},
    };
}

}  // namespace kn::onnx
