// The ONNX recurrent layers in two steps, for LSTM, GRU, RNN and their quantised variants.
#pragma once

#include "onnx/node.h"

namespace kn::onnx {

struct RecurrentAttributes {
    CellKind kind = CellKind::Lstm;
    std::size_t directions = 1;
    bool reverse = false;
    bool batch_first = false;
    std::optional<double> clip;
    bool linear_before_reset = false;
    bool input_forget = false;
    std::optional<std::int64_t> hidden_size;
    std::vector<CellActivation> activations;  ///< of all directions
    std::vector<double> alphas;               ///< one each
    std::vector<double> betas;
};

/// As ONNX has them: x [T, B, I], w [directions, gates * H, I], r [directions, gates * H, H], ...
struct RecurrentInputs {
    Var x;
    Var w;
    Var r;
    std::optional<Var> bias;
    std::optional<Var> lengths;
    std::optional<Var> h0;
    std::optional<Var> c0;
    std::optional<Var> peephole;
};

RecurrentAttributes read_recurrent(Node& node, CellKind kind);
/// Y, Y_h and, for an LSTM, Y_c.
std::vector<Var> build_recurrent(Node& node, const RecurrentAttributes& attributes,
                                 const RecurrentInputs& inputs);

}  // namespace kn::onnx
