// Graphs for people: one line a node, and Graphviz.
#include <kn/graph/graph.h>

#include "ir/fields.h"

namespace kn {

namespace {

std::string types_text(const Node& node) {
    std::string out;
    for (const Type& type : node.results) out += (out.empty() ? "" : ", ") + detail::text_of(type);
    return out;
}

std::string origins_text(const Node& node) {
    std::string out;
    for (const std::string& origin : node.origins)
        out += (out.empty() ? "" : ", ") + printable(origin);
    return out;
}

void bodies_of(const Operation& operation,
               const std::function<void(const char*, const Graph&)>& visit) {
    detail::visit_fields(
        [&](const char* name, const auto& field) {
            if constexpr (std::is_same_v<std::decay_t<decltype(field)>,
                                         std::shared_ptr<const Graph>>)
                visit(name, *field);
        },
        operation);
}

void print(const Graph& graph, const std::string& indent, std::string& out) {
    for (const Value& value : graph.live()) {
        const Node& node = graph[value];
        const std::string origins = origins_text(node);
        out += indent + "%" + std::to_string(value.index) + " = " + to_string(node.operation) +
               " : " + types_text(node) + (origins.empty() ? "" : "  # " + origins) + "\n";
        bodies_of(node.operation, [&](const char* name, const Graph& body) {
            out += indent + "  " + name + ":\n";
            print(body, indent + "    ", out);
        });
    }
    for (const NamedValue& output : graph.outputs())
        out += indent + "output '" + printable(output.name) + "' = %" +
               std::to_string(output.value.index) + "\n";
    for (const Constraint& c : graph.constraints()) {
        const char* sign = c.kind == Constraint::Kind::Equal       ? " == "
                           : c.kind == Constraint::Kind::Broadcast ? " ~ "
                                                                   : " >= ";
        out += indent + "require " + c.a.to_string() + sign + c.b.to_string() + "  # " +
               printable(c.origin) + "\n";
    }
}

std::string escape(const std::string& text) {
    std::string out;
    for (const char c : text) {
        if (c == '"' || c == '\\') out += '\\';
        out += c;
    }
    return out;
}

// The fields that say something beside the arrows.
std::string label_of(const Node& node) {
    std::string out = std::string(name_of(node.operation));
    detail::visit_fields(
        [&](const char* name, const auto& field) {
            using T = std::decay_t<decltype(field)>;
            constexpr bool arrow = std::is_same_v<T, Value> ||
                                   std::is_same_v<T, std::optional<Value>> ||
                                   std::is_same_v<T, std::vector<Value>>;
            if constexpr (std::is_same_v<T, UnaryOp> || std::is_same_v<T, BinaryOp> ||
                          std::is_same_v<T, ReduceOp>)
                out = detail::text_of(field);
            else if constexpr (!arrow && !std::is_same_v<T, Shape> && !std::is_same_v<T, DType>)
                out += "\n" + std::string(name) + " " + detail::text_of(field);
        },
        node.operation);
    return out + "\n" + types_text(node);
}

const char* colour_of(const Operation& operation) {
    if (std::holds_alternative<op::Input>(operation)) return "#cfe8cf";
    if (std::holds_alternative<op::Constant>(operation)) return "#eeeeee";
    if (is_any_of<op::MatMul, op::Conv, op::ConvTranspose, op::Attention>(operation))
        return "#f7d7b5";
    return "#ffffff";
}

}  // namespace

std::string Graph::to_string() const {
    std::string out;
    print(*this, "", out);
    return out;
}

std::string Graph::to_dot() const {
    std::string out =
        "digraph kn {\n  node [shape=box, style=filled, fontname=\"Helvetica\", fontsize=10];\n";
    for (const Value& value : live()) {
        const Node& node = (*this)[value];
        const std::string id = "v" + std::to_string(value.index);
        std::string label = escape(label_of(node));
        for (std::size_t at; (at = label.find('\n')) != std::string::npos;)
            label.replace(at, 1, "\\n");
        out += "  " + id + " [label=\"" + label + "\", fillcolor=\"" + colour_of(node.operation) +
               "\", tooltip=\"" + escape(origins_text(node)) + "\"];\n";
        for (const Value& input : inputs_of(node.operation))
            out += "  v" + std::to_string(input.index) + " -> " + id + " [label=\"" +
                   escape(shape(input).to_string()) + "\", fontsize=8];\n";
    }
    for (std::size_t i = 0; i < outputs_.size(); i++) {
        const std::string id = "out" + std::to_string(i);
        out += "  " + id + " [label=\"" + escape(printable(outputs_[i].name)) +
               "\", fillcolor=\"#cfd8f0\"];\n  v" + std::to_string(outputs_[i].value.index) +
               " -> " + id + ";\n";
    }
    return out + "}\n";
}

}  // namespace kn
