// kn dump: a graph as text, Graphviz, SVG or JSON on stdout.
#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <memory>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "model.h"

namespace kn::tool {

namespace {

std::string to_json(const Graph& graph) {
    auto nodes = nlohmann::json::array();
    for (const Value& value : graph.live()) {
        const Node& node = graph[value];
        auto results = nlohmann::json::array();
        for (const Type& type : node.results) {
            auto shape = nlohmann::json::array();
            for (const Dim& dim : type.shape) {
                if (dim.is_constant())
                    shape.push_back(dim.value());
                else
                    shape.push_back(dim.to_string());
            }
            results.push_back({{"dtype", std::string(name_of(type.dtype))}, {"shape", shape}});
        }
        auto inputs = nlohmann::json::array();
        for (const Value& input : inputs_of(node.operation)) inputs.push_back(input.index);
        nodes.push_back({{"id", value.index},
                         {"operation", std::string(name_of(node.operation))},
                         {"text", to_string(node.operation)},
                         {"inputs", inputs},
                         {"results", results},
                         {"origins", node.origins}});
    }
    const auto ports = [](const std::vector<NamedValue>& list) {
        auto out = nlohmann::json::array();
        for (const NamedValue& port : list)
            out.push_back({{"name", port.name}, {"id", port.value.index}});
        return out;
    };
    const nlohmann::json out = {
        {"nodes", nodes}, {"inputs", ports(graph.inputs())}, {"outputs", ports(graph.outputs())}};
    return out.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

// Graphviz draws; it writes to our stdout itself.
void print_svg(const std::string& dot) {
    std::fflush(stdout);
    const std::unique_ptr<FILE, int (*)(FILE*)> pipe(::popen("dot -Tsvg", "w"), ::pclose);
    if (!pipe || std::system("command -v dot >/dev/null 2>&1") != 0)
        throw std::runtime_error("--format svg needs graphviz (the program dot)");
    std::fwrite(dot.data(), 1, dot.size(), pipe.get());
}

}  // namespace

int dump(const DumpArgs& args) {
    if (args.stage == "plan") {
        const std::string text = plan_text(args);
        if (args.format == "svg")
            print_svg(text);
        else
            fmt::print("{}", text);
        return done;
    }
    NetworkOptions options = network_options(args.model);
    const LoadOptions& load = options.load;
    Graph graph = load_onnx(model_file(args.path), load);
    if (args.stage == "optimized" && !args.model.raw) graph = optimize(graph);
    if (args.format == "text")
        fmt::print("{}", graph.to_string());
    else if (args.format == "dot")
        fmt::print("{}", graph.to_dot());
    else if (args.format == "json")
        fmt::print("{}", to_json(graph));
    else
        print_svg(graph.to_dot());
    return done;
}

}  // namespace kn::tool
