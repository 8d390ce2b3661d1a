// Model, inputs and outputs.
#include "onnx/loader.h"

#include <algorithm>

#include <fmt/core.h>

namespace kn::onnx {

namespace {

constexpr std::int64_t max_stamp = 100000;  // beyond it no version is meant
constexpr std::size_t max_expansion = 20;   // nodes imported per node in the file
constexpr int max_inputs = 20000;
constexpr std::size_t min_budget = 100000;

std::size_t count_nodes(const google::protobuf::RepeatedPtrField<pb::NodeProto>& nodes) {
    std::size_t count = 0;
    for (const auto& node : nodes) {
        ++count;
        for (const auto& attribute : node.attribute())
            if (attribute.has_g()) count += count_nodes(attribute.g().node());
    }
    return count;
}

std::string list(const std::set<std::string>& names) {
    std::string text;
    for (const std::string& name : names) text += (text.empty() ? "" : ", ") + printable(name);
    return text.empty() ? "none" : text;
}

}  // namespace

Loader::Loader(const pb::ModelProto& model, const LoadOptions& options, ExternalReader external,
               LargeData large)
    : model_(model), options_(options), weights_(std::move(external), std::move(large), options) {
    std::size_t nodes = count_nodes(model.graph().node());
    for (const auto& function : model.functions()) nodes += count_nodes(function.node());
    nodes_left_ = std::max(min_budget, nodes * max_expansion);
}

void Loader::read_opsets() {
    for (const auto& opset : model_.opset_import()) {
        const std::string domain = normal_domain(opset.domain());
        problems_.guard("opset_import", [&] {
            if (opset.version() < 1 || opset.version() > max_stamp)
                fail_broken(fmt::format("version {} of domain '{}'", opset.version(), domain));
            if (!opsets_.emplace(domain, opset.version()).second)
                fail_broken(fmt::format("domain '{}' is imported twice", domain));
        });
    }
}

void Loader::read_functions() {
    for (const auto& function : model_.functions())
        problems_.guard(fmt::format("function '{}'", function.name()), [&] {
            if (!functions_
                     .emplace(function_key(function.domain(), function.name(), function.overload()),
                              &function)
                     .second)
                fail_broken("it is defined twice");
        });
}

void Loader::import_input(Scope& scope, const pb::ValueInfoProto& info) {
    const std::string& name = info.name();
    if (name.empty()) fail_broken("it has no name");
    if (!input_names_.insert(name).second) fail_broken("it is declared twice");
    const auto found = scope.names.find(name);
    if (found != scope.names.end()) {  // an initializer gives its value
        if (options_.values.count(name) > 0 || options_.input_shapes.count(name) > 0)
            throw GraphError(
                fmt::format("input '{}' has a default; LoadOptions::override_defaults "
                            "makes it an input that can be set",
                            printable(name)));
        return;
    }
    Slot& slot = scope.names[name];
    if (!info.has_type()) fail_broken("it has no type");
    if (info.type().value_case() != pb::TypeProto::kTensorType) fail_unsupported("it is no tensor");
    const auto& declared = info.type().tensor_type();
    const ElementType type = require_element_type(declared.elem_type());
    Shape shape;
    const auto given = options_.input_shapes.find(name);
    const auto value = options_.values.find(name);
    if (given != options_.input_shapes.end()) {
        shape = given->second;
        if (declared.has_shape() &&
            static_cast<std::size_t>(declared.shape().dim_size()) != shape.rank())
            throw GraphError(
                fmt::format("LoadOptions::input_shapes: input '{}' has rank {}, not {}",
                            printable(name), declared.shape().dim_size(), shape.rank()));
    } else if (declared.has_shape()) {
        shape = declared_shape(name, declared.shape());
    } else if (value != options_.values.end()) {
        shape = Shape::of(value->second.shape());
    } else {
        fail_unsupported("its shape is not given (LoadOptions::input_shapes can give it)");
    }
    for (const Dim& dim : shape) dim.collect_symbols(symbols_);
    shape = shape.substitute(options_.dims);
    try {
        slot = {Slot::State::Known, graph_.input(name, type.dtype, shape),
                type.bits < 8 ? type.bits : 0};
    } catch (const GraphError& error) {
        fail_broken(error.what());
    }
    if (value == options_.values.end()) return;
    const Tensor& tensor = value->second;
    bool fits = tensor.dtype() == type.dtype && tensor.rank() == shape.rank();
    for (std::size_t i = 0; fits && i < shape.rank(); ++i)
        fits = !shape[i].is_constant() || shape[i].value() == tensor.shape()[i];
    if (!fits)
        throw GraphError(fmt::format("LoadOptions::values: input '{}' is {}{}, not {}",
                                     printable(name), name_of(type.dtype), shape.to_string(),
                                     tensor.type_string()));
    slot.value = graph_.constant(tensor, name);
}

void Loader::import_inputs(Scope& scope) {
    const int inputs = model_.graph().input_size() - model_.graph().initializer_size();
    if (inputs > max_inputs) {
        problems_.add("graph", {Kind::Unsupported, fmt::format("it has {} inputs", inputs), {}});
        problems_.raise_if_any();
    }
    for (const auto& info : model_.graph().input()) {
        try {
            import_input(scope, info);
        } catch (const Failure& failure) {  // not GraphError: that is about the options
            problems_.add(fmt::format("input '{}'", info.name()), failure);
        }
    }
    // Overridden initializers that the file does not list as inputs.
    for (const auto& proto : model_.graph().initializer()) {
        if (scope.names.count(proto.name()) > 0) continue;
        problems_.guard(fmt::format("initializer '{}'", proto.name()), [&] {
            const ElementType type = require_element_type(proto.data_type());
            const Var input =
                graph_.input(proto.name(), type.dtype, Shape::of(checked_dims(proto)));
            scope.names[proto.name()] = {Slot::State::Known, input.value,
                                         type.bits < 8 ? type.bits : 0};
        });
    }
}

void Loader::check_options() const {
    std::set<std::string> initializers;
    for (const auto& proto : model_.graph().initializer()) initializers.insert(proto.name());
    const auto check = [](const char* option, const std::string& name,
                          const std::set<std::string>& known) {
        if (known.count(name) == 0)
            throw GraphError(fmt::format("LoadOptions::{} names '{}'; the model has: {}", option,
                                         printable(name), list(known)));
    };
    for (const auto& [name, shape] : options_.input_shapes)
        check("input_shapes", name, input_names_);
    for (const auto& [name, value] : options_.values) check("values", name, input_names_);
    for (const std::string& name : options_.override_defaults)
        check("override_defaults", name, initializers);
    for (const auto& [name, value] : options_.dims) check("dims", name, symbols_);
}

void Loader::import_outputs(Scope& scope) {
    if (model_.graph().output_size() == 0)
        problems_.add("graph", {Kind::BrokenFile, "it has no outputs", {}});
    for (const auto& info : model_.graph().output())
        problems_.guard(fmt::format("output '{}'", info.name()), [&] {
            if (info.name().empty()) fail_broken("it has no name");
            const auto slot = resolve(scope, info.name());
            if (!slot) fail_broken("no node makes it");
            if (slot->state == Slot::State::Known) graph_.output(info.name(), slot->value);
        });
}

Graph Loader::load() {
    if (!model_.has_graph()) problems_.add("", {Kind::BrokenFile, "the file has no graph", {}});
    problems_.raise_if_any();
    read_opsets();
    read_functions();
    Scope scope{graph_, nullptr, opsets_, nullptr, ""};
    import_initializers(scope, model_.graph());
    import_inputs(scope);
    check_options();
    import_nodes(scope, model_.graph().node());
    import_outputs(scope);
    problems_.raise_if_any();
    return std::move(graph_);
}

Shape declared_shape(const std::string& input, const pb::TensorShapeProto& proto) {
    Shape shape;
    for (int axis = 0; axis < proto.dim_size(); ++axis) {
        const auto& dim = proto.dim(axis);
        if (dim.value_case() == pb::TensorShapeProto::Dimension::kDimValue &&
            dim.dim_value() >= 0) {
            shape.push_back(dim.dim_value());
        } else if (dim.value_case() == pb::TensorShapeProto::Dimension::kDimValue &&
                   dim.dim_value() < -1) {
            fail_broken(fmt::format("dim {} is {}", axis, dim.dim_value()));
        } else if (!dim.dim_param().empty()) {
            shape.push_back(Dim::parse(dim.dim_param()));
        } else {
            shape.push_back(
                Dim::symbol(fmt::format("{}.{}", input, axis)));  // some writers give -1 for it
        }
    }
    return shape;
}

}  // namespace kn::onnx
