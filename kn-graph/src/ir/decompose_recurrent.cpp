// Recurrent as a Loop over the steps.
#include "ir/decompose_parts.h"

namespace kn::decomposition {

namespace {

/// A cell function; `clip` bounds the operands of all but the LSTM's last.
Var activated(const op::Recurrent& op, std::size_t function, Var x) {
    if (op.clip && function < 2) x = clamp(x, -*op.clip, *op.clip);
    const double alpha = op.alphas[function];
    const double beta = op.betas[function];
    switch (op.activations[function]) {
        case CellActivation::Sigmoid: return sigmoid(x);
        case CellActivation::Tanh: return tanh(x);
        case CellActivation::Relu: return relu(x);
        case CellActivation::Affine: return alpha * x + beta;
        case CellActivation::LeakyRelu: return leaky_relu(x, alpha);
        case CellActivation::ThresholdedRelu:
            return select(less(x, scalar_like(x, alpha)), scalar_like(x, 0), x);
        case CellActivation::ScaledTanh: return alpha * tanh(beta * x);
        case CellActivation::HardSigmoid: return hard_sigmoid(x, alpha, beta);
        case CellActivation::Elu: return elu(x, alpha);
        case CellActivation::Softsign: return unary(UnaryOp::Softsign, x);
        case CellActivation::Softplus: return unary(UnaryOp::Softplus, x);
    }
    return x;
}

struct State {
    Var h;
    std::optional<Var> c;
};

/// Part k of a [rows, gates * hidden] matrix or a [gates * hidden] vector.
Var part(Var x, std::int64_t k, const Dim& hidden) {
    return slice(x, static_cast<std::int64_t>(x.rank()) - 1, k * hidden, (k + 1) * hidden);
}

State lstm_step(const op::Recurrent& op, Var gates, const State& old, std::optional<Var> peephole,
                const Dim& hidden) {
    const auto gate = [&](std::int64_t k, std::int64_t weights, Var cell) {
        const Var sum = part(gates, k, hidden);
        return activated(op, 0, peephole ? sum + part(*peephole, weights, hidden) * cell : sum);
    };
    const Var in = gate(0, 0, *old.c);
    const Var forget = op.input_forget ? 1 - in : gate(2, 2, *old.c);
    const Var c = forget * *old.c + in * activated(op, 1, part(gates, 3, hidden));
    return {gate(1, 1, c) * activated(op, 2, c), c};
}

/// `gates` lacks the recurrent part. `bias`: that of the new state's gate which the reset scales,
/// if any.
Var gru_step(const op::Recurrent& op, Var gates, Var h, Var r, std::optional<Var> bias,
             const Dim& hidden) {
    const auto recurrent = [&](Var state, std::int64_t k) {
        return matmul(state, transpose(slice(r, 0, k * hidden, (k + 1) * hidden)));
    };
    const Var update = activated(op, 0, part(gates, 0, hidden) + recurrent(h, 0));
    const Var reset = activated(op, 0, part(gates, 1, hidden) + recurrent(h, 1));
    Var seen = op.linear_before_reset ? recurrent(h, 2) : recurrent(reset * h, 2);
    if (bias) seen = seen + *bias;
    if (op.linear_before_reset) seen = reset * seen;
    const Var fresh = activated(op, 1, part(gates, 2, hidden) + seen);
    return (1 - update) * fresh + update * h;
}

/// What the body sees of the values around it: each captured value becomes an input of the body.
class Body {
  public:
    Var capture(Var outer) {
        captures_.push_back(outer);
        return graph->input("capture_" + std::to_string(captures_.size()), outer.dtype(),
                            outer.shape());
    }
    std::optional<Var> capture(std::optional<Var> outer) {
        if (!outer) return std::nullopt;
        return capture(*outer);
    }
    const std::vector<Value>& captures() const { return captures_; }

    std::shared_ptr<Graph> graph = std::make_shared<Graph>();

