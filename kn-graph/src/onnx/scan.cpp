// Scan as a Loop that picks the elements of its scanned inputs by the iteration's number.
#include <fmt/core.h>

#include "onnx/control.h"

namespace kn::onnx {

namespace {

constexpr std::int64_t first_opset = 9;  // before, Scan had a batch axis

/// One entry per scanned value, 0 where the attribute is not given.
Ints entries(NodeReader& node, const char* name, std::size_t count) {
    const Ints given = node.attr_ints(name).value_or(Ints{});
    if (given.empty()) return Ints(count, 0);
    if (given.size() != count)
        fail_broken(
            fmt::format("attribute '{}' has {} entries, {} are needed", name, given.size(), count));
    return given;
}

/// Moves axis 0 to `axis`.
Var move_first_axis(Var x, std::size_t axis) {
    Ints perm;
    for (std::size_t i = 1; i < x.rank(); ++i) perm.push_back(static_cast<std::int64_t>(i));
    perm.insert(perm.begin() + static_cast<std::ptrdiff_t>(axis), 0);
    return permute(x, perm);
}

}  // namespace

std::vector<Slot> Loader::import_scan(NodeReader& node) {
    if (node.opset() < first_opset)
        fail_unsupported(fmt::format("not supported before opset {}", first_opset));
    Graph& graph = node.graph();
    const pb::GraphProto& proto = node.attr_graph("body");
    const std::int64_t declared = node.attr_int("num_scan_inputs");
    if (declared < 1 || declared > static_cast<std::int64_t>(node.input_count()))
        fail_broken(
            fmt::format("num_scan_inputs is {} for {} inputs", declared, node.input_count()));
    const auto scans = static_cast<std::size_t>(declared);
    const std::size_t states = node.input_count() - scans;
    if (static_cast<std::size_t>(proto.input_size()) != node.input_count())
        fail_broken(fmt::format("the body has {} inputs, {} are passed", proto.input_size(),
                                node.input_count()));
    if (static_cast<std::size_t>(proto.output_size()) < std::max(states, node.output_count()))
        fail_broken(fmt::format("the body has {} outputs, {} are needed", proto.output_size(),
                                std::max(states, node.output_count())));
    const std::size_t scanned = static_cast<std::size_t>(proto.output_size()) - states;
    const Ints in_axes = entries(node, "scan_input_axes", scans),
               in_reverse = entries(node, "scan_input_directions", scans);
    const Ints out_axes = entries(node, "scan_output_axes", scanned),
               out_reverse = entries(node, "scan_output_directions", scanned);

    std::vector<Value> carried;
    for (std::size_t i = 0; i < states; ++i) carried.push_back(node.input(i));
    std::vector<std::int64_t> axes;
    Dim count;
    for (std::size_t i = 0; i < scans; ++i) {
        const Var x = node.input(states + i);
        axes.push_back(
            static_cast<std::int64_t>(normalize_axis(in_axes[i], x.rank(), "scan_input_axes")));
        const Dim& size = x.shape()[static_cast<std::size_t>(axes[i])];
        if (i == 0)
            count = size;
        else
            graph.require_equal(count, size, "the scanned inputs are as long as each other");
    }

    LoopImporter importer(
        *this, node, proto, 0,
        [&](Scope& scope, Value iteration, Value, const std::vector<Value>& values) {
            Graph& inner = scope.graph;
            const auto bind = [&](std::size_t i, Slot slot) {
                if (!scope.names.emplace(proto.input(static_cast<int>(i)).name(), slot).second)
                    fail_broken(fmt::format("the body has two inputs '{}'",
                                            proto.input(static_cast<int>(i)).name()));
            };
            for (std::size_t i = 0; i < states; ++i) bind(i, {Slot::State::Known, values[i]});
            for (std::size_t i = 0; i < scans; ++i) {
                const Slot whole = capture(scope, node.slot(states + i));
                Var index = inner.var(iteration);
                if (in_reverse[i] != 0) index = scalar_dim(inner, count - 1) - index;
                bind(states + i,
                     {Slot::State::Known, gather(inner.var(whole.value), index, axes[i]),
                      whole.narrow_bits});
            }
        });
    auto body = importer.import(carried);
    if (!body) return poisoned(node);
    Graph& inner = *body->graph;
    inner.output("condition", inner.constant(Tensor::scalar(true)));
    for (std::size_t i = 0; i < states + scanned; ++i)
        inner.output(fmt::format("output {}", i), body->outputs[i].value);
    for (std::size_t i = 0; i < scanned; ++i)
        body->results.push_back(importer.stacked(*body, body->outputs[states + i], count));
    if (body->results.empty()) return {};
    const Value value = graph.add(op::Loop{scalar_dim(graph, count).value, std::nullopt, carried,
                                           body->captures, body->graph, body->results});
    std::vector<Slot> slots;
    for (std::size_t i = 0; i < node.output_count(); ++i) {
        Var result = graph.var(graph.result(value, i));
        if (i >= states) {
            if (out_reverse[i - states] != 0) result = flip(result, 0);
            result = move_first_axis(
                result, normalize_axis(out_axes[i - states], result.rank(), "scan_output_axes"));
        }
        slots.push_back({Slot::State::Known, result});
    }
    return slots;
}

}  // namespace kn::onnx
