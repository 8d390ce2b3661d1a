#include "ir/rewrite.h"

#include <algorithm>

namespace kn {

namespace {

Dim substitute_field(const Dim& dim, const SymbolMap& symbols) { return dim.substitute(symbols); }

std::vector<Dim> substitute_field(std::vector<Dim> dims, const SymbolMap& symbols) {
    for (Dim& dim : dims) dim = dim.substitute(symbols);
    return dims;
}

Shape substitute_field(const Shape& shape, const SymbolMap& symbols) {
    return Shape(substitute_field(shape.dims(), symbols));
}

std::vector<Type> substitute_field(std::vector<Type> types, const SymbolMap& symbols) {
    for (Type& type : types) type.shape = substitute_field(type.shape, symbols);
    return types;
}

// A symbol that an operation binds at run time may get another name, but not a number.
std::string rename(const std::string& symbol, const SymbolMap& symbols) {
    const auto found = symbols.find(symbol);
    if (found == symbols.end()) return symbol;
    const auto name = found->second.symbol_name();
    if (!name)
        throw GraphError("the dim '" + symbol + "' is decided at run time and cannot be fixed");
    return *name;
}

template <class Field>
constexpr bool mentions_symbols =
    std::is_same_v<Field, Dim> || std::is_same_v<Field, std::vector<Dim>> ||
    std::is_same_v<Field, Shape> || std::is_same_v<Field, std::vector<Type>>;

template <class Field>
void substitute_in(Field& field, const SymbolMap& symbols) {
    if constexpr (mentions_symbols<Field>)
        field = substitute_field(field, symbols);
    else if constexpr (std::is_same_v<Field, std::shared_ptr<const Graph>>)
        field = substitute(field, symbols);
}

bool mentions(const Node& node, const SymbolMap& symbols) {
    const std::set<std::string> used = symbols_of(node);
    return std::any_of(symbols.begin(), symbols.end(),
                       [&](const auto& entry) { return used.count(entry.first); });
}

bool mentions(const Graph& graph, const SymbolMap& symbols) {
    for (std::size_t i = 0; i < graph.size(); i++)
        if (mentions(graph[graph.value_at(i)], symbols)) return true;
    return false;
}

void collect(const Dim& dim, std::set<std::string>& out) { dim.collect_symbols(out); }
void collect(const std::vector<Dim>& dims, std::set<std::string>& out) {
    for (const Dim& dim : dims) dim.collect_symbols(out);
}
void collect(const Shape& shape, std::set<std::string>& out) { collect(shape.dims(), out); }
void collect(const std::vector<Type>& types, std::set<std::string>& out) {
    for (const Type& type : types) collect(type.shape, out);
}
void collect(const std::shared_ptr<const Graph>& body, std::set<std::string>& out) {
    for (std::size_t i = 0; i < body->size(); i++)
        out.merge(symbols_of((*body)[body->value_at(i)]));
}

}  // namespace

std::set<std::string> symbols_of(const Node& node) {
    std::set<std::string> out;
    collect(node.results, out);
    detail::visit_fields(
        [&](const char*, const auto& field) {
            using Field = std::decay_t<decltype(field)>;
            if constexpr (mentions_symbols<Field> ||
                          std::is_same_v<Field, std::shared_ptr<const Graph>>)
                collect(field, out);
        },
        node.operation);
    return out;
}

Operation substitute(const Operation& operation, const SymbolMap& symbols) {
    if (symbols.empty()) return operation;
    Operation out = operation;
    detail::visit_fields([&](const char*, auto& field) { substitute_in(field, symbols); }, out);
    if (auto* read = std::get_if<op::ReadDims>(&out))
        for (std::string& symbol : read->symbols) symbol = rename(symbol, symbols);
    if (auto* non_zero = std::get_if<op::NonZero>(&out))
        non_zero->count = rename(non_zero->count, symbols);
    return out;
}

std::shared_ptr<const Graph> substitute(const std::shared_ptr<const Graph>& body,
                                        const SymbolMap& symbols) {
    if (symbols.empty() || !mentions(*body, symbols)) return body;
    auto out = std::make_shared<Graph>();
    out->share_fresh_symbols(*body);
    ValueMap map(*body);
    copy_live(*out, *body, map, symbols);
    for (const NamedValue& output : body->outputs()) out->output(output.name, map(output.value));
    return out;
}

void copy_live(Graph& target, const Graph& source, ValueMap& map, const SymbolMap& symbols) {
    // First, so that the message names what demands it rather than the operation that trips over it
    // later.
    for (const Constraint& c : source.constraints()) {
        const Dim a = c.a.substitute(symbols), b = c.b.substitute(symbols);
        switch (c.kind) {
            case Constraint::Kind::Equal: target.require_equal(a, b, c.origin); break;
            case Constraint::Kind::Broadcast: target.broadcast(a, b, c.origin); break;
            case Constraint::Kind::NotNegative: target.require_not_negative(a, c.origin); break;
        }
    }
    const std::vector<std::string> origins_before = target.current_origins();
    for (const Value& value : source.live()) {
        if (map.find(value)) continue;
        const Node& node = source[value];
        Operation operation =
            map_inputs(substitute(node.operation, symbols), [&](Value v) { return map(v); });
        target.set_origins(node.origins);
        if (auto* input = std::get_if<op::Input>(&operation)) {
            map.set(value, target.input(input->name, input->dtype, input->shape));
            continue;
        }
        if (const auto* sizes = std::get_if<op::ShapeValue>(&operation)) {
            const bool known = std::all_of(sizes->dims.begin(), sizes->dims.end(),
                                           [](const Dim& dim) { return dim.is_constant(); });
            if (known) {
                Ints values;
                for (const Dim& dim : sizes->dims) values.push_back(dim.value());
                map.set(value,
                        target.constant(Tensor::from_span<std::int64_t>(sizes->shape, values)));
                continue;
            }
        }
        map.set(value, target.add(std::move(operation)));
    }
    target.set_origins(origins_before);
}

ValueMap::ValueMap(const Graph& from) : map_(from.size()) {}

void ValueMap::set(Value from, Value to) { map_.at(from.index) = to; }

Value ValueMap::operator()(Value from) const {
    const auto found = find(from);
    KN_CHECK(found.has_value(), "value %" + std::to_string(from.index) + " has no counterpart");
    return *found;
}

std::optional<Value> ValueMap::find(Value from) const {
    return from.index < map_.size() ? map_[from.index] : std::nullopt;
}

std::vector<Value> call(Graph& target, const Graph& source, const std::vector<Value>& inputs,
                        const SymbolMap& symbols) {
    if (inputs.size() != source.inputs().size())
        throw GraphError("call: " + std::to_string(inputs.size()) + " values for a graph of " +
                         std::to_string(source.inputs().size()) + " inputs");
    // Symbols of the source's inputs follow from the shapes given; those bound at run time must not
    // meet others of the same name.
    SymbolMap replacement = symbols;
    for (std::size_t i = 0; i < inputs.size(); i++) {
        const Shape& wanted = source.shape(source.inputs()[i].value);
        const Shape& given = target.shape(inputs[i]);
        const std::string what =
            "input '" + printable(source.inputs()[i].name) + "' of the called graph";
        if (target.dtype(inputs[i]) != source.dtype(source.inputs()[i].value))
            throw GraphError(what + " is " +
                             std::string(name_of(source.dtype(source.inputs()[i].value))) +
                             ", not " + std::string(name_of(target.dtype(inputs[i]))));
        if (wanted.rank() != given.rank())
            throw GraphError(what + " has shape " + wanted.to_string() + ", which " +
                             given.to_string() + " does not fit");
        for (std::size_t axis = 0; axis < wanted.rank(); axis++)
            if (const auto name = wanted[axis].symbol_name())
                replacement.try_emplace(*name, given[axis]);
    }
    for (std::size_t i = 0; i < inputs.size(); i++) {
        const Shape& wanted = source.shape(source.inputs()[i].value);
        for (std::size_t axis = 0; axis < wanted.rank(); axis++)
            target.require_equal(
                wanted[axis].substitute(replacement), target.shape(inputs[i])[axis],
                "input '" + printable(source.inputs()[i].name) + "' of the called graph");
    }
    for (const auto& [symbol, value] : source.run_time_symbols())
        if (target.run_time_symbols().count(symbol))
            replacement[symbol] = Dim::symbol(target.fresh_symbol(symbol));
    ValueMap map(source);
    for (std::size_t i = 0; i < inputs.size(); i++) map.set(source.inputs()[i].value, inputs[i]);
    copy_live(target, source, map, replacement);
    std::vector<Value> out;
    for (const NamedValue& output : source.outputs()) out.push_back(map(output.value));
    return out;
}

Graph extract(const Graph& graph, const std::vector<NamedValue>& inputs,
              const std::vector<NamedValue>& outputs) {
    // The copy's outputs decide what is live, so that nothing outside the part is looked at.
    Graph whole = graph.clone();
    whole.set_outputs(outputs);
    Graph out;
    out.share_fresh_symbols(graph);
    ValueMap map(whole);
    for (const NamedValue& input : inputs) {
        const Type& type = whole.type(input.value);
        map.set(input.value, out.input(input.name, type.dtype, type.shape));
    }
    // Only what lies behind the outputs and not behind the new inputs.
    std::vector<bool> needed(whole.size(), false);
    for (const NamedValue& output : outputs) needed[output.value.index] = true;
    for (std::size_t i = whole.size(); i-- > 0;) {
        if (!needed[i] || map.find(whole.value_at(i))) continue;
        for (const Value& input : inputs_of(whole[whole.value_at(i)].operation))
            needed[input.index] = true;
    }
    for (std::size_t i = 0; i < whole.size(); i++) {
        const Value value = whole.value_at(i);
        if (!needed[i] || map.find(value)) continue;
        const Node& node = whole[value];
        out.set_origins(node.origins);
        if (const auto* input = std::get_if<op::Input>(&node.operation))
            map.set(value, out.input(input->name, input->dtype, input->shape));
        else
            map.set(value, out.add(map_inputs(node.operation, [&](Value v) { return map(v); })));
    }
    out.set_origins({});
    for (const NamedValue& output : outputs) out.output(output.name, map(output.value));
    return out;
}

}  // namespace kn
