// LinearAttention: a recurrence over the sequence, as a Loop.
#include "onnx/attention.h"
#include "onnx/import_util.h"

namespace kn::onnx {

namespace {

std::int64_t read_heads(Node& node, const char* name) {
    const auto heads = node.attr_int(name);
    if (heads < 1) node.broken(fmt::format("{} is {}", name, heads));
    return heads;
}

/// [B, T, n] in f32 as [T, B, inner...], which holds the same elements for each step.
Var by_step(Var x, const Shape& inner) {
    const Shape shape = x.shape();
    Shape split = {shape[0], shape[1]};
    Ints perm = {1, 0};
    for (std::size_t i = 0; i < inner.rank(); ++i) {
        split.push_back(inner[i]);
        perm.push_back(static_cast<std::int64_t>(i) + 2);
    }
    return permute(reshape(cast(x, DType::F32), split), perm);
}

/// What the steps read, each [T, B, ...].
struct Sequences {
    Var q;                     ///< [T, B, G, R, K]: R query heads for each of G states
    Var k;                     ///< [T, B, G, K, 1]
    Var v;                     ///< [T, B, G, 1, V]
    std::optional<Var> decay;  ///< [T, B, G, K or 1, 1]
    std::optional<Var> beta;   ///< [T, B, G or 1, 1, 1]
};

/// One step: (number, condition, state [B, G, K, V], sequences...) -> (condition, state, q state).
std::shared_ptr<const Graph> step_graph(const Sequences& s, const Type& state_type) {
    auto body = std::make_shared<Graph>();
    const Var index = body->input("step", DType::I64, {});
    const Var condition = body->input("condition", DType::Bool, {});
    Var state = body->input("state", state_type.dtype, state_type.shape);
    auto at_step = [&](const char* name, Var sequence) {
        return gather(body->input(name, DType::F32, sequence.shape()), index, 0);
    };
    const Var q = at_step("q", s.q);
    const Var k = at_step("k", s.k);
    Var v = at_step("v", s.v);
    if (s.decay) state = state * exp(at_step("decay", *s.decay));
    if (s.beta) v = at_step("beta", *s.beta) * (v - sum(state * k, {2}, true));
    state = state + k * v;
    body->output("condition", condition);
    body->output("state", state);
    body->output("y", matmul(q, state));
    return body;
}

/// S = exp(decay) S + k (x) u, y = scale q S, where u is v or beta (v - k S).
std::vector<Var> import_linear_attention(Node& node) {
    Graph& g = node.graph();
    const Var q = node.input(0);
    const Var k = node.input(1);
    const Var v = node.input(2);
    const auto past = node.optional_input(3);
    const auto decay = node.optional_input(4);
    const auto beta = node.optional_input(5);
    const auto heads = read_heads(node, "q_num_heads");
    const auto groups = read_heads(node, "kv_num_heads");
    node.ignore_attr("chunk_size");  // of no effect on the result
    const std::string rule = node.attr_string("update_rule", "gated_delta");
    const bool gated = rule == "gated" || rule == "gated_delta";
    const bool delta = rule == "delta" || rule == "gated_delta";
    if (!gated && !delta && rule != "linear")
        node.broken(fmt::format("update_rule is '{}'", printable(rule)));
    if (gated != decay.has_value() || delta != beta.has_value())
        node.broken(fmt::format("decay or beta do not fit update_rule '{}'", rule));
    if (q.rank() != 3 || k.rank() != 3 || v.rank() != 3 || heads % groups != 0)
        node.broken("query, key or value do not have rank 3, or their heads do not fit");
    if ((decay && decay->rank() != 3) || (beta && beta->rank() != 3))
        node.broken("decay or beta does not have rank 3");

    const Dim batch = q.shape()[0];
    const Dim length = q.shape()[1];
    const Dim key_size = floor_div(q.shape()[2], heads);
    const Dim value_size = floor_div(v.shape()[2], groups);
    const double scale = read_scale(node, by_step(q, {heads, key_size}));
    Sequences sequences{by_step(q, {groups, heads / groups, key_size}) * scale,
                        by_step(k, {groups, key_size, 1}),
                        by_step(v, {groups, 1, value_size}),
                        {},
                        {}};
    if (decay) {
        const bool by_head = decay->shape()[2] == groups;
        sequences.decay = by_step(*decay, {groups, by_head ? Dim(1) : key_size, 1});
    }
    if (beta) sequences.beta = by_step(*beta, {beta->shape()[2], 1, 1});

    const Type state{DType::F32, {batch, groups, key_size, value_size}};
    const Var start = past ? cast(*past, DType::F32) : full(g, state.dtype, state.shape, 0);
    std::vector<Value> captures = {sequences.q, sequences.k, sequences.v};
    if (sequences.decay) captures.push_back(*sequences.decay);
    if (sequences.beta) captures.push_back(*sequences.beta);
    const Shape stacked = {length, batch, groups, heads / groups, value_size};
    const Value loop = g.add(op::Loop{scalar_dim(g, length),
                                      std::nullopt,
                                      {start},
                                      captures,
                                      step_graph(sequences, state),
                                      {state, {DType::F32, stacked}}});
    const Var y = permute(g.var(g.result(loop, 1)), {1, 0, 2, 3, 4});
    return {cast(reshape(y, {batch, length, value_size * heads}), q.dtype()),
            cast(g.var(loop), past ? past->dtype() : q.dtype())};
}

}  // namespace

std::vector<ImportRow> linear_attention_rows() {
    return {{"", "LinearAttention", 27, import_linear_attention}};
}

}  // namespace kn::onnx
