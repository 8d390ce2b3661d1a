#include "cuda_eval/plan/support.h"

#include <algorithm>
#include <set>

namespace kn::test {

namespace fs = std::filesystem;

namespace {

// As `kn verify` does: by name where the recorded names are the model's, else by position.
std::map<std::string, Tensor> recorded_inputs(const fs::path& folder, const OnnxInfo& info) {
    std::vector<std::pair<std::string, Tensor>> recorded;
    for (int i = 0; fs::exists(folder / ("input_" + std::to_string(i) + ".pb")); i++) {
        std::string name;
        Tensor tensor = read_tensor_pb(folder / ("input_" + std::to_string(i) + ".pb"), &name);
        recorded.emplace_back(name, std::move(tensor));
    }
    std::set<std::string> names;
    for (const OnnxInfo::Port& port : info.inputs) names.insert(port.name);
    const bool by_name =
        std::ranges::all_of(recorded, [&](const auto& r) { return names.count(r.first) != 0; });
    std::map<std::string, Tensor> out;
    for (std::size_t i = 0; i < recorded.size(); i++)
        out.insert_or_assign(by_name ? recorded[i].first : info.inputs.at(i).name,
                             recorded[i].second);
    return out;
}

}  // namespace

std::shared_ptr<const Graph> case_graph(const fs::path& folder, int set) {
    const auto catcher = std::make_shared<GraphCatcher>();
    std::shared_ptr<const Graph> graph;
    catcher->use = [&](std::shared_ptr<const Graph> g) { graph = std::move(g); };
    register_backend(Device::Kind::Cuda, catcher);
    try {
        auto net = Network::load(folder / "model.onnx", {.device = Device::cuda(0)});
        net.run(recorded_inputs(folder / ("test_data_set_" + std::to_string(set)), net.info()));
    } catch (const GraphSeen&) {
    }
    return graph;
}

std::vector<fs::path> zoo_cases() {
    std::vector<fs::path> out;
    const fs::path data = KN_TEST_DATA;
    for (const fs::path& zoo : {data / "zoo", data / "../../../shared/zoo"}) {
        std::error_code error;
        for (const auto& entry : fs::directory_iterator(zoo, error))
            if (fs::exists(entry.path() / "model.onnx")) out.push_back(entry.path());
    }
    std::ranges::sort(out, {}, [](const fs::path& path) { return path.filename(); });
    out.erase(
        std::unique(out.begin(), out.end(),
                    [](const auto& a, const auto& b) { return a.filename() == b.filename(); }),
        out.end());
    return out;
}

}  // namespace kn::test
