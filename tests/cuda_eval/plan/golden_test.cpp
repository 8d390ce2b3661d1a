// Plans of a dozen networks as text, so that a change of plans is seen. After a wanted change:
//     KN_UPDATE_GOLDENS=1 build/release/bin/test_cuda_eval --gtest_filter='Goldens/*'
#include <fmt/core.h>

#include <regex>

#include <kn/cuda_sys/device.h>

#include "cuda_eval/plan/support.h"

namespace kn::test {

namespace {

struct Golden {
    const char* network;
    Precision precision;
};

void PrintTo(const Golden& golden, std::ostream* out) {
    *out << golden.network << " " << name_of(golden.precision);
}

std::string file_name(const Golden& golden) {
    return fmt::format("{}/plans/{}.{}.txt", KN_TEST_DATA, golden.network,
                       name_of(golden.precision));
}

// Kernels' grids are left out: they belong to code generation and have tests of their own.
std::string plan_text(const Golden& golden) {
    const auto graph = case_graph(std::string(KN_TEST_DATA) + "/zoo/" + golden.network);
    const cuda::Plan plan = cuda::plan(*graph, h200(), {.precision = golden.precision});
    for (const cuda::Decision& decision : plan.decisions)
        EXPECT_EQ(decision.reason.find('\n'), std::string::npos) << decision.reason;
    const std::string text =
        std::regex_replace(plan.to_string(), std::regex(" grid [0-9x]+ block [0-9x]+,"), "");
    return fmt::format("cuDNN {}\n{}", cuda::versions().cudnn, text);
}

class Goldens : public testing::TestWithParam<Golden> {};

TEST_P(Goldens, PlanIsAsBefore) {
    const std::string path = file_name(GetParam()), got = plan_text(GetParam());
    if (std::getenv("KN_UPDATE_GOLDENS")) {
        std::ofstream(path) << got;
        GTEST_SKIP() << "written: " << path;
    }
    std::ifstream file(path);
    ASSERT_TRUE(file) << path << " is missing; KN_UPDATE_GOLDENS=1 writes it";
    const std::string expected(std::istreambuf_iterator<char>(file), {});
    if (expected.substr(0, expected.find('\n')) != got.substr(0, got.find('\n')))
        GTEST_SKIP() << "workspaces differ: the golden is of "
                     << expected.substr(0, expected.find('\n'));
    EXPECT_EQ(expected, got) << "KN_UPDATE_GOLDENS=1 accepts the change";
}

INSTANTIATE_TEST_SUITE_P(
    , Goldens,
    testing::Values(
        Golden{"timm_test_resnet-script", Precision::F16},
        Golden{"timm_test_resnet-script", Precision::F32},
        Golden{"board_tower_se-script", Precision::F16},
        Golden{"board_tower_se-script", Precision::TF32}, Golden{"bert-script", Precision::F16},
        Golden{"bert-script", Precision::F32}, Golden{"gpt2-dynamo", Precision::BF16},
        Golden{"llama-dynamo", Precision::F16}, Golden{"sd_unet-dynamo", Precision::F16},
        Golden{"vae_decoder-dynamo", Precision::TF32}, Golden{"yolo_head-script", Precision::F16},
        Golden{"encodec-dynamo", Precision::F32}, Golden{"timm_densenet121-dynamo", Precision::F16},
        Golden{"whisper-dynamo", Precision::F16}),
    [](const auto& test) {
        std::string name = std::string(test.param.network) + "_" + name_of(test.param.precision);
        std::replace(name.begin(), name.end(), '-', '_');
        return name;
    });

}  // namespace

}  // namespace kn::test
