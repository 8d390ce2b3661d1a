// Constant folding: operations whose operands are all constants are computed while optimising, by
// the CPU executor.
#include <algorithm>

#include <kn/graph/cpu.h>

#include "optimizer/rules.h"

namespace kn::optimizer {

namespace {

/// Constants up to this size are folded freely.
constexpr std::size_t small_bytes = std::size_t{64} << 10;

/// Views that a later operation may take in without storing them.
bool is_view(const Operation& operation) {
    return is_any_of<op::Reshape, op::Permute, op::Broadcast, op::Slice, op::Window, op::Iota>(
        operation);
}

bool can_compute(const Operation& operation) {
    return !std::holds_alternative<op::Input>(operation) &&
           !std::holds_alternative<op::Constant>(operation) &&
           !std::holds_alternative<op::ReadDims>(operation) &&
           !std::holds_alternative<op::NonZero>(operation) &&
           !std::holds_alternative<op::Result>(operation) &&
           !std::holds_alternative<op::If>(operation) &&
           !std::holds_alternative<op::Loop>(operation);
}

/// The bytes of the constants under v, if nothing else is there.
std::optional<std::size_t> constant_bytes(const Graph& graph, Value v) {
    const Node& node = graph[v];
    if (const auto* constant = std::get_if<op::Constant>(&node.operation))
        return constant->data->tensor.byte_size();
    if (!is_view(node.operation) || !symbols_of(node).empty()) return std::nullopt;
    std::size_t bytes = 0;
    for (const Value& input : inputs_of(node.operation)) {
        const auto part = constant_bytes(graph, input);
        if (!part) return std::nullopt;
        bytes += *part;
    }
    return bytes;
}

std::size_t byte_size(const Type& type) {
    return static_cast<std::size_t>(type.shape.size().value()) * size_of(type.dtype);
}

bool worth_storing(const Rewriter& r, const Operation& operation, std::size_t in, std::size_t out) {
    // Every executor reads these two in place, and what they stem from tells more than their
    // elements would.
    if (is_any_of<op::Broadcast, op::ShapeValue>(operation))
        return std::holds_alternative<op::ShapeValue>(operation);
    if (out <= small_bytes) return true;
    // Views of large constants cost nothing; MatMul takes a transposed weight as it is.
    if (is_view(operation)) return false;
    return out <= in || (out <= 4 * in && out - in <= r.session.options.fold_growth);
}

/// Copies the constant expression under v.
Value copy_expression(const Graph& from, Graph& to, Value v) {
    return to.add(map_inputs(from[v].operation,
                             [&](Value input) { return copy_expression(from, to, input); }));
}

Tensor compute(const Graph& graph, Value v) {
    Graph part;
    part.output("", copy_expression(graph, part, v));
    return cpu::run(part, {}, {.threads = 1}).at(0);
}

/// The constant without its elements where they can be computed again, so that recipes do not keep
/// every step in memory.
std::shared_ptr<const ConstantData> stripped(Session& session,
                                             const std::shared_ptr<const ConstantData>& data) {
    if (!data->recipe || data->tensor.byte_size() <= small_bytes) return data;
    auto& copy = session.stripped[data.get()];
    if (!copy) {
        copy = std::make_shared<const ConstantData>(ConstantData{
            Tensor(data->tensor.dtype(), {0}), data->name, data->recipe, data->frozen});
        session.keep.push_back(data);
    }
    return copy;
}

/// How v is computed from initializers; nothing if no part of it has a name.
std::shared_ptr<const ConstantData::Recipe> recipe_of(Session& session, const Graph& graph,
                                                      Value v) {
    auto recipe = std::make_shared<ConstantData::Recipe>();
    bool named = false;
    recipe->operation = map_inputs(graph[v].operation, [&](Value input) {
        std::shared_ptr<const ConstantData> data;
        if (const auto* constant = graph.get_if<op::Constant>(input)) {
            data = stripped(session, constant->data);
        } else {
            auto inner = recipe_of(session, graph, input);
            if (inner) {
                data = std::make_shared<const ConstantData>(
                    ConstantData{Tensor(graph.dtype(input), {0}), {}, std::move(inner), false});
            } else {
                // No initializer lies behind it, so its elements are all there is to know.
                data = std::make_shared<const ConstantData>(
                    ConstantData{compute(graph, input), {}, nullptr, false});
            }
        }
        named |= !data->name.empty() || data->recipe;
        recipe->inputs.push_back(std::move(data));
        return Value{static_cast<std::uint32_t>(recipe->inputs.size() - 1), 0};
    });
    return named ? recipe : nullptr;
}

/// The constant that v is.
Value store(Rewriter& r, Value v, Tensor tensor) {
    auto recipe = recipe_of(r.session, r.graph, v);
    return r.graph.constant(std::make_shared<const ConstantData>(
        ConstantData{std::move(tensor), {}, std::move(recipe), false}));
}

/// A reshaped constant shares its elements.
std::optional<Tensor> reshaped(const Graph& graph, const op::Reshape& reshape) {
    const auto* constant = graph.get_if<op::Constant>(reshape.x);
    if (!constant || !reshape.shape.is_static()) return std::nullopt;
    return constant->data->tensor.reshaped(reshape.shape.to_ints());
}

std::optional<Value> fold(Rewriter& r, Value v) {
    Graph& graph = r.graph;
    const Node& node = graph[v];
    if (!can_compute(node.operation) || node.results.size() != 1) return std::nullopt;
    std::optional<Tensor> tensor;
    if (const auto* reshape = std::get_if<op::Reshape>(&node.operation))
        tensor = reshaped(graph, *reshape);
    if (!tensor) {
        std::size_t in = 0;
        for (const Value& input : inputs_of(node.operation)) {
            const auto bytes = constant_bytes(graph, input);
            if (!bytes) return std::nullopt;
            in += *bytes;
        }
        if (!symbols_of(node).empty() ||
            !worth_storing(r, node.operation, in, byte_size(node.results[0])))
            return std::nullopt;
        tensor = compute(graph, v);
    }
    return store(r, v, std::move(*tensor));
}

/// Layers read their weights densely, so a weight that is a view of a constant (one number
/// broadcast, say) is stored once instead of being expanded in every run. MatMul takes a transposed
/// weight as it is.
std::optional<Value> with_stored_weights(Rewriter& r, Value v) {
    const auto stored = [&](Value weights, bool any_view) -> std::optional<Value> {
        const Type type = r.graph.type(weights);
        if (r.is<op::Constant>(weights) || (!any_view && !r.is<op::Broadcast>(weights)))
            return std::nullopt;
        if (!constant_bytes(r.graph, weights) || !type.shape.is_static()) return std::nullopt;
        if (byte_size(type) > std::max(small_bytes, r.session.options.fold_growth))
            return std::nullopt;
        return r.stored(weights, [&] { return store(r, weights, compute(r.graph, weights)); });
    };
    if (auto conv = r.get<op::Conv>(v)) {
        const auto w = stored(conv->w, true);
        if (!w) return std::nullopt;
        conv->w = *w;
        return r.graph.add(*conv);
    }
    if (auto conv = r.get<op::ConvTranspose>(v)) {
        const auto w = stored(conv->w, true);
        if (!w) return std::nullopt;
        conv->w = *w;
        return r.graph.add(*conv);
    }
    if (auto matmul = r.get<op::MatMul>(v)) {
        const auto b = stored(matmul->b, false);
        if (!b) return std::nullopt;
        matmul->b = *b;
        return r.graph.add(*matmul);
    }
    return std::nullopt;
}

}  // namespace

std::optional<Value> constant_folding(Rewriter& r, Value v) {
    const auto folded = fold(r, v);
    return folded ? folded : with_stored_weights(r, v);
}

Value Rewriter::folded(Value v) {
    if (session.options.disabled.contains("constant_folding")) return v;
    return fold(*this, v).value_or(v);
}

}  // namespace kn::optimizer
