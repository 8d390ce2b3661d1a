// Graphs to plan: a device description, networks of the zoo at their recorded sizes.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>

#include <kn/cuda_eval/plan.h>
#include <kn/graph.h>
#include <kn/testing/print.h>

namespace kn::test {

/// The folder of test data: as built, or where KN_TEST_DATA says the tests have travelled.
inline std::string test_data() {
    const char* const moved = std::getenv("KN_TEST_DATA");
    return moved ? moved : KN_TEST_DATA;
}

inline cuda::DeviceProperties h200() {
    std::ifstream file(test_data() + "/h200.json");
    return cuda::device_properties_from_json({std::istreambuf_iterator<char>(file), {}});
}

/// A constant with seeded random elements.
inline Var weight(Graph& graph, Ints shape, DType dtype = DType::F32, std::uint64_t seed = 1) {
    Random random(seed);
    return graph.constant(random_tensor(DType::F32, std::move(shape), random).cast(dtype));
}

/// The names of a plan's steps.
inline std::vector<std::string> step_names(const cuda::Plan& plan) {
    std::vector<std::string> names;
    for (const auto& step : plan.steps) names.push_back(step.name);
    return names;
}

/// The reasons why a rule was not taken, one behind the other.
inline std::string refusals(const cuda::Plan& plan, std::string_view rule) {
    std::string reasons;
    for (const cuda::Decision& decision : plan.decisions)
        if (decision.rule == rule && !decision.taken) reasons += decision.reason;
    return reasons;
}

/// Ends a run as soon as its graph is known.
struct GraphSeen {};

/// Hands every graph that a Network would run on a GPU to `use`, static and optimised.
class GraphCatcher : public Backend {
  public:
    std::function<void(std::shared_ptr<const Graph>)> use;
    bool takes_symbols() const override { return false; }
    std::vector<Device> devices() const override { return {Device::cuda(0)}; }
    std::string why_unavailable() const override { return ""; }
    std::unique_ptr<Executable> prepare(std::shared_ptr<const Graph> graph,
                                        const BackendOptions&) override {
        use(std::move(graph));
        throw GraphSeen{};
    }
};

/// The graph that a case's recorded inputs of data set `set` lead to.
std::shared_ptr<const Graph> case_graph(const std::filesystem::path& folder, int set = 0);

/// Folders of the networks in tests/data/zoo, and in shared/zoo where that is there, sorted.
std::vector<std::filesystem::path> zoo_cases();

}  // namespace kn::test
