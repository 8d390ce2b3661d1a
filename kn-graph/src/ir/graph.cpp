#include <kn/graph/graph.h>

#include <algorithm>
#include <atomic>

#include "ir/fields.h"
#include "ir/infer.h"

namespace kn {

namespace {

std::uint32_t next_graph_id() {
    static std::atomic<std::uint32_t> counter{0};
    std::uint32_t id = 0;
    while (id == 0) id = ++counter;
    return id;
}

std::size_t hash_operation(const Operation& operation) {
    std::size_t seed = operation.index();
    detail::visit_fields(
        [&](const char*, const auto& field) {
            seed = detail::hash_mix(seed, detail::hash_of(field));
        },
        operation);
    return seed;
}

// Sizes beyond the address space are refused here, before anybody allocates.
void check_bytes(const Type& type) {
    if (!type.shape.is_static()) return;
    Ints dims = type.shape.to_ints();
    dims.push_back(static_cast<std::int64_t>(size_of(type.dtype)));
    checked_size(dims);
}

std::string describe(const std::vector<std::string>& origins) {
    std::string out;
    for (const std::string& origin : origins) out += (out.empty() ? "" : ", ") + printable(origin);
    return out;
}

}  // namespace

const Shape& Var::shape() const { return graph->shape(value); }
DType Var::dtype() const { return graph->dtype(value); }
std::size_t Var::rank() const { return shape().rank(); }

Graph::Graph() : id_(next_graph_id()), fresh_counter_(std::make_shared<std::size_t>(0)) {}
Graph::~Graph() = default;
Graph::Graph(Graph&& other) noexcept = default;
Graph& Graph::operator=(Graph&& other) noexcept = default;

Graph Graph::clone() const {
    Graph out;
    out.id_ = id_;
    out.nodes_ = nodes_;
    out.by_hash_ = by_hash_;
    out.inputs_ = inputs_;
    out.outputs_ = outputs_;
    out.constraints_ = constraints_;
    out.run_time_symbols_ = run_time_symbols_;
    out.fresh_counter_ = fresh_counter_;
    return out;
}

void Graph::reserve(std::size_t nodes) {
    nodes_.reserve(nodes);
    by_hash_.reserve(nodes);
}

void Graph::check(Value value) const {
    if (value.graph == id_ && value.index < nodes_.size()) return;
    if (value.graph == 0) throw GraphError("an empty value was used");
    throw GraphError("value %" + std::to_string(value.index) + " belongs to another graph");
}

const Node& Graph::operator[](Value value) const {
    check(value);
    return nodes_[value.index];
}

Value Graph::add(Operation operation) {
    KN_CHECK(!std::holds_alternative<std::monostate>(operation));
    for (const Value& value : inputs_of(operation)) check(value);
    const std::size_t hash = hash_operation(operation);
    for (auto [it, end] = by_hash_.equal_range(hash); it != end; ++it) {
        if (nodes_[it->second].operation == operation) {
            const Value found = value_at(it->second);
            add_origins(found, current_origins_);
            return found;
        }
    }
    std::vector<Type> results;
    try {
        results = std::visit(
            [&](const auto& op) -> std::vector<Type> {
                if constexpr (std::is_same_v<std::decay_t<decltype(op)>, std::monostate>)
                    return {};
                else
                    return infer(op, *this);
            },
            operation);
        for (const Type& type : results) check_bytes(type);
    } catch (const GraphError& error) {
        const std::string origin = describe(current_origins_);
        throw GraphError(std::string(name_of(operation)) +
                         (origin.empty() ? "" : " (from " + origin + ")") + ": " + error.what());
    }
    return append(std::move(operation), std::move(results), hash);
}

Value Graph::append(Operation operation, std::vector<Type> results, std::size_t hash) {
    KN_CHECK(!results.empty());
    if (nodes_.size() >= UINT32_MAX) throw GraphError("too many operations in one graph");
    const Value value = value_at(nodes_.size());
    // What an operation binds at run time: its symbols, or for control flow those of its results
    // that nobody bound before.
    const auto bind = [&](const std::string& symbol) {
        run_time_symbols_.try_emplace(symbol, value);
    };
    if (const auto* read = std::get_if<op::ReadDims>(&operation))
        for (const std::string& symbol : read->symbols) bind(symbol);
    if (const auto* non_zero = std::get_if<op::NonZero>(&operation)) bind(non_zero->count);
    if (is_any_of<op::If, op::Loop>(operation)) {
        std::set<std::string> known;
        for (const NamedValue& input : inputs_)
            for (const Dim& dim : shape(input.value)) dim.collect_symbols(known);
        for (const Value& input : inputs_of(operation))
            for (const Dim& dim : shape(input)) dim.collect_symbols(known);
        for (const Type& type : results)
            for (const Dim& dim : type.shape)
                if (const auto name = dim.symbol_name(); name && !known.count(*name)) bind(*name);
    }
    nodes_.push_back({std::move(operation), std::move(results), current_origins_});
    by_hash_.emplace(hash, value.index);
    return value;
}

Value Graph::result(Value source, std::size_t index) {
    if (index >= (*this)[source].results.size())
        throw GraphError("result " + std::to_string(index) + " of " +
                         std::string(name_of((*this)[source].operation)) + ", which has " +
                         std::to_string((*this)[source].results.size()));
    if (index == 0) return source;
    return add(op::Result{source, static_cast<std::int64_t>(index)});
}

Var Graph::input(const std::string& name, DType dtype, Shape shape) {
    if (find_input(name)) throw GraphError("a second input named '" + printable(name) + "'");
    const Value value = add(op::Input{name, dtype, std::move(shape)});
    inputs_.push_back({name, value});
    return var(value);
}

Var Graph::constant(Tensor tensor, std::string name) {
    return constant(std::make_shared<const ConstantData>(
        ConstantData{std::move(tensor), std::move(name), nullptr, false}));
}

Var Graph::constant(std::shared_ptr<const ConstantData> data) {
    if (!data) throw GraphError("a constant without data");
    return var(add(op::Constant{std::move(data)}));
}

void Graph::output(std::string name, Value value) {
    check(value);
    outputs_.push_back({std::move(name), value});
}

void Graph::set_outputs(std::vector<NamedValue> outputs) {
    for (const NamedValue& output : outputs) check(output.value);
    outputs_ = std::move(outputs);
}

std::optional<Value> Graph::find_input(const std::string& name) const {
    for (const NamedValue& input : inputs_)
        if (input.name == name) return input.value;
    return std::nullopt;
}

void Graph::add_origins(Value value, const std::vector<std::string>& origins) {
    check(value);
    // A value shared by very many nodes needs no complete list.
    constexpr std::size_t max_origins = 16;
    std::vector<std::string>& own = nodes_[value.index].origins;
    for (const std::string& origin : origins)
        if (own.size() < max_origins && std::find(own.begin(), own.end(), origin) == own.end())
            own.push_back(origin);
}

void Graph::add_constraint(Constraint constraint) {
    // One that is demanded twice names the first place only.
    const auto same = [&](const Constraint& other) {
        return other.kind == constraint.kind && other.a == constraint.a && other.b == constraint.b;
    };
    if (std::none_of(constraints_.begin(), constraints_.end(), same))
        constraints_.push_back(std::move(constraint));
}

void Graph::require_equal(const Dim& a, const Dim& b, const std::string& what) {
    if (a == b) return;
    const Dim difference = a - b;
    const auto low = difference.lower_bound(), high = (-difference).lower_bound();
    if ((low && *low > 0) || (high && *high > 0))
        throw GraphError(what + ": " + a.to_string() + " is not " + b.to_string());
    add_constraint({Constraint::Kind::Equal, a, b, what + describe_origin()});
}

void Graph::require_not_negative(const Dim& a, const std::string& what) {
    if (provably_ge(a, 0)) return;
    if (provably_gt(0, a)) throw GraphError(what + ": " + a.to_string() + " is negative");
    add_constraint({Constraint::Kind::NotNegative, a, 0, what + describe_origin()});
}

Dim Graph::broadcast(const Dim& a, const Dim& b, const std::string& what) {
    if (a == b || b == Dim(1)) return a;
    if (a == Dim(1)) return b;
    if (a.is_constant() && b.is_constant())
        throw GraphError(what + ": " + a.to_string() + " and " + b.to_string() +
                         " do not broadcast");
    add_constraint({Constraint::Kind::Broadcast, a, b, what + describe_origin()});
    return broadcast_dim(a, b);
}

std::string Graph::describe_origin() const {
    const std::string origin = describe(current_origins_);
    return origin.empty() ? "" : " in " + origin;
}

std::string Graph::fresh_symbol(const std::string& prefix) {
    std::set<std::string> used;
    for (const std::string& symbol : input_symbols()) used.insert(symbol);
    std::string name;
    do name = prefix + "_" + std::to_string((*fresh_counter_)++);
    while (run_time_symbols_.count(name) || used.count(name));
    return name;
}

void Graph::share_fresh_symbols(const Graph& other) { fresh_counter_ = other.fresh_counter_; }

std::vector<std::string> Graph::input_symbols() const {
    std::set<std::string> symbols;
    for (const NamedValue& input : inputs_)
        for (const Dim& dim : shape(input.value)) dim.collect_symbols(symbols);
    return {symbols.begin(), symbols.end()};
}

std::vector<Value> Graph::live() const {
    std::vector<bool> needed(nodes_.size(), false);
    std::vector<std::uint32_t> todo;
    const auto need = [&](Value value) {
        if (needed[value.index]) return;
        needed[value.index] = true;
        todo.push_back(value.index);
    };
    for (const NamedValue& input : inputs_) need(input.value);
    for (const NamedValue& output : outputs_) need(output.value);
    while (!todo.empty()) {
        const Node& node = nodes_[todo.back()];
        todo.pop_back();
        for (const Value& input : inputs_of(node.operation)) need(input);
        if (run_time_symbols_.empty()) continue;
        for (const std::string& symbol : symbols_of(node)) {
            const auto found = run_time_symbols_.find(symbol);
            if (found != run_time_symbols_.end()) need(found->second);
        }
    }
    std::vector<Value> out;
    for (std::size_t i = 0; i < nodes_.size(); i++)
        if (needed[i]) out.push_back(value_at(i));
    return out;
}

void Graph::verify() const {
    for (std::size_t i = 0; i < nodes_.size(); i++) {
        const Node& node = nodes_[i];
        KN_CHECK(!node.results.empty(), "node without result");
        for (const Value& input : inputs_of(node.operation)) {
            KN_CHECK(input.graph == id_, kn::to_string(node.operation));
            KN_CHECK(input.index < i, kn::to_string(node.operation));
        }
    }
    for (const NamedValue& output : outputs_) check(output.value);
    for (const NamedValue& input : inputs_) KN_CHECK(get_if<op::Input>(input.value), input.name);
}

}  // namespace kn