  private:
    std::vector<Value> captures_;
};

/// What the gates get from the inputs of all steps, and the bias that is added later: of the
/// state's part of a GRU's last gate, before it is reset.
struct Projection {
    Var sums;
    std::optional<Var> late_bias;
};

Projection project(const op::Recurrent& op, Graph& graph, Var x, const Dim& hidden,
                   std::int64_t gates) {
    Projection out{linear(x, transpose(widened(graph, op.w))), {}};
    if (!op.bias) return out;
    const Var bias = widened(graph, *op.bias);
    out.sums = out.sums + slice(bias, 0, 0, gates * hidden);
    Var recurrent = slice(bias, 0, gates * hidden, 2 * gates * hidden);
    if (op.linear_before_reset) {
        out.late_bias = part(recurrent, 2, hidden);
        recurrent = concat({part(recurrent, 0, hidden), part(recurrent, 1, hidden),
                            full(graph, x.dtype(), {hidden}, 0)},
                           0);
    }
    out.sums = out.sums + recurrent;
    return out;
}

}  // namespace

Vars parts(const op::Recurrent& op, Graph& graph) {
    const Var x = widened(graph, op.x);
    const Var r = widened(graph, op.r);
    const bool lstm = op.kind == CellKind::Lstm;
    const bool gru = op.kind == CellKind::Gru;
    const std::int64_t gates = lstm ? 4 : gru ? 3 : 1;
    const Dim steps = x.shape()[0], batch = x.shape()[1], hidden = r.shape()[1];
    const Projection projection = project(op, graph, x, hidden, gates);
    const auto initial = [&](const std::optional<Value>& value) {
        return value ? widened(graph, *value) : full(graph, x.dtype(), {batch, hidden}, 0);
    };
    std::vector<Value> carried{initial(op.h0)};
    if (lstm) carried.push_back(initial(op.c0));

    Body body;
    Graph& inner = *body.graph;
    const Var i = inner.input("step", DType::I64, {});
    const Var go = inner.input("go", DType::Bool, {});
    State old{inner.input("h", x.dtype(), {batch, hidden}), std::nullopt};
    if (lstm) old.c = inner.input("c", x.dtype(), {batch, hidden});
    const Var all_gates = body.capture(projection.sums);
    const Var recurrent_weights = body.capture(r);
    const auto peephole =
        body.capture(op.peephole ? std::optional(widened(graph, *op.peephole)) : std::nullopt);
    const auto bias = body.capture(projection.late_bias);
    const auto lengths =
        op.lengths ? std::optional(body.capture(graph.var(*op.lengths))) : std::nullopt;

    const Var t = op.reverse ? scalar_dim(inner, steps - 1) - i : i;
    Var sums = gather(all_gates, t, 0);
    if (!gru) sums = sums + matmul(old.h, transpose(recurrent_weights));
    State next = lstm  ? lstm_step(op, sums, old, peephole, hidden)
                 : gru ? State{gru_step(op, sums, old.h, recurrent_weights, bias, hidden), {}}
                       : State{activated(op, 0, sums), {}};
    Var seen = next.h;
    if (lengths) {
        const Var active = unsqueeze(less(t, cast(*lengths, DType::I64)), {1});
        seen = select(active, next.h, scalar_like(next.h, 0));
        next.h = select(active, next.h, old.h);
        if (lstm) next.c = select(active, *next.c, *old.c);
    }
    inner.output("go", go);
    inner.output("h", next.h);
    if (lstm) inner.output("c", *next.c);
    inner.output("seen", seen);

    std::vector<Type> results(carried.size(), Type{x.dtype(), {batch, hidden}});
    results.push_back({x.dtype(), {steps, batch, hidden}});
    const Value loop = graph.add(
        op::Loop{scalar_dim(graph, steps), {}, carried, body.captures(), body.graph, results});
    const auto result = [&](std::size_t k) { return graph.var(graph.result(loop, k)); };
    Var all = result(carried.size());
    if (op.reverse) all = flip(all, 0);
    Vars out{all, result(0)};
    if (lstm) out.push_back(result(1));
    for (Var& value : out) value = cast(value, graph.dtype(op.x));
    return out;
}

}  // namespace kn::decomposition
