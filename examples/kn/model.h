// From the command line's words to a network and its inputs.
#pragma once

#include <filesystem>
#include <map>

#include "commands.h"
#include "timing.h"

namespace kn::tool {

Precision parse_precision(const std::string& text);
Device parse_device(const std::string& text);
Bindings parse_dims(const std::vector<std::string>& dims);
NetworkOptions network_options(const ModelFlags& flags);

/// The .onnx file of MODEL, which may be a case folder; throws UsageError if there is none.
std::filesystem::path model_file(const std::string& path);

/// The folders test_data_set_K of a case, in order of K; none for a lone file.
std::vector<std::filesystem::path> data_sets(const std::filesystem::path& case_folder);

/// input_I.pb or output_I.pb in order of I, each with the name recorded in it.
struct Recorded {
    std::string name;
    Tensor tensor;
};
std::vector<Recorded> read_recorded(const std::filesystem::path& data_set,
                                    const std::string& prefix);

/// Recorded inputs by the model's names: by name where the recorded names are the model's, else by
/// position.
std::map<std::string, Tensor> match_inputs(const OnnxInfo& info, std::vector<Recorded> recorded);

/// Inputs called `names`, for `run` and `bench`: given files, then recorded ones, then seeded
/// random ones.
std::map<std::string, Tensor> make_inputs(const OnnxInfo& info,
                                          const std::vector<std::string>& names,
                                          const std::string& path, const ModelFlags& flags,
                                          const std::vector<std::string>& given, int data_set,
                                          std::uint64_t seed);

/// A model bound to the sizes of its inputs: what a plan is made from.
struct StaticModel {
    Graph graph;                 // optimised, unless --raw
    std::vector<Tensor> inputs;  // in the order of graph.inputs()
    double load_ms = 0, optimize_ms = 0;
    std::vector<SetupLine> timings;
};
/// Inputs as make_inputs. Throws UsageError, OnnxError, GraphError.
StaticModel static_model(const std::string& path, const ModelFlags& flags,
                         const std::vector<std::string>& given = {}, int data_set = 0,
                         std::uint64_t seed = 0);

}  // namespace kn::tool
