// kn run: outputs as .npy files, and a line about each.
#include <fmt/core.h>

#include "model.h"

namespace kn::tool {

int run(const RunArgs& args) {
    const NetworkOptions options = network_options(args.model);
    backend_for(options.device);
    Network network = Network::load(model_file(args.path), options);
    const auto inputs = make_inputs(network.info(), network.input_names(), args.path, args.model,
                                    args.inputs, args.data_set, args.seed);
    const std::vector<Tensor> outputs = network.run(inputs);
    if (!args.output.empty()) {
        std::error_code error;
        std::filesystem::create_directories(args.output, error);
        if (!std::filesystem::is_directory(args.output, error))
            throw UsageError(printable(args.output) + ": cannot be created");
    }
    for (std::size_t i = 0; i < outputs.size(); i++) {
        const std::string file = fmt::format("output_{}.npy", i);
        if (!args.output.empty()) write_npy(std::filesystem::path(args.output) / file, outputs[i]);
        fmt::print("{} {} {} {}\n", file, printable(network.output_names()[i]),
                   name_of(outputs[i].dtype()), Shape::of(outputs[i].shape()).to_string());
    }
    return done;
}

}  // namespace kn::tool
