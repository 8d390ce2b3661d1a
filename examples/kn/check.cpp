// kn check: every problem of a model, a line each.
#include <fmt/core.h>

#include "model.h"

namespace kn::tool {

int check(const CheckArgs& args) {
    const NetworkOptions options = network_options(args.model);
    const std::filesystem::path file = model_file(args.path);
    const std::vector<std::string> problems = check_onnx(file, options.load);
    for (const std::string& problem : problems) fmt::print(stderr, "{}\n", problem);
    if (!problems.empty()) return failed;
    const OnnxInfo info = read_onnx_info(file);
    std::size_t nodes = 0;
    for (const auto& [name, count] : info.operators) nodes += count;
    fmt::print("{}: no problems; {} nodes, {} kinds of operators, {:.1f} MB of weights\n",
               printable(file.string()), nodes, info.operators.size(),
               static_cast<double>(info.weight_bytes) / 1e6);
    return done;
}

}  // namespace kn::tool
