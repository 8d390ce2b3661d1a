#include "onnx/folding.h"

#include <set>
#include <string>

#include <kn/graph/cpu.h>

#include "ir/rewrite.h"
#include "ir/symbolic.h"

namespace kn::onnx {

namespace {

// Enough for every index, mask and size computation of real exports; weights are left to the
// optimizer.
constexpr std::int64_t max_elements = 4096;
constexpr std::int64_t max_constant_elements = 1 << 20;
constexpr std::size_t max_operations = 200;

bool is_small(const Type& type, std::int64_t limit) {
    if (!type.shape.is_static()) return false;
    std::int64_t count = 1;
    for (const Dim& dim : type.shape) {
        if (dim.value() == 0) return true;
        if (dim.value() > limit / count) return false;
        count *= dim.value();
    }
    return true;
}

Tensor to_tensor(const std::vector<Dim>& dims, const Type& type) {
    Ints values;
    for (const Dim& dim : dims) values.push_back(dim.value());
    return Tensor::from_span<std::int64_t>(type.shape.to_ints(), values).cast(type.dtype);
}

bool all_numbers(const std::vector<Dim>& dims) {
    for (const Dim& dim : dims)
        if (!dim.is_constant()) return false;
    return true;
}

}  // namespace

Value Folding::constant(Graph& graph, Tensor tensor, const std::string& name) {
    auto data =
        std::make_shared<ConstantData>(ConstantData{std::move(tensor), name, nullptr, false});
    own_.emplace(data.get(), data);
    return graph.constant(data);
}

bool Folding::is_constant(const Graph& graph, Value value) {
    std::vector<bool>& known = constant_[&graph];
    for (std::size_t i = known.size(); i <= value.index; ++i) {
        const kn::Node& node = graph[graph.value_at(i)];
        bool constant = !std::holds_alternative<op::Input>(node.operation) &&
                        !std::holds_alternative<op::If>(node.operation) &&
                        !std::holds_alternative<op::Loop>(node.operation);
        for (const Value& input : inputs_of(node.operation))
            constant = constant && known[input.index];
        known.push_back(constant && symbols_of(node).empty());
    }
    return known[value.index];
}

std::optional<Tensor> Folding::evaluate(const Graph& graph, Value value) {
    // What the value needs, operands first.
    std::set<std::uint32_t> needed;
    std::vector<Value> todo = {value};
    while (!todo.empty()) {
        const Value next = todo.back();
        todo.pop_back();
        if (!needed.insert(next.index).second) continue;
        const bool leaf = graph.get_if<op::Constant>(next) != nullptr;
        if (needed.size() > max_operations ||
            !is_small(graph.type(next), leaf ? max_constant_elements : max_elements))
            return {};
        for (const Value& input : inputs_of(graph[next].operation)) todo.push_back(input);
    }
    Graph part;
    std::unordered_map<std::uint32_t, Value> copies;
    for (const std::uint32_t index : needed) {
        const Value from = graph.value_at(index);
        if (const auto* leaf = graph.get_if<op::Constant>(from)) {
            const auto own = own_.find(leaf->data.get());
            if (own != own_.end()) own->second->frozen = true;
        }
        copies[index] = part.add(
            map_inputs(graph[from].operation, [&](Value v) { return copies.at(v.index); }));
    }
    part.output("value", copies.at(value.index));
    return cpu::run(part, {}, {.threads = 1}).at(0);
}

std::optional<Tensor> Folding::known_tensor(const Graph& graph, Value value) {
    if (const auto* constant = graph.get_if<op::Constant>(value)) {
        const auto own = own_.find(constant->data.get());
        if (own != own_.end()) own->second->frozen = true;
        return constant->data->tensor;
    }
    const Type& type = graph.type(value);
    if (!is_float(type.dtype) && is_small(type, max_elements))
        if (const auto dims = kn::known_dims(graph, value); dims && all_numbers(*dims))
            return to_tensor(*dims, type);
    if (is_constant(graph, value)) return evaluate(graph, value);
    return {};
}

std::optional<std::vector<Dim>> Folding::known_dims(const Graph& graph, Value value) {
    const Type& type = graph.type(value);
    if (!is_int(type.dtype) || !is_small(type, max_elements)) return {};
    if (auto dims = kn::known_dims(graph, value)) return dims;
    const auto tensor = known_tensor(graph, value);
    if (!tensor) return {};
    std::vector<Dim> dims;
    for (std::int64_t i = 0; i < tensor->size(); ++i) dims.emplace_back(tensor->int_at(i));
    return dims;
}

Value Folding::settle(Graph& graph, Value value) {
    if (graph.get_if<op::Constant>(value) || graph.get_if<op::ShapeValue>(value)) return value;
    const Type type = graph.type(value);
    if (is_float(type.dtype) || !is_small(type, max_elements)) return value;
    if (const auto dims = kn::known_dims(graph, value)) {
        if (all_numbers(*dims)) return graph.constant(to_tensor(*dims, type));
        if (type.dtype == DType::I64) return graph.add(op::ShapeValue{*dims, type.shape.to_ints()});
        return value;
    }
    if (!is_constant(graph, value)) return value;
    if (auto tensor = evaluate(graph, value)) return graph.constant(std::move(*tensor));
    return value;
}

}  // namespace kn::onnx
