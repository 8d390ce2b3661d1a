// Names, nodes and function calls.
#include <algorithm>
#include <array>

#include <fmt/core.h>

#include "ir/symbolic.h"
#include "onnx/loader.h"
#include "onnx/node_reader.h"

namespace kn::onnx {

namespace {

constexpr std::int64_t max_dims_read = 64;
constexpr std::size_t max_constraints = 10000;

/// Operators that treat 4-bit and 2-bit integers held as bytes as what they are.
enum class Narrow { Refused, Passed, Widened };
Narrow narrow_use(const std::string& domain, const std::string& op) {
    static constexpr std::array passed = {"Identity",  "Reshape", "Transpose", "Squeeze",
                                          "Unsqueeze", "Flatten", "Slice",     "Concat",
                                          "Split",     "Gather",  "Expand",    "Tile"};
    static constexpr std::array widened = {"Cast", "DequantizeLinear", "Shape", "Size"};
    if (!domain.empty()) return Narrow::Refused;
    if (std::find(passed.begin(), passed.end(), op) != passed.end()) return Narrow::Passed;
    if (std::find(widened.begin(), widened.end(), op) != widened.end()) return Narrow::Widened;
    return Narrow::Refused;
}

std::string full_name(const std::string& domain, const std::string& op) {
    return domain.empty() ? op : domain + "::" + op;
}

}  // namespace

// ---- names ----

std::string function_key(const std::string& domain, const std::string& name,
                         const std::string& overload) {
    return normal_domain(domain) + '\0' + name + '\0' + overload;
}

std::string normal_domain(const std::string& domain) { return domain == "ai.onnx" ? "" : domain; }

std::optional<Slot> Loader::resolve(Scope& scope, const std::string& name) {
    const auto found = scope.names.find(name);
    if (found != scope.names.end()) return found->second;
    if (scope.parent == nullptr) return {};
    std::optional<Slot> slot = resolve(*scope.parent, name);
    if (slot && slot->state == Slot::State::Known && scope.is_closed()) {
        slot = capture(scope, *slot);
        scope.names.emplace(name, *slot);
    }
    return slot;
}

std::string Loader::why_undefined(Scope& scope, const std::string& name) const {
    for (Scope* at = &scope; at != nullptr; at = at->parent) {
        if (at->nodes == nullptr) continue;
        if (at->made.empty())
            for (const auto& node : *at->nodes)
                at->made.insert(node.output().begin(), node.output().end());
        if (at->made.count(name) > 0)
            return "is made by no earlier node, only by this or a later one (a cycle, or nodes out "
                   "of order)";
    }
    return "is not defined";
}

Slot Loader::capture(Scope& scope, Slot outer) {
    Graph& from = scope.parent->graph;
    Graph& to = scope.graph;
    // What is known is made anew inside, so that shapes in the body can depend on it.
    if (const auto* constant = from.get_if<op::Constant>(outer.value)) {
        outer.value = to.add(*constant);
        return outer;
    }
    const Type& type = from.type(outer.value);
    if (is_int(type.dtype))
        if (const auto dims = folding_.known_dims(from, outer.value)) {
            const Var value = to.var(to.add(op::ShapeValue{*dims, type.shape.to_ints()}));
            outer.value = cast(value, type.dtype);
            return outer;
        }
    for (std::size_t i = 0; i < scope.captures.size(); ++i) {
        if (scope.captures[i] != outer.value) continue;
        outer.value = to.inputs()[to.inputs().size() - scope.captures.size() + i].value;
        return outer;
    }
    scope.captures.push_back(outer.value);
    outer.value =
        to.input(fmt::format("capture {}", scope.captures.size()), type.dtype, type.shape);
    return outer;
}

void Loader::define(Scope& scope, const std::string& name, Slot slot) {
    if (!scope.names.emplace(name, slot).second)
        fail_broken(fmt::format("output '{}' is defined twice", name));
}

void Loader::import_initializers(Scope& scope, const pb::GraphProto& graph) {
    for (const auto& proto : graph.initializer()) {
        const std::string& name = proto.name();
        problems_.guard(fmt::format("initializer '{}'", name), [&] {
            if (name.empty()) fail_broken("it has no name");
            const auto& overridden = options_.override_defaults;
            if (scope.parent == nullptr &&
                std::count(overridden.begin(), overridden.end(), name) > 0)
                return;
            const auto [entry, is_new] = scope.names.emplace(name, Slot{Slot::State::Poisoned});
            if (!is_new) fail_broken("it is given twice");
            Tensor tensor = weights_.take(proto);
            const int bits = element_type(proto.data_type())->bits;
            entry->second = {Slot::State::Known,
                             folding_.constant(scope.graph, std::move(tensor), name),
                             bits < 8 ? bits : 0};
        });
    }
    for (const auto& proto : graph.sparse_initializer())
        problems_.guard(fmt::format("initializer '{}'", proto.values().name()), [&] {
            scope.names.emplace(proto.values().name(), Slot{Slot::State::Poisoned});
            fail_unsupported("sparse initializers are not supported");
        });
}

// ---- nodes ----

void Loader::spend_node(const Graph& graph) {
    std::string reason;
    if (nodes_left_-- == 0) reason = "the model's functions and loops expand to too many nodes";
    if (graph.constraints().size() > max_constraints)
        reason = "too many sizes that cannot be compared; LoadOptions::dims can fix them";
    if (reason.empty()) return;
    problems_.add("", {Kind::Unsupported, reason, {}});
    problems_.raise_if_any();
}

void Loader::import_nodes(Scope& scope,
                          const google::protobuf::RepeatedPtrField<pb::NodeProto>& nodes) {
    scope.nodes = &nodes;
    int index = 0;
    for (const auto& node : nodes) {
        const std::string name =
            scope.prefix +
            (node.name().empty() ? fmt::format("{}_{}", node.op_type(), index) : node.name());
        ++index;
        const std::string where =
            fmt::format("node '{}' ({})", printable(name, 120),
                        printable(full_name(normal_domain(node.domain()), node.op_type()), 80));
        scope.graph.set_origins({name});
        import_node(scope, node, name, where);
    }
    scope.graph.set_origins({});
}

void Loader::import_node(Scope& scope, const pb::NodeProto& proto, const std::string& name,
                         const std::string& where) {
    spend_node(scope.graph);
    std::vector<Slot> outputs;
    problems_.guard(where, [&] {
        NodeReader reader(*this, scope, proto, name);
        if (!reader.is_poisoned()) outputs = outputs_of_node(reader);
    });
    // Also after a problem, so that nobody takes the outputs for undefined.
    problems_.guard(where, [&] {
        for (int i = 0; i < proto.output_size(); ++i) {
            if (proto.output(i).empty()) continue;
            define(scope, proto.output(i),
                   static_cast<std::size_t>(i) < outputs.size()
                       ? outputs[static_cast<std::size_t>(i)]
                       : Slot{});
        }
    });
}

const pb::FunctionProto* Loader::find_function(const pb::NodeProto& node) const {
    const auto found =
        functions_.find(function_key(node.domain(), node.op_type(), node.overload()));
    return found == functions_.end() ? nullptr : found->second;
}

std::vector<Slot> Loader::outputs_of_node(NodeReader& node) {
    const pb::NodeProto& proto = node.proto();
    if (const auto* function = find_function(proto)) return call_function(node, *function);

    const std::string domain = normal_domain(proto.domain());
    const auto opset = node.scope().opsets.find(domain);
    if (opset == node.scope().opsets.end())
        fail_broken(fmt::format("domain '{}' is not imported", domain));
    node.set_opset(opset->second);
    check_stamp(domain, proto.op_type(), opset->second);
    std::vector<Slot> outputs;
    if (domain.empty() && proto.op_type() == "Constant")
        outputs = import_constant(node);
    else if (domain.empty() && proto.op_type() == "If")
        outputs = import_if(node);
    else if (domain.empty() && proto.op_type() == "Loop")
        outputs = import_loop(node);
    else if (domain.empty() && proto.op_type() == "Scan")
        outputs = import_scan(node);
    else
        outputs = import_by_table(node);
    node.check_all_read();
    for (std::size_t i = outputs.size(); i < node.output_count(); ++i)
        if (node.wants_output(i)) fail_unsupported(fmt::format("output {} is not supported", i));
    for (Slot& slot : outputs)
        if (slot.state == Slot::State::Known)
            slot.value = folding_.settle(node.graph(), slot.value);
    return outputs;
}

std::vector<Slot> Loader::import_by_table(NodeReader& node) {
    const std::string domain = normal_domain(node.proto().domain());
    const ImportRow& row = find_row(domain, node.op_type(), node.opset());
    int narrow = 0;
    for (std::size_t i = 0; i < node.input_count(); ++i)
        narrow = std::max(narrow, node.slot(i).narrow_bits);
    const Narrow use = narrow > 0 ? narrow_use(domain, node.op_type()) : Narrow::Widened;
    if (use == Narrow::Refused) fail_unsupported(fmt::format("operands of {} bits", narrow));
    std::vector<Slot> result;
    for (const Var& output : row.import(node)) {
        // An unwanted output may be any Var, even an empty one.
        if (output.graph == nullptr)
            result.push_back({Slot::State::Absent});
        else
            result.push_back(
                {Slot::State::Known, output.value, use == Narrow::Passed ? narrow : 0});
    }
    return result;
}

std::vector<Slot> Loader::import_constant(NodeReader& node) {
    Graph& graph = node.graph();
    if (node.proto().attribute_size() != 1)
        fail_broken(
            fmt::format("it has {} attributes, one is needed", node.proto().attribute_size()));
    int bits = 0;
    Tensor tensor;
    if (const auto* value = node.attribute("value")) {
        if (!value->has_t()) fail_broken("attribute 'value' is no tensor");
        tensor = weights_.take(value->t());
        bits = element_type(value->t().data_type())->bits;
    } else if (node.has_attr("value_float")) {
        tensor = Tensor::scalar(static_cast<float>(node.attr_float("value_float", 0)));
    } else if (node.has_attr("value_int")) {
        tensor = Tensor::scalar(node.attr_int("value_int"));
    } else if (const auto floats = node.attr_floats("value_floats")) {
        const std::vector<float> values(floats->begin(), floats->end());
        tensor = Tensor::from_span<float>({static_cast<std::int64_t>(values.size())}, values);
    } else if (const auto ints = node.attr_ints("value_ints")) {
        tensor = Tensor::from_span<std::int64_t>({static_cast<std::int64_t>(ints->size())}, *ints);
    } else {
        return {};
    }
    const std::string name = node.wants_output(0) ? node.proto().output(0) : "";
    return {{Slot::State::Known, folding_.constant(graph, std::move(tensor), name),
             bits < 8 ? bits : 0}};
}

// ---- functions ----

std::vector<Slot> Loader::call_function(NodeReader& node, const pb::FunctionProto& function) {
    if (std::find(call_stack_.begin(), call_stack_.end(), &function) != call_stack_.end())
        fail_broken(fmt::format("function '{}' calls itself", function.name()));
    if (node.scope().depth >= max_depth)
        fail_unsupported(fmt::format("nested deeper than {} levels", max_depth));
    if (node.input_count() > static_cast<std::size_t>(function.input_size()))
        fail_broken(fmt::format("{} inputs for a function of {}", node.input_count(),
                                function.input_size()));
    if (node.output_count() > static_cast<std::size_t>(function.output_size()))
        fail_broken(fmt::format("{} outputs of a function of {}", node.output_count(),
                                function.output_size()));

    AttributeBindings attributes;
    for (const std::string& name : function.attribute()) attributes[name] = nullptr;
    for (const auto& attribute : function.attribute_proto())
        attributes[attribute.name()] = &attribute;
    for (const auto& [name, attribute] : node.attributes()) attributes[name] = attribute;
    std::unordered_map<std::string, std::int64_t> opsets;
    for (const auto& opset : function.opset_import())
        opsets[normal_domain(opset.domain())] = opset.version();

    Scope scope{node.graph(), nullptr,           opsets,
                &attributes,  node.name() + "/", node.scope().depth + 1};
    for (int i = 0; i < function.input_size(); ++i) {
        const auto k = static_cast<std::size_t>(i);
        const Slot slot = k < node.input_count() ? node.slot(k) : Slot{Slot::State::Absent};
        if (!scope.names.emplace(function.input(i), slot).second)
            fail_broken(fmt::format("function '{}' has two inputs '{}'", function.name(),
                                    function.input(i)));
    }
    call_stack_.push_back(&function);
    import_nodes(scope, function.node());
    call_stack_.pop_back();
    node.graph().set_origins({node.name()});

    std::vector<Slot> outputs;
    for (std::size_t i = 0; i < node.output_count(); ++i) {
        const std::string& name = function.output(static_cast<int>(i));
        const auto slot = resolve(scope, name);
        if (!slot && node.wants_output(i))
            fail_broken(fmt::format("function '{}' does not define its output '{}'",
                                    function.name(), name));
        outputs.push_back(slot.value_or(Slot{}));
    }
    return outputs;
}

// ---- run-time values ----

std::vector<Dim> Loader::read_dims(Graph& graph, Value value, std::int64_t minimum) {
    const auto key = std::make_tuple(static_cast<const Graph*>(&graph), value.index, minimum);
    const auto found = dims_read_.find(key);
    if (found != dims_read_.end()) return found->second;
    const std::int64_t count = checked_size(graph.shape(value).to_ints());
    if (count > max_dims_read) fail_unsupported(fmt::format("{} sizes decided at run time", count));
    const auto partial = partial_dims(graph, value);
    op::ReadDims read{value, {}, minimum};
    std::vector<Dim> dims;
    for (std::int64_t i = 0; i < count; ++i) {
        read.symbols.push_back(graph.fresh_symbol("size"));
        const auto known = partial ? (*partial)[static_cast<std::size_t>(i)] : std::nullopt;
        dims.push_back(known.value_or(Dim::symbol(read.symbols.back())));
    }
    (void)graph.add(std::move(read));
    dims_read_.emplace(key, dims);
    return dims;
}

void Loader::needs_value(const Graph& graph, Value value, const std::string& what) {
    std::set<std::uint32_t> seen;
    std::vector<Value> todo = {value};
    std::vector<std::string> inputs;
    std::string list;
    while (!todo.empty()) {
        const Value next = todo.back();
        todo.pop_back();
        if (!seen.insert(next.index).second) continue;
        const auto* input = graph.get_if<op::Input>(next);
        if (input != nullptr && &graph == &graph_) {
            inputs.push_back(input->name);
            list += fmt::format("{}'{}'", list.empty() ? "" : ", ", input->name);
        }
        for (const Value& operand : inputs_of(graph[next].operation)) todo.push_back(operand);
    }
    const std::string reason = what + " must be known at load time";
    if (inputs.empty()) fail_unsupported(reason);
    throw Failure{
        Kind::Unsupported,
        fmt::format("{}; it depends on input {} (LoadOptions::values can fix it)", reason, list),
        inputs};
}

}  // namespace kn::onnx
