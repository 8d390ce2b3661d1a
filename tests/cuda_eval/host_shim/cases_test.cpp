// Recorded cases through plans on the host: those of tests/data/zoo. With
// KN_CASES=FOLDER[:FOLDER...] (folders of cases, or cases) it runs those instead, KN_ONLY=TEXT
// those whose name has the text, KN_MUST=FILE only the listed ones, KN_PRECISION=f16 in that
// precision, KN_SHARD=I/N one part; KN_DIVERGENCE=1 names the first step that differs from the CPU.
#include <algorithm>
#include <cstdlib>
#include <set>

#include <nlohmann/json.hpp>

#include <kn/graph.h>
#include <kn/testing/compare.h>

#include "cuda_eval/plan/support.h"
#include "host_backend.h"

namespace {

namespace fs = std::filesystem;

std::string variable(const char* name) {
    const char* value = std::getenv(name);
    return value ? value : "";
}

std::vector<fs::path> find_cases(const std::string& folders) {
    std::vector<fs::path> cases;
    for (std::size_t at = 0; at < folders.size();) {
        const auto end = std::min(folders.find(':', at), folders.size());
        const fs::path folder = folders.substr(at, end - at);
        at = end + 1;
        if (fs::exists(folder / "model.onnx")) {
            cases.push_back(folder);
            continue;
        }
        for (const auto& entry : fs::directory_iterator(folder))
            if (fs::exists(entry.path() / "model.onnx")) cases.push_back(entry.path());
    }
    std::sort(cases.begin(), cases.end());
    const std::string only = variable("KN_ONLY"), list = variable("KN_MUST");
    std::set<std::string> must;
    if (!list.empty()) {
        std::ifstream file(list);
        for (std::string line; std::getline(file, line);) must.insert(line);
    }
    std::erase_if(cases, [&](const fs::path& path) {
        const std::string name = path.filename().string();
        return name.find(only) == std::string::npos || (!must.empty() && must.count(name) == 0);
    });
    if (const std::string shard = variable("KN_SHARD"); !shard.empty()) {
        const auto part = static_cast<std::size_t>(std::stoi(shard));
        const auto count = static_cast<std::size_t>(std::stoi(shard.substr(shard.find('/') + 1)));
        std::vector<fs::path> own;
        for (std::size_t i = part; i < cases.size(); i += count) own.push_back(cases[i]);
        cases = own;
    }
    return cases;
}

std::vector<std::pair<std::string, kn::Tensor>> recorded(const fs::path& set, const char* kind) {
    std::vector<std::pair<std::string, kn::Tensor>> result;
    for (int i = 0;; ++i) {
        const fs::path file = set / (std::string(kind) + "_" + std::to_string(i) + ".pb");
        if (!fs::exists(file)) return result;
        std::string name;
        kn::Tensor tensor = kn::read_tensor_pb(file, &name);
        result.emplace_back(name, std::move(tensor));
    }
}

/// The case's own in an index.json beside it, else the dtype's.
kn::testing::Tolerance tolerance_of(const fs::path& folder, kn::DType dtype) {
    std::ifstream file(folder.parent_path() / "index.json");
    const auto index = nlohmann::json::parse(file, nullptr, false);
    const std::string name = folder.filename().string();
    if (index.is_object() && index.contains(name) && index[name].contains("tolerance")) {
        const auto& own = index[name]["tolerance"];
        return {own.value("rtol", 0.0), own.value("atol_of_peak", 0.0)};
    }
    return kn::testing::default_tolerance(dtype);
}

/// "": passed; else why not.
std::string run_case(const fs::path& folder) {
    const std::string wanted = variable("KN_PRECISION");
    const kn::Precision precision = wanted == "f16"    ? kn::Precision::F16
                                    : wanted == "bf16" ? kn::Precision::BF16
                                    : wanted == "tf32" ? kn::Precision::TF32
                                                       : kn::Precision::F32;
    auto net = kn::Network::load(folder / "model.onnx",
                                 {.device = kn::Device::cuda(0), .precision = precision});
    const kn::OnnxInfo info = net.info();
    for (int s = 0;; ++s) {
        const fs::path set = folder / ("test_data_set_" + std::to_string(s));
        if (!fs::exists(set)) return s == 0 ? "no data set" : "";
        const auto inputs = recorded(set, "input"), outputs = recorded(set, "output");
        std::set<std::string> names;
        for (const auto& port : info.inputs) names.insert(port.name);
        const bool by_name = std::all_of(inputs.begin(), inputs.end(), [&](const auto& input) {
            return names.count(input.first) != 0;
        });
        std::map<std::string, kn::Tensor> arguments;
        for (std::size_t i = 0; i < inputs.size(); ++i)
            arguments.insert_or_assign(by_name ? inputs[i].first : info.inputs.at(i).name,
                                       inputs[i].second);
        const auto got = net.run(arguments);
        for (std::size_t i = 0; i < got.size() && i < outputs.size(); ++i) {
            kn::testing::Tolerance tolerance = tolerance_of(folder, outputs[i].second.dtype());
            if (precision != kn::Precision::F32)
                tolerance =
                    kn::testing::looser(tolerance, kn::testing::default_tolerance(precision));
            const auto difference = kn::testing::compare(got[i], outputs[i].second, tolerance);
            if (!difference.equal) return "output " + std::to_string(i) + ": " + difference.message;
        }
    }
}

}  // namespace

TEST(HostShim, Cases) {
    std::string folders = variable("KN_CASES");
    if (folders.empty()) folders = std::string(KN_TEST_DATA) + "/zoo";
    kn::register_backend(kn::Device::Kind::Cuda,
                         std::make_shared<kn::cuda::HostBackend>(kn::test::h200()));
    int passed = 0, failed = 0, refused = 0;
    for (const fs::path& folder : find_cases(folders)) {
        std::string why;
        try {
            why = run_case(folder);
        } catch (const std::exception& error) {
            why = error.what();
        }
        std::replace(why.begin(), why.end(), '\n', ';');
        const bool no_plan = why.starts_with("no GPU plan") || why.starts_with("a plan needs");
        std::printf("%s %s %.1500s\n",
                    why.empty() ? "PASS"
                    : no_plan   ? "REFUSED"
                                : "FAIL",
                    folder.filename().c_str(), why.c_str());
        std::fflush(stdout);
        ++(why.empty() ? passed : no_plan ? refused : failed);
    }
    std::printf("%d passed, %d failed, %d refused\n", passed, failed, refused);
    EXPECT_EQ(failed, 0) << "repeat one with KN_ONLY=NAME KN_DIVERGENCE=1";
    EXPECT_GE(passed, 1);
}
