// If and Loop: inlined where the condition is known, else operations with closed bodies.
#include "onnx/control.h"

#include <algorithm>
#include <array>

#include <fmt/core.h>

namespace kn::onnx {

namespace {

void add_capture(Graph& body, std::vector<Value>& captures, const Graph& outer, Value value) {
    const Type& type = outer.type(value);
    captures.push_back(value);
    (void)body.input(fmt::format("capture {}", captures.size()), type.dtype, type.shape);
}

Scope inner_scope(NodeReader& node, Graph& graph) {
    const Scope& outer = node.scope();
    if (outer.depth >= max_depth)
        fail_unsupported(fmt::format("nested deeper than {} levels", max_depth));
    return {graph,          &node.scope(), outer.opsets, outer.attributes, node.name() + "/",
            outer.depth + 1};
}

std::shared_ptr<Graph> new_body(const Graph& outer) {
    auto body = std::make_shared<Graph>();
    body->share_fresh_symbols(outer);
    return body;
}

/// One element under rank 0.
Value as_scalar(Graph& graph, Value value) {
    if (graph.shape(value).rank() == 0) return value;
    return reshape(graph.var(value), {});
}

}  // namespace

std::optional<std::vector<Slot>> Loader::import_body(Scope& scope, const pb::GraphProto& graph) {
    import_initializers(scope, graph);
    import_nodes(scope, graph.node());
    std::vector<Slot> outputs;
    bool poisoned = false;
    for (const auto& output : graph.output()) {
        const auto slot = resolve(scope, output.name());
        if (!slot || slot->state == Slot::State::Absent)
            fail_broken(fmt::format("output '{}' of the subgraph {}", output.name(),
                                    why_undefined(scope, output.name())));
        poisoned = poisoned || slot->state == Slot::State::Poisoned;
        outputs.push_back(*slot);
    }
    if (poisoned) return {};
    return outputs;
}

// ---- If ----

namespace {

using Bodies = std::array<std::shared_ptr<Graph>, 2>;

/// The type of result `i` of an If: sizes in which the branches differ, or that one of them decides
/// at run time, are new symbols of `graph`.
Type joined_type(Graph& graph, const Bodies& bodies, const std::array<Slot, 2>& outputs,
                 std::size_t i) {
    const Type a = bodies[0]->type(outputs[0].value), b = bodies[1]->type(outputs[1].value);
    if (a.dtype != b.dtype)
        fail_broken(fmt::format("output {} is {} in one branch and {} in the other", i,
                                name_of(a.dtype), name_of(b.dtype)));
    if (a.shape.rank() != b.shape.rank() || outputs[0].narrow_bits != outputs[1].narrow_bits)
        fail_unsupported(fmt::format("output {} has shape {} in one branch and {} in the other", i,
                                     a.shape.to_string(), b.shape.to_string()));
    Type result = a;
    for (std::size_t axis = 0; axis < a.shape.rank(); ++axis)
        if (!(a.shape[axis] == b.shape[axis]) || is_local(*bodies[0], a.shape[axis]) ||
            is_local(*bodies[1], a.shape[axis]))
            result.shape[axis] = Dim::symbol(graph.fresh_symbol("branch"));
    return result;
}

}  // namespace

std::vector<Slot> Loader::import_if(NodeReader& node) {
    Graph& graph = node.graph();
    const Value condition = node.input(0);
    const std::array<const pb::GraphProto*, 2> branches = {&node.attr_graph("then_branch"),
                                                           &node.attr_graph("else_branch")};
    for (const auto* branch : branches) {
        if (branch->input_size() > 0) fail_broken("a branch has inputs");
        if (static_cast<std::size_t>(branch->output_size()) < node.output_count())
            fail_broken(fmt::format("a branch has {} outputs, {} are needed", branch->output_size(),
                                    node.output_count()));
    }
    if (graph.dtype(condition) != DType::Bool) fail_broken("the condition is not bool");
    if (const auto known = folding_.known_tensor(graph, condition)) {
        if (known->size() != 1)
            fail_broken(fmt::format("the condition has {} elements", known->size()));
        Scope scope = inner_scope(node, graph);
        auto outputs = import_body(scope, *branches[known->int_at(0) != 0 ? 0 : 1]);
        graph.set_origins({node.name()});
        return outputs ? *outputs : poisoned(node);
    }

    Bodies bodies;
    std::array<std::vector<Slot>, 2> outputs;
    std::vector<Value> captures;
    for (std::size_t b = 0; b < 2; ++b) {
        bodies[b] = keep(new_body(graph));
        Scope scope = inner_scope(node, *bodies[b]);
        // Both bodies take the same captures: what the first one found comes first.
        for (const Value& value : captures) add_capture(*bodies[b], scope.captures, graph, value);
        auto made = import_body(scope, *branches[b]);
        if (!made) return poisoned(node);
        outputs[b] = std::move(*made);
        captures = std::move(scope.captures);
    }
    std::vector<Value> first(captures.begin(), captures.begin() + static_cast<std::ptrdiff_t>(
                                                                      bodies[0]->inputs().size()));
    for (std::size_t i = first.size(); i < captures.size(); ++i)
        add_capture(*bodies[0], first, graph, captures[i]);

    op::If operation{condition, captures, bodies[0], bodies[1], {}};
    std::vector<int> narrow;
    for (std::size_t i = 0; i < node.output_count(); ++i) {
        operation.results.push_back(joined_type(graph, bodies, {outputs[0][i], outputs[1][i]}, i));
        narrow.push_back(outputs[0][i].narrow_bits);
        for (std::size_t k = 0; k < 2; ++k)
            bodies[k]->output(fmt::format("output {}", i), outputs[k][i].value);
    }
    if (operation.results.empty()) return {};
    const Value value = graph.add(std::move(operation));
    std::vector<Slot> slots;
    for (std::size_t i = 0; i < node.output_count(); ++i)
        slots.push_back({Slot::State::Known, graph.result(value, i), narrow[i]});
    return slots;
}

bool is_local(const Graph& body, const Dim& dim) {
    std::set<std::string> symbols;
    dim.collect_symbols(symbols);
    return std::any_of(symbols.begin(), symbols.end(), [&](const std::string& symbol) {
        return body.run_time_symbols().count(symbol) > 0;
    });
}

// ---- loops ----

std::optional<LoopBody> LoopImporter::import(const std::vector<Value>& start) {
    Graph& outer = node_.graph();
    std::vector<Type> types;
    for (const Value& value : start) types.push_back(outer.type(value));
    std::vector<std::vector<bool>> varies;
    for (const Type& type : types) varies.emplace_back(type.shape.rank(), false);

    while (true) {
        LoopBody result;
        result.graph = loader_.keep(new_body(outer));
        Graph& graph = *result.graph;
        Scope scope = inner_scope(node_, graph);
        const Value iteration = graph.input("iteration", DType::I64, {});
        result.condition_passed = graph.input("condition", DType::Bool, {});
        std::vector<Value> carried;
        for (std::size_t i = 0; i < types.size(); ++i)
            carried.push_back(
                graph.input(fmt::format("carried {}", i + 1), types[i].dtype, types[i].shape));
        bind_inputs_(scope, iteration, result.condition_passed, carried);
        auto outputs = loader_.import_body(scope, body_);
        if (!outputs) return {};
        result.outputs = std::move(*outputs);
        result.captures = std::move(scope.captures);

        bool changed = false;
        for (std::size_t i = 0; i < types.size(); ++i) {
            const Slot& slot = result.outputs.at(first_carried_ + i);
            const Type& made = graph.type(slot.value);
            if (made.dtype != types[i].dtype || slot.narrow_bits > 0)
                fail_broken(fmt::format("carried value {} starts as {} and becomes {}", i + 1,
                                        name_of(types[i].dtype), name_of(made.dtype)));
            if (made.shape.rank() != types[i].shape.rank())
                fail_unsupported(fmt::format("carried value {} changes its rank, from {} to {}",
                                             i + 1, types[i].shape.rank(), made.shape.rank()));
            for (std::size_t axis = 0; axis < made.shape.rank(); ++axis) {
                if (varies[i][axis] || made.shape[axis] == types[i].shape[axis]) continue;
                // The size changes from one iteration to the next: a symbol of the body, bound anew
                // in each.
                varies[i][axis] = changed = true;
                types[i].shape[axis] = Dim::symbol(outer.fresh_symbol("carried"));
            }
        }
        if (changed) continue;
        for (std::size_t i = 0; i < types.size(); ++i) {
            for (std::size_t axis = 0; axis < types[i].shape.rank(); ++axis)
                if (varies[i][axis]) result.varying.insert(types[i].shape[axis].to_string());
            Type type = types[i];
            for (std::size_t axis = 0; axis < type.shape.rank(); ++axis)
                if (varies[i][axis]) type.shape[axis] = Dim::symbol(outer.fresh_symbol("loop"));
            result.results.push_back(std::move(type));
        }
        outer.set_origins({node_.name()});
        return result;
    }
}

Type LoopImporter::stacked(const LoopBody& body, const Slot& output, const Dim& count) {
    if (output.narrow_bits > 0) fail_unsupported("a scanned value of packed integers");
    Type type = body.graph->type(output.value);
    std::vector<Dim> dims = {count};
    for (const Dim& dim : type.shape) {
        std::set<std::string> symbols;
        dim.collect_symbols(symbols);
        const bool local =
            is_local(*body.graph, dim) ||
            std::any_of(symbols.begin(), symbols.end(),
                        [&](const std::string& symbol) { return body.varying.count(symbol) > 0; });
        dims.push_back(local ? Dim::symbol(node_.graph().fresh_symbol("loop")) : dim);
    }
    return {type.dtype, Shape(dims)};
}

namespace {

void check_loop_body(const pb::GraphProto& body, std::size_t carried, std::size_t wanted) {
    if (static_cast<std::size_t>(body.input_size()) != 2 + carried)
        fail_broken(
            fmt::format("the body has {} inputs, {} are passed", body.input_size(), 2 + carried));
    if (static_cast<std::size_t>(body.output_size()) < 1 + std::max(carried, wanted))
        fail_broken(fmt::format("the body has {} outputs, {} are needed", body.output_size(),
                                1 + std::max(carried, wanted)));
    for (const auto& input : body.input())
        if (input.has_type() && input.type().value_case() != pb::TypeProto::kTensorType &&
            input.type().value_case() != 0)
            fail_unsupported("carried values that are no tensors");
}

}  // namespace

std::vector<Slot> Loader::import_loop(NodeReader& node) {
    Graph& graph = node.graph();
    const pb::GraphProto& proto = node.attr_graph("body");
    std::optional<Value> trip_count, condition;
    if (const auto count = node.optional_input(0)) trip_count = count->value;
    if (const auto start = node.optional_input(1)) condition = start->value;
    std::vector<Value> carried;
    for (std::size_t i = 2; i < node.input_count(); ++i) carried.push_back(node.input(i));
    const std::size_t count = carried.size();
    check_loop_body(proto, count, node.output_count());

    LoopImporter importer(
        *this, node, proto, 1,
        [&](Scope& scope, Value iteration, Value going_on, const std::vector<Value>& values) {
            // The number and the condition may be declared as vectors of one.
            const auto as_declared = [&](int i, Value value) {
                const auto& type = proto.input(i).type().tensor_type();
                if (type.shape().dim_size() == 1) value = reshape(scope.graph.var(value), {1});
                return Slot{Slot::State::Known, value};
            };
            scope.names.emplace(proto.input(0).name(), as_declared(0, iteration));
            scope.names.emplace(proto.input(1).name(), as_declared(1, going_on));
            for (std::size_t i = 0; i < values.size(); ++i) {
                const std::string& name = proto.input(static_cast<int>(2 + i)).name();
                if (!scope.names.emplace(name, Slot{Slot::State::Known, values[i]}).second)
                    fail_broken(fmt::format("the body has two inputs '{}'", name));
            }
        });
    auto body = importer.import(carried);
    if (!body) return poisoned(node);

    Graph& inner = *body->graph;
    const Value goes_on = as_scalar(inner, body->outputs[0].value);
    const auto is_true = [&](const Graph& where, Value value) {
        const auto known =
            where.dtype(value) == DType::Bool ? folding_.known_tensor(where, value) : std::nullopt;
        return known && known->size() == 1 && known->int_at(0) != 0;
    };
    if (condition && is_true(graph, *condition)) condition.reset();
    const bool always =
        !condition && (goes_on == body->condition_passed || is_true(inner, goes_on));

    Dim trips;
    const auto known_trips = trip_count ? folding_.known_dims(graph, *trip_count) : std::nullopt;
    if (always && known_trips && known_trips->size() == 1)
        trips = max(known_trips->front(), 0);
    else
        trips = Dim::symbol(graph.fresh_symbol("trips"));

    const std::size_t scanned = static_cast<std::size_t>(proto.output_size()) - 1 - count;
    inner.output("condition", goes_on);
    for (std::size_t i = 0; i < count + scanned; ++i)
        inner.output(fmt::format("output {}", i), body->outputs[1 + i].value);
    for (std::size_t i = 0; i < scanned; ++i)
        body->results.push_back(importer.stacked(*body, body->outputs[1 + count + i], trips));
    if (body->results.empty()) return {};
    const Value value = graph.add(
        op::Loop{trip_count, condition, carried, body->captures, body->graph, body->results});
    std::vector<Slot> slots;
    for (std::size_t i = 0; i < node.output_count(); ++i)
        slots.push_back({Slot::State::Known, graph.result(value, i)});
    return slots;
}

}  // namespace kn::onnx
