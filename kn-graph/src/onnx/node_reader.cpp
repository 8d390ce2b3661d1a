#include "onnx/node_reader.h"

#include <algorithm>

#include <fmt/core.h>

namespace kn::onnx {

namespace {

using AttributeType = pb::AttributeProto::AttributeType;

/// Old files leave the type out: it is then what the fields say.
AttributeType type_of(const pb::AttributeProto& attribute) {
    if (attribute.has_type() && attribute.type() != pb::AttributeProto::UNDEFINED)
        return attribute.type();
    if (attribute.has_f()) return pb::AttributeProto::FLOAT;
    if (attribute.has_i()) return pb::AttributeProto::INT;
    if (attribute.has_s()) return pb::AttributeProto::STRING;
    if (attribute.has_t()) return pb::AttributeProto::TENSOR;
    if (attribute.has_g()) return pb::AttributeProto::GRAPH;
    if (attribute.floats_size() > 0) return pb::AttributeProto::FLOATS;
    if (attribute.ints_size() > 0) return pb::AttributeProto::INTS;
    if (attribute.strings_size() > 0) return pb::AttributeProto::STRINGS;
    return pb::AttributeProto::UNDEFINED;
}

bool is_list(AttributeType type) {
    return type == pb::AttributeProto::FLOATS || type == pb::AttributeProto::INTS ||
           type == pb::AttributeProto::STRINGS;
}

}  // namespace

NodeReader::NodeReader(Loader& loader, Scope& scope, const pb::NodeProto& proto, std::string name)
    : loader_(loader), scope_(scope), proto_(proto), name_(std::move(name)) {
    for (const auto& attribute : proto.attribute()) {
        const pb::AttributeProto* resolved = &attribute;
        if (!attribute.ref_attr_name().empty()) {
            if (scope.attributes == nullptr)
                fail_broken(fmt::format("attribute '{}' refers to '{}', but is in no function",
                                        attribute.name(), attribute.ref_attr_name()));
            const auto found = scope.attributes->find(attribute.ref_attr_name());
            if (found == scope.attributes->end())
                fail_broken(
                    fmt::format("attribute '{}' refers to '{}', which the function does not have",
                                attribute.name(), attribute.ref_attr_name()));
            resolved = found->second;
            if (resolved == nullptr) continue;
            if (type_of(*resolved) == pb::AttributeProto::GRAPH)
                fail_unsupported("a subgraph passed to a function");
        }
        if (find(attribute.name()) != nullptr)
            fail_broken(fmt::format("attribute '{}' is given twice", attribute.name()));
        attributes_.push_back({attribute.name(), resolved});
    }
    for (const std::string& input : proto.input()) {
        Slot slot{Slot::State::Absent};
        if (!input.empty()) {
            const auto found = loader.resolve(scope, input);
            if (!found)
                fail_broken(
                    fmt::format("input '{}' {}", input, loader.why_undefined(scope, input)));
            slot = *found;
        }
        inputs_.push_back(slot);
    }
    inputs_read_.resize(inputs_.size());
}

bool NodeReader::is_poisoned() const {
    return std::any_of(inputs_.begin(), inputs_.end(),
                       [](const Slot& slot) { return slot.state == Slot::State::Poisoned; });
}

// ---- inputs ----

bool NodeReader::has_input(std::size_t i) const {
    return i < inputs_.size() && inputs_[i].state == Slot::State::Known;
}

Var NodeReader::input(std::size_t i) {
    if (!has_input(i)) fail_broken(fmt::format("input {} is missing", i));
    inputs_read_[i] = true;
    return scope_.graph.var(inputs_[i].value);
}

std::optional<Var> NodeReader::optional_input(std::size_t i) {
    if (!has_input(i)) return {};
    return input(i);
}

std::vector<Var> NodeReader::all_inputs() {
    std::vector<Var> result;
    for (std::size_t i = 0; i < inputs_.size(); ++i) result.push_back(input(i));
    return result;
}

std::optional<Tensor> NodeReader::known_tensor(std::size_t i) {
    return loader_.folding().known_tensor(scope_.graph, input(i));
}

Var NodeReader::integer_vector(std::size_t i) {
    const Var value = input(i);
    if (!is_int(value.dtype()))
        fail_broken(fmt::format("input {} is {}, integers are needed", i, name_of(value.dtype())));
    if (value.rank() > 1)
        fail_broken(fmt::format("input {} has rank {}, a vector is needed", i, value.rank()));
    return value;
}

std::vector<Dim> NodeReader::input_dims(std::size_t i, std::int64_t minimum) {
    const Var value = integer_vector(i);
    if (auto dims = loader_.folding().known_dims(scope_.graph, value)) return *dims;
    if (!value.shape().is_static())
        fail_unsupported(fmt::format("input {} has {} elements; their number must be known", i,
                                     value.shape()[0].to_string()));
    return loader_.read_dims(scope_.graph, value, minimum);
}

std::optional<std::vector<Dim>> NodeReader::known_dims(std::size_t i) {
    return loader_.folding().known_dims(scope_.graph, integer_vector(i));
}

Ints NodeReader::input_ints(std::size_t i) {
    const Var value = integer_vector(i);
    const auto dims = loader_.folding().known_dims(scope_.graph, value);
    const std::string what = fmt::format("input {}", i);
    if (!dims) loader_.needs_value(scope_.graph, value, what);
    Ints result;
    for (const Dim& dim : *dims) {
        if (!dim.is_constant())
            fail_unsupported(fmt::format(
                "{} must be known at load time, but is {}; LoadOptions::dims can fix it", what,
                dim.to_string()));
        result.push_back(dim.value());
    }
    return result;
}

std::vector<double> NodeReader::input_floats(std::size_t i) {
    const Var value = input(i);
    if (!is_float(value.dtype()))
        fail_broken(
            fmt::format("input {} is {}, a float type is needed", i, name_of(value.dtype())));
    if (value.rank() > 1)
        fail_broken(fmt::format("input {} has rank {}, a vector is needed", i, value.rank()));
    const auto tensor = loader_.folding().known_tensor(scope_.graph, value);
    if (!tensor) loader_.needs_value(scope_.graph, value, fmt::format("input {}", i));
    std::vector<double> result;
    for (std::int64_t k = 0; k < tensor->size(); ++k) result.push_back(tensor->at(k));
    return result;
}

// ---- attributes ----

NodeReader::Attribute* NodeReader::find(const std::string& attribute) {
    for (Attribute& candidate : attributes_)
        if (candidate.name == attribute) return &candidate;
    return nullptr;
}

const pb::AttributeProto* NodeReader::attribute(const std::string& attribute) {
    Attribute* found = find(attribute);
    if (found == nullptr) return nullptr;
    found->read = true;
    return found->proto;
}

const pb::AttributeProto* NodeReader::typed(const std::string& name, AttributeType type) {
    const pb::AttributeProto* found = attribute(name);
    if (found == nullptr) return nullptr;
    const AttributeType actual = type_of(*found);
    if (actual == pb::AttributeProto::UNDEFINED && is_list(type)) return found;  // an empty list
    if (actual != type)
        fail_broken(fmt::format("attribute '{}' is of type {}, {} is needed", name,
                                pb::AttributeProto::AttributeType_Name(actual),
                                pb::AttributeProto::AttributeType_Name(type)));
    return found;
}

bool NodeReader::has_attr(const std::string& attribute) { return find(attribute) != nullptr; }

std::int64_t NodeReader::attr_int(const std::string& attribute) {
    const auto* found = typed(attribute, pb::AttributeProto::INT);
    if (found == nullptr) fail_broken(fmt::format("attribute '{}' is missing", attribute));
    return found->i();
}

std::int64_t NodeReader::attr_int(const std::string& attribute, std::int64_t otherwise) {
    const auto* found = typed(attribute, pb::AttributeProto::INT);
    return found == nullptr ? otherwise : found->i();
}

double NodeReader::attr_float(const std::string& attribute, double otherwise) {
    const auto* found = typed(attribute, pb::AttributeProto::FLOAT);
    return found == nullptr ? otherwise : static_cast<double>(found->f());
}

std::string NodeReader::attr_string(const std::string& attribute, const std::string& otherwise) {
    const auto* found = typed(attribute, pb::AttributeProto::STRING);
    return found == nullptr ? otherwise : found->s();
}

std::optional<Ints> NodeReader::attr_ints(const std::string& attribute) {
    const auto* found = typed(attribute, pb::AttributeProto::INTS);
    if (found == nullptr) return {};
    return Ints(found->ints().begin(), found->ints().end());
}

std::optional<std::vector<double>> NodeReader::attr_floats(const std::string& attribute) {
    const auto* found = typed(attribute, pb::AttributeProto::FLOATS);
    if (found == nullptr) return {};
    return std::vector<double>(found->floats().begin(), found->floats().end());
}

std::optional<std::vector<std::string>> NodeReader::attr_strings(const std::string& attribute) {
    const auto* found = typed(attribute, pb::AttributeProto::STRINGS);
    if (found == nullptr) return {};
    return std::vector<std::string>(found->strings().begin(), found->strings().end());
}

std::optional<Tensor> NodeReader::attr_tensor(const std::string& attribute) {
    const auto* found = typed(attribute, pb::AttributeProto::TENSOR);
    if (found == nullptr) return {};
    return loader_.weights().take(found->t());
}

std::optional<DType> NodeReader::attr_dtype(const std::string& attribute) {
    const auto* found = typed(attribute, pb::AttributeProto::INT);
    if (found == nullptr) return {};
    const ElementType type = require_element_type(found->i());
    if (type.bits < 8)
        fail_unsupported(fmt::format("{} {}", attribute, element_type_name(found->i())));
    return type.dtype;
}

void NodeReader::ignore_attr(const std::string& name) { (void)attribute(name); }

const pb::GraphProto& NodeReader::attr_graph(const std::string& attribute) {
    const auto* found = typed(attribute, pb::AttributeProto::GRAPH);
    if (found == nullptr || !found->has_g())
        fail_broken(fmt::format("attribute '{}' is missing", attribute));
    return found->g();
}

AttributeBindings NodeReader::attributes() const {
    AttributeBindings result;
    for (const Attribute& attribute : attributes_) result.emplace(attribute.name, attribute.proto);
    return result;
}

// ---- outputs and the rest ----

bool NodeReader::wants_output(std::size_t i) const {
    return i < output_count() && !proto_.output(static_cast<int>(i)).empty();
}

void NodeReader::check_all_read() const {
    std::string unread;
    const auto add = [&](const std::string& text) {
        unread += (unread.empty() ? "" : ", ") + text;
    };
    for (std::size_t i = 0; i < inputs_.size(); ++i)
        if (has_input(i) && !inputs_read_[i])
            add(fmt::format("input {} ('{}')", i, proto_.input(static_cast<int>(i))));
    for (const Attribute& attribute : attributes_)
        if (!attribute.read) add(fmt::format("attribute '{}'", attribute.name));
    if (!unread.empty())
        fail_unsupported(fmt::format("not supported at opset {}: {}", opset_, unread));
}

}  // namespace kn::onnx
